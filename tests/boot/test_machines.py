"""The same image on machines that differ: GIC, exception level, memory, place."""

import pytest
import trees
from bench import IMAGE, NVME
from lib.machine import sha256
from rawboot import raw_options

pytestmark = pytest.mark.lg_feature("qemu")
VIRT = "virt,iommu=smmuv3"


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
    {"mem": "256M"}, {"mem": "8G"}, {"smp": "4"}, {"cpu": "cortex-a53"}, {"cpu": "max"},
], ids=str)
def test_size_and_cpu(boot, disk, options):
    booted = boot(**options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


# The boot protocol allows any address that is a multiple of 2 MiB.
@pytest.mark.parametrize("kernel", [0x4080_0000, 0x5A60_0000, 0x7FC0_0000 - 0x200_0000])
def test_any_load_address(boot, tmp_path, kernel):
    blob = trees.machine_tree(boot, bootargs="report=json")
    booted = boot(**raw_options(tmp_path, IMAGE, blob, kernel=kernel))
    assert booted.status == 0
    assert booted.device(NVME)["state"] == "bound"
