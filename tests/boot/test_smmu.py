"""The SMMU's driver on real translations: its stages, and its state across a suspend."""

import pytest
from bench import EDU, NVME, SMMU
from lib.machine import sha256

pytestmark = pytest.mark.lg_feature("virt")
MASTERS = (NVME, EDU)

# Later machine types ignore the choice of stages.
VIRT = "virt-9.1,iommu=smmuv3,gic-version=3"


def iommu(booted):
    """The last record of the SMMU."""
    return booted.records("iommu")[-1]


@pytest.mark.parametrize("stages, used", [
    ("1", "stage 1"), ("2", "stage 2"), ("nested", "stage 1, on stage 2 where nested"),
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


def test_nested_spaces_go_through_both_stages(boot):
    spaces = ("nested-a", "nested-b", "a", "nested-b")
    own, walk = 0x300_0000, 0x100_0000
    there_and_back = "; ".join(f"space {EDU} attach {name}; space {EDU} read {own:#x}" for name in spaces)
    booted = boot(
        machine=VIRT, qemu_args="-global arm-smmuv3.stage=nested",
        bootargs="driver.override=00:02.0:edu-managed", run=(
            f"space {EDU} map {own:#x}; {there_and_back}; domains; ste {SMMU} 0x10; walk {EDU} {walk:#x}; "
            f"dma verify {EDU}; space {EDU} switch 20; space {EDU} unmap {own:#x}; space {EDU} read {own:#x}; iommu"
        ))
    assert booted.status == 0
    reads = [(space["read"], space["written"]) for space in booted.records("space") if space["op"] == "read"]
    assert reads == [*((name, name) for name in spaces), (None, reads[-1][1])]
    # Those that are nested in one are exchanged for each other without a gap.
    switched = [space for space in booted.records("space") if space["op"] == "switch"]
    assert len(switched) == 20 and {space["read"] for space in switched} <= {"nested-a", "nested-b"}
    assert sum(space["switches"] for space in switched) > 200
    managed = [domain for domain in booted.records("domain") if domain["domain"] == "managed"]
    assert [domain["members"] for domain in managed] == [[EDU]]
    fields = {field["name"]: field["value"]
              for part in booted.records("entry")[0]["parts"] for field in part["fields"]}
    assert booted.records("entry")[0]["config"] == "stage 1 and 2"
    assert (fields["Config"], fields["S2VMID"]) == (0b111, managed[0]["parent"])
    assert fields["ASID"] == managed[0]["tag"]
    levels = booted.records("walk")[0]["levels"]
    assert {level["stage"] for level in levels} == {1, 2}
    # What comes out of stage 1 is not where the memory is.
    above, below = ([level for level in levels if level["stage"] == stage][-1] for stage in (1, 2))
    assert above["meaning"].split(",")[0] != below["meaning"].split(",")[0]
    faults = {(fault["event"], fault["stage"]) for fault in booted.records("fault")}
    assert faults == {("F_TRANSLATION", 1)}
    assert iommu(booted)["errors"] == 0


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
