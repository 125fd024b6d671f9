"""A hostile master: edu with all address bits is sent to where it has no business.

The numbers in the names are those of docs/probing.md. Most boots count instructions
as time and skip what is idle: edu takes 100 ms for each transfer.
"""

import random
import re

import pytest
import trees
from bench import EDU, EDU_STREAM, IMAGE, NVME, SMMU
from lib.machine import sha256
from rawboot import aimed, left_on, raw_options

pytestmark = pytest.mark.lg_feature("virt")
WIDE = "driver.override=00:02.0:edu-wide"
ALL_BITS = "-global edu.dma_mask=0xffffffffffffffff"
QUICK = "-icount shift=0,sleep=off"
# Later machine types ignore the choice of stages.
VIRT = "virt-9.1,iommu=smmuv3,gic-version=3"


@pytest.fixture
def hostile(boot):
    """Boots with a master that can be aimed anywhere."""

    def start(run, bootargs="", qemu_args="", quick=True, **options):
        qemu_args = " ".join([ALL_BITS, QUICK if quick else "", qemu_args])
        return boot(bootargs=f"{WIDE} {bootargs}", run=run, qemu_args=qemu_args, **options)

    return start


def results(booted):
    """(target, access) and result of each attempt."""
    return [((record["target"], record["access"]), record["result"])
            for record in booted.records("hostile")]


def aborted(booted):
    """How often QEMU's SMMU had this stream abort because of its entry, or was off."""
    return len(re.findall(rf"smmuv3_translate_abort .*sid={EDU_STREAM:#x} ", booted.messages))


@pytest.mark.parametrize("stage", ["1", "2", "nested"])
def test_s32_what_is_not_mapped_is_out_of_reach(hostile, stage):
    booted = hostile(f"hostile {EDU}; dma verify {EDU}", machine=VIRT,
                     qemu_args=f"-global arm-smmuv3.stage={stage}")
    assert booted.status == 0
    found = results(booted)
    reached = {target for (target, _), result in found if result == "reached"}
    assert reached == {"its own buffer", "its doorbell"}
    # Some versions of QEMU say nothing of addresses that a stage 2 cannot have.
    assert {target for (target, _), result in found if result == "silent"} <= {"somewhere"}
    assert {result for _, result in found} <= {"reached", "stopped", "silent", "skipped"}
    # Every kind of memory, and each both ways.
    for target in ["the kernel's text", "its constants", "its data", "its stack", "its page tables",
                   "its heap", "free memory", "its STE", "its table of level 3",
                   "a driver's buffers", "an IOMMU's tables", f"registers of {SMMU}", f"registers of {NVME}",
                   "its doorbell, past the IOMMU", "somewhere", "somewhere in memory",
                   "its buffer, unmapped", "the page of that, freed"]:
        for access in ("read", "write"):
            assert ((target, access), "stopped") in found, target
    for attempt in booted.records("hostile"):
        assert attempt["ok"] and (attempt["events"] > 0) == (attempt["result"] == "stopped")
    assert {(fault["device"], fault["driver"]) for fault in booted.records("fault")} == {(EDU, "edu-wide")}


def test_s32_a_master_with_few_address_bits_is_told_from_one_that_is_stopped(boot):
    booted = boot(run=f"hostile {EDU}", qemu_args=QUICK)
    assert booted.status == 0
    found = dict(results(booted))
    # Memory starts beyond its bits, registers do not.
    assert found["the kernel's text", "read"] == "astray"
    assert found[f"registers of {SMMU}", "write"] == "stopped"


def test_what_passes_unchanged_is_reached_and_fails(hostile):
    booted = hostile(f"hostile {EDU}; echo not reached", bootargs="iommu.passthrough=1")
    assert booted.status == 1
    found = dict(results(booted))
    for target in ("the kernel's text", "its data", "its heap", "its STE", "a driver's buffers",
                   f"registers of {SMMU}"):
        assert (found[target, "read"], found[target, "write"]) == ("reached", "skipped")
    assert found["the page of that, freed", "write"] == "reached"
    step, = booted.records("step")
    assert not step["ok"] and "got through" in step["error"]


@pytest.mark.parametrize("phase", ["unbound", "waiting", "suspended"])
def test_s32_what_is_under_way_outlasts_the_binding_and_gets_nowhere(hostile, phase):
    booted = hostile(f"hostile {EDU} {phase}; dma verify {EDU}",
                     qemu_args="-trace smmuv3_translate*")
    assert booted.status == 0
    found = booted.records("hostile")
    assert len(found) == (2 if phase == "suspended" else 4)
    assert {(attempt["result"], attempt["moved"]) for attempt in found} == {("silent", 0)}
    if phase != "suspended":
        # Its bus let it through: each came as far as the SMMU.
        assert aborted(booted) >= len(found)
    assert "smmuv3_translate_bypass" not in booted.messages
    assert [dma["ok"] for dma in booted.records("dma")] == [True]


def late(booted):
    """Results of reads of what was unmapped, by microseconds since."""
    named = ((re.fullmatch(r"what was unmapped (\d+) us before", target), result)
             for (target, _), result in results(booted))
    return {int(match[1]): result for match, result in named if match}


def test_the_window_of_lazy_unmapping_is_as_long_as_it_is_said_to_be(hostile):
    booted = hostile(f"hostile {EDU} window; dma verify {EDU}", bootargs="iommu.strict=0")
    assert booted.status == 0
    found = late(booted)
    assert {result for us, result in found.items() if us < 10_000} == {"reached"}
    assert {result for us, result in found.items() if us > 10_000} == {"stopped"}


def test_strict_unmapping_has_no_window(hostile):
    booted = hostile(f"hostile {EDU} window")
    assert booted.status == 0
    assert set(late(booted).values()) == {"stopped"}


def test_what_is_freed_in_lazy_mode_is_out_of_reach(hostile):
    booted = hostile(f"hostile {EDU}", bootargs="iommu.strict=0")
    assert booted.status == 0
    found = results(booted)
    for target in ("its buffer, unmapped", "the page of that, freed"):
        for access in ("read", "write"):
            assert ((target, access), "stopped") in found, target


def test_s30_a_storm_is_heard_to_the_end_and_cut_off(hostile, disk):
    booted = hostile(
        f"hostile {EDU} storm {NVME}; streams; iommu; dma verify {NVME}; "
        f"unbind {EDU}; bind {EDU}; dma verify {EDU}", quick=False)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    storm, = booted.records("storm")
    assert (storm["bytes"], storm["events"], storm["errors"]) == (4096, 1024, 0)
    assert storm["quarantined"] and storm["ok"]
    goes = {record["device"]: record["config"] for record in booted.records("stream")}
    assert (goes[EDU], goes[NVME]) == ("abort", "stage 1")
    smmu = booted.records("iommu")[0]
    assert (smmu["events"], smmu["errors"], smmu["quarantined"]) == (1024, 0, 1)
    fault, notice = booted.records("fault")
    assert (fault["event"], fault["count"], fault["device"]) == ("F_TRANSLATION", 1024, EDU)
    assert "unmapped last of all" in fault["detail"]
    assert (notice["event"], notice["device"]) == ("QUARANTINED", EDU)
    proofs = {dma["device"]: dma["ok"] for dma in booted.records("dma") if dma["op"] == "verify"}
    assert proofs == {NVME: True, EDU: True}
    assert booted.records("iommu")[-1]["quarantined"] == 0


def test_s30_an_overflow_of_the_event_queue_is_told_and_got_over(boot, disk):
    # Counted as time, the few instructions between their starts are far fewer than it
    # takes to hear 1,024 events: they all arrive before these are heard.
    others = [f"{EDU[:-4]}1{slot}.0" for slot in range(3)]
    more = " ".join(f"-device edu,bus=pcie.0,addr=1{slot}" for slot in range(3))
    last = others[-1]
    booted = boot(
        qemu_args=f"{QUICK} {more}", run=(
            f"hostile {EDU} storm {NVME} with {' '.join(others)}; iommu; dma verify {NVME}; "
            f"unbind {last}; bind {last}; dma verify {last}; dma read {last} 0x123000 4; iommu"))
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    storms = booted.records("storm")
    assert [storm["device"] for storm in storms] == [EDU, *others]
    assert all(storm["ok"] and storm["errors"] >= 1 for storm in storms)
    # The queue was full to the end, and all that was in it was heard.
    heard = sum(storm["events"] for storm in storms)
    before, after, *_ = booted.records("iommu")
    assert 2048 <= heard < 4 * 1024 and before["events"] == heard
    assert before["errors"] == storms[0]["errors"]
    # QEMU tells by a global error what the architecture has OVFLG for (IHI 0070 §7.4).
    assert any("EVENTQ_ABT_ERR (events were lost)" in line for line in booted.lines)
    # Whoever was heard of often enough was cut off, and nobody else.
    assert [storm["quarantined"] for storm in storms] == [storm["events"] > 512 for storm in storms]
    assert [dma["ok"] for dma in booted.records("dma") if dma["op"] == "verify"] == [True, True]
    fresh = booted.records("fault")[-1]
    assert (fresh["device"], fresh["iova"], fresh["event"]) == (last, 0x12_3000, "F_TRANSLATION")
    assert (after["events"], after["errors"]) == (heard + 1, before["errors"])


# Nanoseconds for each instruction, as powers of two: what arrives 100 ms after firmware
# sent it finds the kernel ever earlier in its boot.
@pytest.mark.parametrize("shift, lands", [(10, True), (0, False), (4, None), (6, None)])
def test_s25_firmware_left_dma_running(boot, tmp_path, shift, lands):
    region = 0x4C00_0000
    content = random.Random(25).randbytes(0x1_0000)
    (tmp_path / "buffer.bin").write_bytes(content)
    # Nobody stops the bus meanwhile: its driver comes later.
    blob = trees.machine_tree(boot, bootargs="report=json driver.late=pcie", run=(
        f"sleep 300; driver add pcie; dma read {EDU} 0x8000000 4096; dma verify {EDU}"))
    blob = trees.overlaid(blob, "edu-reserved-region").read_bytes()
    before = left_on(tmp_path)
    before["stores"] += aimed(region)
    options = raw_options(tmp_path, IMAGE, blob, before=before)
    options["qemu_args"] += (
        f" -device loader,file={tmp_path}/buffer.bin,addr={region:#x},force-raw=on {ALL_BITS} "
        f"-icount shift={shift},sleep=off -trace smmuv3_translate* -trace smmuv3_write_mmio*")
    booted = boot(**options)
    assert booted.status == 0
    data, = booted.records("data")
    zeroed = bytes.fromhex(data["data"]) == bytes(4096)
    assert zeroed or bytes.fromhex(data["data"]) == content[:4096]
    # From the first thing that the driver writes on, nothing passes unchanged.
    trace = booted.messages.splitlines()
    start = next(at for at, line in enumerate(trace) if re.search(r"write_mmio.*addr: 0x44 ", line))
    passed = [at for at, line in enumerate(trace)
              if "smmuv3_translate_bypass" in line or "smmuv3_translate_disable" in line]
    assert all(at < start for at in passed)
    assert zeroed == bool(passed)
    if lands is not None:
        assert zeroed == lands
    # What came too late was stopped, under the name of a stream that nobody had yet.
    heard = [fault for fault in booted.records("fault") if fault["event"] == "C_BAD_STREAMID"]
    assert zeroed != any((fault["stream"], fault["count"]) == (EDU_STREAM, 1024) for fault in heard)
