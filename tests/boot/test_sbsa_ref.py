"""sbsa-ref: another board, from its flash, with a tree of ours and memory above 1 TiB."""

import pytest
from lib.machine import sha256

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


def test_memory_that_is_claimed_and_not_there_is_said(boot):
    booted = boot(board="sbsa-ref", mem="512M")
    assert booted.status == 1
    assert any("no memory at 0x1003f" in line and "/memory" in line for line in booted.lines)
