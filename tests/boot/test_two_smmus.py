"""Two SMMUs, each with root bus and masters of its own: instances, not one set of
operations for a kind of bus. It takes a QEMU whose SMMUs are devices, and a tree of ours
(dts/two-smmus.dtso), since its own describes the first one only."""

import pytest
import trees
from bench import EDU, NVME
from conftest import make_disk
from lib.machine import sha256

pytestmark = [
    pytest.mark.lg_feature("qemu"),
    pytest.mark.least_qemu(11, "an SMMU for each bus"),
]
GICV3 = "virt,gic-version=3"
FIRST, SECOND = "/smmuv3@c000000", "/smmuv3@c020000"
TESTDEV = "/pcie@10000000/00:03.0"
# Behind three root ports of the second bus.
EDU2, NVME2, TESTDEV2 = [f"/pcie@20000000/{bus}:00.0" for bus in ("09", "0a", "0b")]
MASTERS = {FIRST: [NVME, EDU, TESTDEV], SECOND: [EDU2, NVME2, TESTDEV2]}
STREAMS = {NVME: 0x8, EDU: 0x10, TESTDEV: 0x18, EDU2: 0x900, NVME2: 0xA00, TESTDEV2: 0xB00}
UNMAPPED = 0x5000


@pytest.fixture(scope="module")
def disk2(tmp_path_factory):
    """The second bus' disk; its length is not the first's, so neither is its content."""
    return make_disk(tmp_path_factory.mktemp("disk") / "2MiB.img", 2 << 20)


def devices(disk2, stages=("1", "1")):
    """The arguments for both SMMUs and for what is behind them. QEMU's iommu-testdev
    looks for its IOMMU when it is made, so that comes first."""
    first, second = stages
    ports = [f"-device pcie-root-port,id=port{n},bus=second,chassis={n}" for n in (1, 2, 3)]
    return " ".join([
        "-device pxb-pcie,id=second,bus_nr=8,bus=pcie.0,addr=4",
        f"-device arm-smmuv3,primary-bus=pcie.0,stage={first}",
        f"-device arm-smmuv3,primary-bus=second,stage={second}",
        "-device iommu-testdev,bus=pcie.0,addr=3", *ports, "-device edu,bus=port1",
        f"-drive if=none,id=disk2,format=raw,file={disk2},read-only=on",
        "-device nvme,serial=second,drive=disk2,bus=port2", "-device iommu-testdev,bus=port3",
    ])


@pytest.fixture(scope="module")
def two(boot, disk2):
    """`two(...)` boots with both; `also` names overlays on top, `patch` is one's text."""
    blob = trees.machine_tree(boot, machine=GICV3, qemu_args=devices(disk2))

    def start(also=(), patch="", stages=("1", "1"), **options):
        dtb = trees.overlaid(blob, "two-smmus", *also, patch=patch)
        return boot(machine=GICV3, qemu_args=devices(disk2, stages), dtb=dtb, **options)

    return start


@pytest.fixture(scope="module")
def default(two):
    """One boot, for the tests that only look at it."""
    return two(run=f"dma verify; disk {NVME2} hash; iommu; streams")


def proved(booted):
    """The masters whose DMA was verified, in the order of the proofs."""
    assert all(proof["ok"] for proof in booted.records("dma"))
    return [proof["device"] for proof in booted.records("dma")]


def smmus(booted):
    """The last records of both SMMUs, by name."""
    return {record["name"]: record for record in booted.records("iommu")}


def entries(booted):
    """What became of the streams that `ste` was asked about, in that order."""
    return [entry["config"] for entry in booted.records("entry")]


def test_each_master_does_dma_through_its_own_smmu(default):
    assert default.status == 0
    for smmu, masters in MASTERS.items():
        for name in masters:
            device = default.device(name)
            assert (device["state"], device["domain"]) == ("bound", "dma")
            assert (device["iommu"], device["streams"]) == (smmu, [STREAMS[name]])
            assert default.waited(name) == [smmu] and device["probes"] == 1
    assert set(proved(default)) == set(STREAMS)
    for name, smmu in smmus(default).items():
        assert smmu["streams_attached"] == len(MASTERS[name])
        assert (smmu["events"], smmu["errors"]) == (0, 0)


def test_the_second_bus_disk_is_read_right(default, disk2):
    assert sha256(disk2) in [proof["sha256"] for proof in default.records("dma")]


@pytest.mark.parametrize("failing", [FIRST, SECOND])
def test_s17_one_fails_and_only_its_masters_are_refused(two, failing):
    working, = set(MASTERS) - {failing}
    patch = f"&{{{failing}}} {{ /delete-property/ reg; }};"
    booted = two(patch=patch, run="devices; dma verify; iommu")
    assert booted.status == 0
    assert booted.device(failing)["state"] == "failed"
    for name in MASTERS[failing]:
        device = booted.device(name)
        assert (device["state"], device["probes"], device["domain"]) == ("failed", 0, "none")
        assert failing in booted.reason(name) and "reg" in booted.reason(name)
    assert set(proved(booted)) == set(MASTERS[working])
    assert set(smmus(booted)) == {working}
    assert smmus(booted)[working]["streams_attached"] == len(MASTERS[working])


@pytest.mark.parametrize("gone, at_work", [(SECOND, EDU), (FIRST, EDU2)])
def test_one_goes_and_comes_back_while_the_other_translates(two, gone, at_work):
    staying, = set(MASTERS) - {gone}
    booted = two(run=(
        f"dma begin {at_work}; unbind {gone}; devices; dma finish {at_work}; dma verify; "
        f"dma begin {at_work}; bind {gone}; dma finish {at_work}; dma verify; iommu"))
    assert booted.status == 0
    for name in MASTERS[gone]:
        states = [device["state"] for device in booted.records("device") if device["name"] == name]
        assert "waiting" in states and states[-1] == "bound"
    for name in MASTERS[staying]:
        device = booted.device(name)
        assert (device["state"], device["probes"]) == ("bound", 1)
    names = proved(booted)
    before, after = names[:1 + len(MASTERS[staying])], names[1 + len(MASTERS[staying]):]
    assert set(before) == set(MASTERS[staying])
    assert set(after) == set(STREAMS)
    assert all((smmu["events"], smmu["errors"]) == (0, 0) for smmu in smmus(booted).values())


def test_a_fault_names_its_own_smmu_and_master(two):
    booted = two(run=f"dma read {EDU2} {UNMAPPED:#x} 8; faults; iommu; dma verify")
    assert booted.status == 0
    faults = booted.records("fault")
    assert faults
    assert {(fault["iommu"], fault["stream"], fault["device"]) for fault in faults} == {
        (SECOND, STREAMS[EDU2], EDU2)}
    # One event for each four bytes, none of them at the other SMMU.
    assert {name: smmu["events"] for name, smmu in smmus(booted).items()} == {FIRST: 0, SECOND: 2}


@pytest.mark.parametrize("stages", [("1", "2"), ("2", "1"), ("nested", "2")])
def test_they_need_not_be_alike(two, stages):
    booted = two(stages=stages, run="dma verify; iommu")
    assert booted.status == 0
    assert set(proved(booted)) == set(STREAMS)
    for stage, smmu in zip(stages, (FIRST, SECOND)):
        used = "stage 2" if stage == "2" else "stage 1"
        assert any(feature.startswith(used) for feature in smmus(booted)[smmu]["features"])


def test_suspend_and_resume_of_both(two):
    booted = two(run="suspend; resume; dma verify; iommu")
    assert booted.status == 0
    assert set(proved(booted)) == set(STREAMS)
    assert all((smmu["events"], smmu["errors"]) == (0, 0) for smmu in smmus(booted).values())


def test_s17_a_master_behind_both_waits_for_the_second_and_is_attached_to_both(two):
    late = "driver add fixed-factor-clock"
    streams = f"ste {FIRST} 0x8; ste {SECOND} 0x9"
    booted = two(also=["nvme-both-smmus"], bootargs="driver.late=fixed-factor-clock", run=(
        f"devices; ste {FIRST} 0x8; {late}; dma verify; {streams}; iommu; "
        f"unbind {NVME}; {streams}; bind {NVME}; dma verify; {streams}; unbind {SECOND}; "
        f"ste {FIRST} 0x8; dma verify"))
    assert booted.status == 0
    waiting = next(device for device in booted.records("device") if device["name"] == NVME)
    assert (waiting["state"], waiting["probes"]) == ("waiting", 0)
    nvme = [device for device in booted.records("device") if device["name"] == NVME]
    bound = [device for device in nvme if device["state"] == "bound"]
    assert len(bound) == 2 and bound[0]["attempts"] == 3
    # Nothing of the first stays while the second is not there; then both or neither.
    assert entries(booted) == [
        "abort", *["stage 1"] * 2, *["abort"] * 2, *["stage 1"] * 2, "abort"]
    # Both while the NVMe is bound; at the end there is the first alone.
    assert [smmu["streams_attached"] for smmu in booted.records("iommu")] == [3, 4, 2]
    names = proved(booted)
    assert (names.count(NVME), names.count(EDU), names.count(EDU2)) == (2, 3, 2)
