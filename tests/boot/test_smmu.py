"""The SMMU's driver on real translations: its stages, and its state across a suspend."""

import pytest
from bench import EDU, NVME, SMMU
from lib.machine import sha256

pytestmark = pytest.mark.lg_feature("qemu")
MASTERS = (NVME, EDU)

# Later machine types ignore the choice of stages.
VIRT = "virt-9.1,iommu=smmuv3,gic-version=3"


def iommu(booted):
    """The last record of the SMMU."""
    return booted.records("iommu")[-1]


@pytest.mark.parametrize("stages, used", [
    ("1", "stage 1"), ("2", "stage 2"), ("nested", "stage 1 (stage 2 is not used)"),
])
def test_stages(boot, disk, stages, used):
    booted = boot(machine=VIRT, qemu_args=f"-global arm-smmuv3.stage={stages}")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    assert {proof["device"] for proof in booted.records("dma") if proof["ok"]} == set(MASTERS)
    assert used in iommu(booted)["features"]
    assert (iommu(booted)["events"], iommu(booted)["errors"]) == (0, 0)


@pytest.mark.parametrize("stage", ["1", "2"])
@pytest.mark.parametrize("granule", ["4k", "16k", "64k"])
def test_granules(boot, disk, granule, stage):
    booted = boot(
        machine=VIRT, bootargs=f"iommu.granule={granule}",
        qemu_args=f"-global arm-smmuv3.stage={stage}",
    )
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    assert f"pages of {granule[:-1]} KiB" in iommu(booted)["features"]
    size = int(granule[:-1]) << 10
    proofs = booted.records("dma")
    assert {proof["device"] for proof in proofs if proof["ok"]} == set(MASTERS)
    # Whole pages: the offset within one is the same on both sides.
    assert all(proof["iova"] % size == proof["pa"] % size for proof in proofs)


def test_scenario_27_the_same_mappings_after_a_suspend(boot, disk):
    again = "; ".join(["suspend", "resume", "dma verify"] * 3)
    booted = boot(run=f"{again}; disk {NVME} hash; iommu")
    assert booted.status == 0
    assert sha256(disk) in [record["sha256"] for record in booted.records("dma")]
    for master in MASTERS:
        proofs = [proof for proof in booted.records("dma") if proof["device"] == master]
        assert len(proofs) >= 3 and all(proof["ok"] for proof in proofs)
    assert (iommu(booted)["name"], iommu(booted)["events"], iommu(booted)["errors"]) == (SMMU, 0, 0)
    # Its masters were not attached anew.
    assert iommu(booted)["streams_attached"] == 2
