"""QEMU's iommu-testdev: a master whose transfer is over within one register read, so
what an IOMMU lets through is known without an interrupt and without waiting."""

import pytest
from bench import EDU, NVME, SMMU

pytestmark = [
    pytest.mark.lg_feature("qemu"),
    pytest.mark.least_qemu(11, "iommu-testdev"),
]
TESTDEV, STREAM = "/pcie@10000000/00:03.0", 0x18
# It is made after its IOMMU, for which it looks only then.
DEVICE = "-device iommu-testdev,bus=pcie.0,addr=3"
# Later machine types ignore the choice of stages.
VIRT = "virt-9.1,iommu=smmuv3,gic-version=3"
GICV3 = "virt,gic-version=3"
# Twice a page, to different memory.
BYTES, PAGE = 8192, 4096


def proofs(booted):
    """What it proved, each time."""
    return [proof for proof in booted.records("dma") if proof["device"] == TESTDEV]


def translated(booted):
    """Everything that it wrote arrived, elsewhere than it wrote to."""
    return proofs(booted) and all(
        proof["ok"] and proof["bytes"] == BYTES and proof["iova"] != proof["pa"]
        and proof["iova"] % PAGE == proof["pa"] % PAGE for proof in proofs(booted))


@pytest.mark.parametrize("stages", ["1", "2", "nested"])
def test_it_writes_through_each_stage(boot, stages):
    booted = boot(machine=VIRT, qemu_args=f"-global arm-smmuv3.stage={stages} {DEVICE}")
    assert booted.status == 0
    device = booted.device(TESTDEV)
    assert (device["driver"], device["state"]) == ("iommu-testdev", "bound")
    assert (device["iommu"], device["streams"], device["domain"]) == (SMMU, [STREAM], "dma")
    assert booted.waited(TESTDEV) == [SMMU] and device["probes"] == 1
    assert translated(booted)
    # The main job proves every master.
    assert {proof["device"] for proof in booted.records("dma")} >= {NVME, EDU, TESTDEV}
    iommu = booted.records("iommu")[-1]
    assert (iommu["streams_attached"], iommu["events"], iommu["errors"]) == (3, 0, 0)


@pytest.mark.parametrize("granule", ["16k", "64k"])
def test_it_writes_across_pages_of_any_size(boot, granule):
    booted = boot(bootargs=f"iommu.granule={granule}", qemu_args=DEVICE)
    assert booted.status == 0
    assert translated(booted)


def test_it_writes_through_a_virtio_iommu(boot):
    args = f"-device virtio-iommu-pci,bus=pcie.0,addr=5 {DEVICE}"
    booted = boot(machine=GICV3, qemu_args=args)
    assert booted.status == 0
    assert booted.device(TESTDEV)["iommu"] == "/pcie@10000000/00:05.0"
    assert translated(booted)


@pytest.mark.parametrize("machine, bootargs", [("virt", ""), (None, "iommu.passthrough=1")])
def test_without_translation_addresses_are_memory_s_own(boot, machine, bootargs):
    chosen = {"machine": machine} if machine else {}
    booted = boot(bootargs=bootargs, qemu_args=DEVICE, run=f"dma verify {TESTDEV}", **chosen)
    assert booted.status == 0
    proof, = proofs(booted)
    assert proof["ok"] and proof["iova"] == proof["pa"]


def test_no_translation_outlives_its_mapping(boot):
    # A round is two transfers to different memory at the same address. A translation of
    # the first that was still in use would send the second's bytes there, and the device
    # looks for them in memory, past the SMMU.
    rounds = "; ".join([f"dma verify {TESTDEV}"] * 64)
    binding = f"unbind {TESTDEV}; bind {TESTDEV}; suspend; resume"
    booted = boot(qemu_args=DEVICE, run=f"{rounds}; {binding}; {rounds}; iommu")
    assert booted.status == 0
    assert len(proofs(booted)) == 128 and translated(booted)
    # The same address, again and again.
    assert len({proof["iova"] for proof in proofs(booted)}) == 1
    iommu = booted.records("iommu")[-1]
    assert (iommu["streams_attached"], iommu["events"], iommu["errors"]) == (3, 0, 0)
