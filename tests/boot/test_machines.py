"""The same image on machines that differ: GIC, exception level, memory, place."""

import struct

import pytest
import trees
from bench import IMAGE, NVME
from lib.machine import sha256
from rawboot import raw_options

pytestmark = pytest.mark.lg_feature("qemu")
VIRT = "virt,iommu=smmuv3"
EL2 = f"{VIRT},gic-version=3,virtualization=on"


@pytest.mark.parametrize("machine, el", [
    (f"{VIRT},gic-version=2", 1),
    (f"{VIRT},gic-version=3,virtualization=on", 2),
    (f"{VIRT},gic-version=2,virtualization=on", 2),
    (f"{VIRT},gic-version=3,highmem=off", 1),
])
def test_machine(boot, disk, machine, el):
    booted = boot(machine=machine)
    assert booted.status == 0
    assert booted.boot()["el"] == el
    assert booted.digest() == sha256(disk)
    assert booted.device(NVME)["domain"] == "dma"


def test_without_message_signalled_interrupts(boot, disk):
    # edu insists on MSI in QEMU; the NVMe falls back to its pin.
    booted = boot(machine=f"{VIRT},gic-version=3,its=off", devices=["nvme"])
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


@pytest.mark.parametrize("options", [
    {"mem": "256M"}, {"mem": "4G"}, {"mem": "8G"}, {"smp": "4"}, {"cpu": "cortex-a53"},
    {"cpu": "cortex-a57"}, {"cpu": "neoverse-n1"}, {"cpu": "max"},
], ids=str)
def test_size_and_cpu(boot, disk, options):
    booted = boot(**options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


def test_64_gib(boot, disk):
    # The host need not have them: only what is touched becomes memory.
    memory = "-object memory-backend-ram,id=ram,size=64G,reserve=off"
    try:
        booted = boot(machine=f"{VIRT},gic-version=3,memory-backend=ram", mem="64G",
                      qemu_args=memory)
    except OSError as error:
        pytest.skip(f"QEMU does not start with 64 GiB here: {error}")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    free = [int(line.split("]")[1].split()[0]) for line in booted.lines if "MiB of memory free" in line]
    assert 64 << 10 > free[0] > 63 << 10


def test_memory_with_holes(boot, disk, tmp_path):
    # Two nodes, with 256 MiB between them and 256 MiB at the end that are no memory.
    overlay = tmp_path / "holes.dtso"
    overlay.write_text("""
        &{/memory@40000000} { reg = <0 0x40000000 0 0x10000000>; };
        &{/} { memory@60000000 { device_type = "memory"; reg = <0 0x60000000 0 0x10000000>; }; };
    """)
    blob = trees.tree.overlaid(trees.machine_tree(boot, bootargs="report=json"), [overlay])
    booted = boot(**raw_options(tmp_path, IMAGE, blob))
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    for proof in booted.records("dma"):
        at = int(str(proof["pa"]), 0)
        assert 0x4000_0000 <= at < 0x5000_0000 or 0x6000_0000 <= at < 0x7000_0000


# Every register whose reset value is unknown, and whose bits trap EL1: as if
# firmware had used them all (DDI 0487, "EL2 registers"). S3_4, CRn, CRm, op2.
TRAPS = {
    "MDCR_EL2": (1, 1, 1),
    "HFGRTR_EL2": (1, 1, 4),
    "HFGWTR_EL2": (1, 1, 5),
    "HFGITR_EL2": (1, 1, 6),
    "HDFGRTR_EL2": (3, 1, 4),
    "HDFGWTR_EL2": (3, 1, 5),
    "HCRX_EL2": (1, 2, 2),
}


@pytest.mark.parametrize("register", TRAPS)
def test_traps_that_firmware_left_on(boot, disk, tmp_path, register):
    crn, crm, op2 = TRAPS[register]
    blob = trees.machine_tree(boot, machine=EL2, cpu="max", bootargs="report=json")
    options = raw_options(tmp_path, IMAGE, blob)
    stub = tmp_path / "stub.bin"
    # movn x5, #0; msr <register>, x5
    poison = struct.pack("<2I", 0x9280_0005, 0xD51C_0005 | crn << 12 | crm << 8 | op2 << 5)
    stub.write_bytes(poison + stub.read_bytes())
    booted = boot(timeout=60, machine=EL2, cpu="max", **options)
    assert booted.status == 0
    assert booted.boot()["el"] == 2


# The boot protocol allows any address that is a multiple of 2 MiB.
@pytest.mark.parametrize("kernel", [0x4080_0000, 0x5A60_0000, 0x7FC0_0000 - 0x200_0000])
def test_any_load_address(boot, tmp_path, kernel):
    blob = trees.machine_tree(boot, bootargs="report=json")
    booted = boot(**raw_options(tmp_path, IMAGE, blob, kernel=kernel))
    assert booted.status == 0
    assert booted.device(NVME)["state"] == "bound"
