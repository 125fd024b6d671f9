"""Masters: with and without an IOMMU, passed through, absent, and caught."""

import pytest
from bench import EDU, EDU_STREAM, NVME, SMMU
from lib.machine import sha256

pytestmark = pytest.mark.lg_feature("virt")
UNMAPPED = 0xABC_D000


def test_without_an_iommu_dma_is_direct_and_edu_refuses(boot, disk):
    booted = boot(machine="virt,gic-version=3")
    nvme = booted.device(NVME)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    assert (nvme["state"], nvme["domain"], nvme["iommu"]) == ("bound", "none", None)
    assert booted.device(EDU)["state"] == "failed"
    # What it can reach is 28 bits wide, and no memory is there.
    assert "0xfffffff" in booted.reason(EDU)
    assert booted.records("iommu") == []


def test_passthrough_leaves_addresses_as_they_are(boot, disk):
    booted = boot(bootargs="iommu.passthrough=1")
    nvme = booted.device(NVME)
    assert (nvme["state"], nvme["domain"], nvme["iommu"]) == ("bound", "identity", SMMU)
    assert booted.digest() == sha256(disk)
    transfers = [dma for dma in booted.records("dma") if dma["device"] == NVME]
    assert transfers and all(dma["iova"] == dma["pa"] for dma in transfers)


def test_lazy_unmapping_verifies_every_master(boot, disk):
    booted = boot(bootargs="iommu.strict=0")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    masters = {dma["device"] for dma in booted.records("dma")}
    assert masters == {NVME, EDU}
    assert all(dma["ok"] for dma in booted.records("dma"))
    smmu = booted.records("iommu")[0]
    assert smmu["errors"] == 0


def test_a_fault_is_decoded(boot):
    booted = boot(run=f"dma read {EDU} {UNMAPPED:#x} 64")
    fault, = booted.records("fault")
    assert fault["event"] == "F_TRANSLATION"
    assert (fault["iommu"], fault["stream"]) == (SMMU, EDU_STREAM)
    assert (fault["device"], fault["driver"]) == (EDU, "edu")
    assert (fault["access"], fault["stage"]) == ("read", 1)
    assert fault["iova"] & ~0xFFF == UNMAPPED
    assert fault["count"] >= 1
    # On the console it is one line of words as well.
    assert any("F_TRANSLATION" in line and EDU in line and not line.startswith("@")
               for line in booted.lines)


def test_a_fault_disturbs_nobody_else(boot, disk):
    booted = boot(run=f"dma read {EDU} {UNMAPPED:#x} 64; dma verify; disk {NVME} hash")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


def test_nothing_is_reachable_after_unbind(boot):
    booted = boot(run=f"unbind {NVME}; ste {SMMU} 0x8; bind {NVME}; dma verify {NVME}")
    assert booted.status == 0
    entry, = booted.records("entry")
    assert (entry["stream"], entry["config"]) == (8, "abort")
    nvme = booted.device(NVME)
    assert (nvme["state"], nvme["domain"], nvme["probes"]) == ("bound", "dma", 2)


def test_no_nvme_proves_what_is_there(boot):
    booted = boot(devices=["edu"])
    assert booted.status == 0
    assert any("no disk" in line for line in booted.lines)
    assert [dma["device"] for dma in booted.records("dma")] == [EDU]


def test_no_master_at_all_fails_and_says_why(boot):
    booted = boot(devices=[])
    assert booted.status == 1
    assert any("no bus master" in line for line in booted.lines)
    assert booted.records("dma") == []
