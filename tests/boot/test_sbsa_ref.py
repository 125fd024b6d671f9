"""sbsa-ref: another board, from its flash, with a tree of ours and memory above 1 TiB."""

import pytest
from lib.machine import sha256
from rawboot import before_flash

pytestmark = pytest.mark.lg_feature("qemu")
NVME, EDU = "/pcie@f0000000/00:02.0", "/pcie@f0000000/00:03.0"
SMMU = "/iommu@60050000"
RAM = 0x100_0000_0000


@pytest.mark.parametrize("options", [{}, {"cpu": "cortex-a57", "mem": "2G"}, {"cpu": "max"}], ids=str)
def test_main_job(boot, disk, options):
    booted = boot(board="sbsa-ref", smp="4", **options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    record = booted.boot()
    assert (record["board"], record["el"], record["parked"]) == ("sbsa-ref", 3, 3)
    for master in (NVME, EDU):
        device = booted.device(master)
        assert (device["state"], device["iommu"], device["domain"]) == ("bound", SMMU, "dma")
        assert device["probes"] == 1 and SMMU in booted.waited(master)
    assert all(proof["ok"] and proof["pa"] >= RAM for proof in booted.records("dma"))


def test_interrupts_arrive(boot):
    booted = boot(board="sbsa-ref", run="dma read 00:03.0 0x5000; dma verify 00:02.0; irqs")
    served = {record["device"] for record in booted.records("irq") if record["count"]}
    assert {NVME, SMMU} <= served


@pytest.mark.parametrize("mem", [
    512, pytest.param(1024, marks=pytest.mark.thorough), 2048,
    pytest.param(4096, marks=pytest.mark.thorough), 8192])
def test_all_memory_of_the_machine_is_used(boot, disk, mem):
    booted = boot(board="sbsa-ref", mem=f"{mem}M")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    line, = (line for line in booted.lines if "MiB of memory free" in line)
    # Without what image, tables and trees take.
    assert mem - 20 < int(line.split("]")[1].split()[0]) < mem
    # Where the machine has no more, nobody was given any. The other end is in use in any
    # case: what the frames are for is kept there, and a boot without it would crash.
    assert all(RAM <= proof["pa"] < RAM + (mem << 20) for proof in booted.records("dma"))


@pytest.mark.thorough
def test_memory_of_two_numa_nodes(boot, disk):
    nodes = "".join(f" -object memory-backend-ram,id=m{n},size=1G -numa node,nodeid={n},memdev=m{n}"
                    for n in range(2))
    booted = boot(board="sbsa-ref", mem="2G", qemu_args=nodes)
    assert booted.status == 0
    line, = (line for line in booted.lines if "MiB of memory free" in line)
    assert 2028 < int(line.split("]")[1].split()[0]) < 2048


def test_a_machine_that_left_no_tree_has_no_memory(boot, tmp_path):
    booted = boot(board="sbsa-ref", qemu_args=before_flash(tmp_path, RAM, stores=[(RAM, 0)]))
    assert booted.status == 1
    assert any("the machine's own tree" in line and f"{RAM:#x}" in line for line in booted.lines)
    assert any("no memory to work with" in line for line in booted.lines)
