"""From flash: entered at EL3, at address 0, with nothing set up and no boot loader."""

import struct

import pytest
from bench import NVME, SMMU
from lib import board, flash
from lib.common import Usage
from lib.machine import sha256
from rawboot import before_flash

pytestmark = pytest.mark.lg_feature("qemu")
VIRT = "virt,iommu=smmuv3,secure=on"


@pytest.mark.parametrize("options", [
    {},
    {"machine": f"{VIRT},virtualization=on,gic-version=2"},
    {"machine": f"{VIRT},gic-version=3"},
    pytest.param({"cpu": "cortex-a53"}, marks=pytest.mark.thorough),
    pytest.param({"cpu": "neoverse-n1"}, marks=pytest.mark.thorough),
    {"cpu": "max"},
], ids=str)
def test_main_job_from_reset(boot, disk, options):
    booted = boot(via="flash", smp="4", **options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    assert booted.device(NVME)["domain"] == "dma"
    record = booted.boot()
    # There is no PSCI to start the others with.
    assert (record["el"], record["cpus"], record["parked"]) == (3, 1, 3)
    assert any(line.endswith("no PSCI to start them: 3") for line in booted.lines)


@pytest.mark.parametrize("version", ["2", "3"])
def test_interrupts_are_the_non_secure_states(boot, version):
    machine = f"{VIRT},virtualization=on,gic-version={version}"
    # The disk's are messages, the SMMU's wired; the clock's, private to the CPU, end a sleep.
    booted = boot(via="flash", machine=machine,
                  run="sleep 50; dma read 00:02.0 0x5000; dma verify 00:01.0; irqs")
    served = {record["device"] for record in booted.records("irq") if record["count"]}
    assert {NVME, SMMU} <= served


@pytest.mark.parametrize("board, ram, hz", [
    ("qemu-virt", 0x4000_0000, 62_500_000), ("sbsa-ref", 0x100_0000_0000, 1_000_000_000)])
def test_the_boards_counter_frequency_where_there_is_none(boot, tmp_path, board, ram, hz):
    def lines_of(arguments=""):
        booted = boot(board=board, via="flash", run="uptime", qemu_args=arguments)
        assert booted.status == 0
        assert not any("tells the timer's frequency" in line for line in booted.lines)
        return [line for line in booted.lines if "CNTFRQ_EL0" in line]

    # QEMU has it there.
    assert lines_of() == []
    msr_cntfrq_xzr = struct.pack("<I", 0xD51B_E01F)
    line, = lines_of(before_flash(tmp_path, ram, msr_cntfrq_xzr))
    assert f"{hz} Hz" in line


def test_an_image_that_does_not_fit_its_flash_is_refused():
    recipe = board.recipe("qemu-virt")
    flash.pieces(recipe, bytes(recipe["flash"]["size"]))
    with pytest.raises(Usage, match=r"image of 0x4000001 bytes .* 0x4000000"):
        flash.pieces(recipe, bytes(recipe["flash"]["size"] + 1))
