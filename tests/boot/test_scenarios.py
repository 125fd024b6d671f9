"""What the probe engine and the IOMMU core must get right, with devices that do DMA.

The numbers in the names are those of docs/probing.md. What is not here is in
test_trees.py (1 to 4), test_suppliers.py (5, 6) and test_power.py (10, 26, 27).
"""

import itertools
import random

import pytest
import trees
from bench import EDU, EDU_STREAM, IMAGE, NVME, NVME_STREAM, SMMU
from lib.machine import sha256
from lines import latest
from rawboot import left_on, raw_options

pytestmark = pytest.mark.lg_feature("virt")
# Two more edus behind a bridge to conventional PCI, which answers for both.
PAIR = ("-device pcie-pci-bridge,id=slow,bus=pcie.0,addr=6 "
        "-device edu,bus=slow,addr=1 -device edu,bus=slow,addr=2")
ONE, TWO = "/pcie@10000000/01:01.0", "/pcie@10000000/01:02.0"
PAIR_STREAM = 0x100
MANAGED = "driver.override=00:02.0:edu-managed"
# Where edu-managed has a page to read.
SOURCE, OWN = 0x100_0000, 0x300_0000


@pytest.fixture(scope="module")
def tree(boot):
    return trees.machine_tree(boot)


def repeat(count, *commands):
    return "; ".join(commands * count)


def all_of(booted, name):
    """Every record of a device, in the order they were printed."""
    return [record for record in booted.records("device") if record["name"] == name]


def entries(booted):
    """What `ste` showed, each time: what happens to the stream, and the fields of its
    entry but for where the context descriptor is."""
    return [
        (entry["config"], [(field["name"], field["value"])
                           for part in entry["parts"] if part["name"] == "STE"
                           for field in part["fields"] if field["name"] != "S1ContextPtr"])
        for entry in booted.records("entry")
    ]


def frames(booted):
    """Pages by use, each time that `mem` showed it; the heap is not counted in pages."""
    names = [record["name"] for record in booted.records("memory")]
    sizes = [record["bytes"] for record in booted.records("memory") if "heap" not in record["name"]]
    kinds = len({name for name in names if "heap" not in name})
    return [tuple(sizes[at:at + kinds]) for at in range(0, len(sizes), kinds)]


def test_s01_every_order_of_drivers(boot):
    drivers = ["smmuv3", "pcie", "nvme", "edu"]
    orders = list(itertools.permutations(drivers))
    rounds = [
        "; ".join([f"driver remove {name}" for name in drivers]
                  + [f"driver add {name}" for name in order] + ["dma verify 00:01.0"])
        for order in orders
    ]
    booted = boot(run="; ".join(rounds) + "; dma verify")
    assert booted.status == 0
    for name in (NVME, EDU, SMMU):
        bound = [record for record in all_of(booted, name) if record["state"] == "bound"]
        # Once a round, and once more at the end, where all is shown.
        assert [record["probes"] for record in bound] == [*range(2, len(orders) + 2), len(orders) + 1]
        states = {(record["iommu"], tuple(record["streams"]), record["domain"]) for record in bound}
        assert len(states) == 1
    assert len([dma for dma in booted.records("dma") if dma["ok"]]) == len(orders) + 2


def test_s04_an_smmu_that_is_none(boot, tree):
    booted = boot(dtb=trees.overlaid(tree, "smmu-elsewhere"))
    assert booted.status == 1
    smmu = booted.device(SMMU)
    assert (smmu["state"], smmu["probes"]) == ("failed", 1)
    fault, = smmu["cause"]
    for master in (NVME, EDU):
        device = booted.device(master)
        assert (device["state"], device["probes"], device["attempts"]) == ("failed", 0, 2)
        assert device["cause"][-1] == fault
    assert booted.boot()["waiting"] == 0


BARE = "/pcie@10000000/00:05.0"


def test_s07_a_probe_that_fails_late_leaves_nothing(boot):
    # A controller without a namespace: it is up and has done DMA when that is seen.
    booted = boot(
        qemu_args="-device nvme,serial=bare,bus=pcie.0,addr=5",
        run="rescan; mem; irqs; domains; rescan; rescan; rescan; mem; irqs; domains; "
            f"ste {SMMU} 0x28; dma verify",
    )
    assert booted.status == 0
    bare = booted.device(BARE)
    assert (bare["state"], bare["probes"], bare["domain"]) == ("failed", 5, "blocked")
    assert "namespace" in booted.reason(BARE)
    before, after = frames(booted)
    assert before == after
    irqs = [(irq["intid"], irq["device"]) for irq in booted.records("irq")]
    half = len(irqs) // 2
    assert irqs[:half] == irqs[half:] and BARE not in {device for _, device in irqs}
    members = [domain["members"] for domain in booted.records("domain")]
    assert members == [[NVME], [EDU]] * 2
    assert [config for config, _ in entries(booted)] == ["abort"]
    assert booted.records("fault") == []


@pytest.mark.parametrize("driver", ["edu", "edu-managed"])
def test_s07_without_interrupts_nothing_stays_mapped(boot, tree, driver):
    booted = boot(
        dtb=trees.overlaid(tree, "pcie-no-interrupts"),
        bootargs=f"driver.override=00:02.0:{driver}",
        run=f"domains; mem; rescan; rescan; mem; iommu; ste {SMMU} 0x8; ste {SMMU} 0x10",
    )
    for name in (NVME, EDU):
        device = booted.device(name)
        assert (device["state"], device["probes"]) == ("failed", 3)
        assert "interrupt" in booted.reason(name)
    assert booted.records("domain") == []
    before, after = frames(booted)
    assert before == after
    smmu = booted.records("iommu")[0]
    assert (smmu["streams_attached"], smmu["domains"]) == (0, 0)
    assert [config for config, _ in entries(booted)] == ["abort", "abort"]


def test_s10_bound_a_thousand_times(boot, default):
    once = [f"unbind {EDU}", f"bind {EDU}", f"unbind {NVME}", f"bind {NVME}"]
    look = [f"ste {SMMU} {EDU_STREAM}", f"ste {SMMU} {NVME_STREAM}", "mem", "iommu"]
    past, = [dma["iova"] for dma in default.records("dma") if dma["device"] == EDU]
    booted = boot(run="; ".join([
        "dma verify", repeat(1, *once, *look), repeat(99, *once), repeat(900, *once[:2]), *look,
        f"dma read {EDU} {past}",
    ]))
    assert booted.status == 0
    assert past in [dma["iova"] for dma in booted.records("dma")]
    first, last = frames(booted)
    assert first == last
    edu_first, nvme_first, edu_last, nvme_last = entries(booted)
    assert (edu_first, nvme_first) == (edu_last, nvme_last)
    first, last, _ = booted.records("iommu")
    assert [first[name] for name in ("streams_attached", "domains")] == [2, 2]
    assert [last[name] for name in ("streams_attached", "domains")] == [2, 2]
    fault, = booted.records("fault")
    assert (fault["event"], fault["device"], fault["iova"] & ~0xFFF) == ("F_TRANSLATION", EDU, past)


def test_s11_s22_one_of_a_pair_comes_and_goes(boot):
    booted = boot(
        qemu_args=PAIR,
        run=f"domains; dma begin {ONE}; unbind {TWO}; dma finish {ONE}; dma verify {ONE}; "
            f"streams; dma begin {ONE}; bind {TWO}; dma finish {ONE}; dma verify; domains; "
            f"unbind {ONE}; unbind {TWO}; ste {SMMU} {PAIR_STREAM}; bind {ONE}; dma verify {ONE}",
    )
    assert booted.status == 0
    assert all(dma["ok"] for dma in booted.records("dma"))
    shared = [domain for domain in booted.records("domain") if ONE in domain["members"]]
    # The bridge's one stream, taken once, in one domain that outlives its members.
    assert len(shared) == 2 and shared[0]["tag"] == shared[1]["tag"]
    for domain in shared:
        assert sorted(domain["members"]) == [ONE, TWO]
        assert domain["streams"] == [{"iommu": SMMU, "stream": PAIR_STREAM}]
    meanwhile = [s["config"] for s in booted.records("stream") if s["stream"] == PAIR_STREAM]
    assert meanwhile and set(meanwhile) == {"stage 1"}
    # The last one out.
    assert [config for config, _ in entries(booted)] == ["abort"]
    assert booted.records("fault") == []


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
def test_s13_nothing_is_attached_before_the_driver_asks(boot, late):
    # The SMMU's driver is there or comes later.
    bootargs = f"{MANAGED} driver.late=smmuv3" if late else MANAGED
    first = "driver add smmuv3; " if late else ""
    booted = boot(bootargs=bootargs, run=(
        f"{first}devices; ste {SMMU} {EDU_STREAM}; domains; space {EDU} read {SOURCE:#x}; "
        f"space {EDU} attach a; space {EDU} read {SOURCE:#x}; space {EDU} read {OWN:#x}; "
        f"space {EDU} map {OWN:#x}; space {EDU} read {OWN:#x}; space {EDU} attach b; "
        f"space {EDU} read {OWN:#x}; space {EDU} unmap {OWN:#x}; space {EDU} read {OWN:#x}; "
        f"space {EDU} detach; ste {SMMU} {EDU_STREAM}; space {EDU} read {SOURCE:#x}; "
        f"dma verify; unbind {EDU}; ste {SMMU} {EDU_STREAM}"
    ))
    assert booted.status == 0
    edu = [record for record in all_of(booted, EDU) if record["state"] == "bound"][0]
    assert (edu["driver"], edu["domain"], edu["probes"]) == ("edu-managed", "managed", 1)
    assert {config for config, _ in entries(booted)} == {"abort"}
    assert EDU not in [name for domain in booted.records("domain")[:1] for name in domain["members"]]
    seen = [(space["read"], space["written"]) for space in booted.records("space") if space["op"] == "read"]
    assert seen == [(None, None), ("a", "a"), (None, "a"), ("a", "a"), ("b", "b"), (None, "b"), (None, None)]
    faults = {(fault["event"], fault["iova"] & ~0xFFF) for fault in booted.records("fault")}
    assert faults == {("F_TRANSLATION", OWN)}


def test_s14_spaces_are_switched_during_dma(boot):
    booted = boot(bootargs=MANAGED, run=f"space {EDU} attach a; space {EDU} switch 40")
    assert booted.status == 0
    switched = [space for space in booted.records("space") if space["op"] == "switch"]
    assert len(switched) == 40
    # A mixture fails the command. Both were seen, and all the while they changed.
    assert {space["read"] for space in switched} >= {"a", "b"}
    assert sum(space["switches"] for space in switched) > 400
    # Nothing went past the SMMU: without it edu reaches no memory at all.
    assert all(space["read"] in ("a", "b") for space in switched)


@pytest.mark.parametrize("override", ["00:02.0:nvme", "00:02.0:nobody", "00:09.0:edu"])
def test_an_override_that_cannot_be_fails_the_boot(boot, override):
    booted = boot(bootargs=f"driver.override={override}", run="uptime")
    assert booted.status == 1
    said = [line for line in booted.lines if "driver.override" in line and not line.startswith("@")]
    assert len(said) == 1


def test_s17_behind_two_iommus_nothing_of_the_first_stays(boot, tree):
    # One SMMU is all that QEMU 10's virt machine has, so the second never works; two that
    # do are in test_two_smmus.py.
    second = "/smmuv3@9070000"
    booted = boot(
        dtb=trees.overlaid(tree, "nvme-two-iommus"), bootargs="driver.late=fixed-factor-clock",
        run=f"devices; iommu; ste {SMMU} 0x8; driver add fixed-factor-clock; iommu; ste {SMMU} 0x8; "
            "dma verify",
    )
    assert booted.status == 0
    waiting, *_, failed = all_of(booted, NVME)
    assert (waiting["state"], waiting["probes"]) == ("waiting", 0)
    assert [waited["on"] for waited in waiting["waited"]] == [SMMU, second]
    assert (failed["state"], failed["probes"], failed["attempts"]) == ("failed", 0, 3)
    assert second in failed["cause"][0]["reason"]
    # edu alone goes through the first one.
    assert [smmu["streams_attached"] for smmu in booted.records("iommu")] == [1, 1, 1]
    assert [config for config, _ in entries(booted)] == ["abort", "abort"]


def test_s25_firmware_left_it_on_and_its_region_goes_on(boot, tree, tmp_path):
    content = random.Random(25).randbytes(0x10000)
    (tmp_path / "buffer.bin").write_bytes(content)
    blob = trees.machine_tree(boot, bootargs="report=json", run=(
        f"walk {EDU} 0x8000000; dma read {EDU} 0x8000000 4096; dma read {EDU} 0x800f000 4096; "
        f"dma verify; disk {NVME} hash; dma read {EDU} 0x7fff000 64"))
    blob = trees.overlaid(blob, "edu-reserved-region").read_bytes()
    options = raw_options(tmp_path, IMAGE, blob, before=left_on(tmp_path))
    options["qemu_args"] += f" -device loader,file={tmp_path}/buffer.bin,addr=0x4c000000,force-raw=on"
    booted = boot(**options)
    assert booted.status == 0
    assert any(SMMU in line and "left it on" in line for line in booted.lines)
    first, second, beyond = [bytes.fromhex(data["data"]) for data in booted.records("data")]
    assert (first, second) == (content[:0x1000], content[0xF000:])
    assert beyond != content[:64]
    walk, = booted.records("walk")
    assert "0x4c000000" in walk["levels"][-1]["meaning"]
    # Neither the addresses nor the memory is anybody else's.
    proofs = booted.records("dma")
    assert len(proofs) == 3 and all(dma["ok"] for dma in proofs)
    for dma in proofs:
        assert not 0x800_0000 <= dma["iova"] < 0x801_0000
        assert not 0x4C00_0000 <= dma["pa"] < 0x4C01_0000
    fault, = booted.records("fault")
    assert (fault["event"], fault["iova"] & ~0xFFF) == ("F_TRANSLATION", 0x7FF_F000)


def test_s26_the_smmu_is_unbound_and_bound_again(boot, disk):
    booted = boot(run=f"unbind {SMMU}; devices; bind {SMMU}; dma verify; disk {NVME} hash")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    for master in (NVME, EDU):
        # As unbound, as shown, as bound again, at the end.
        assert [record["state"] for record in all_of(booted, master)] == ["waiting"] * 2 + ["bound"] * 2
        assert (latest(booted, master)["probes"], latest(booted, master)["domain"]) == (2, "dma")
    assert all_of(booted, SMMU)[0]["state"] == "unclaimed"


@pytest.mark.parametrize("times", [1, 5])
def test_s27_suspended_and_resumed(boot, disk, times):
    booted = boot(run="; ".join([
        "streams", "mem", f"ste {SMMU} {NVME_STREAM}", "irqs",
        repeat(times, "suspend", "devices", "resume", "dma verify"),
        "streams", "mem", f"ste {SMMU} {NVME_STREAM}", "irqs", f"disk {NVME} hash",
    ]))
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    for name in (SMMU, NVME, EDU):
        # Suspended, shown, resumed; shown once more at the end. Nobody was unbound.
        expected = [True, True, False] * times + [False]
        assert [record["suspended"] for record in all_of(booted, name)] == expected
        assert {(record["state"], record["probes"]) for record in all_of(booted, name)} == {("bound", 1)}
    streams = [(stream["stream"], stream["config"]) for stream in booted.records("stream")]
    assert streams[:len(streams) // 2] == streams[len(streams) // 2:]
    before, after = entries(booted)
    assert before == after
    assert len([dma for dma in booted.records("dma") if dma["ok"]]) == 2 * times + 1
    assert booted.records("fault") == []


def test_s27_a_managed_master_keeps_its_space(boot):
    booted = boot(bootargs=MANAGED, run=(
        f"space {EDU} attach b; suspend; resume; space {EDU} read {SOURCE:#x}; "
        f"space {EDU} detach; suspend; resume; space {EDU} read {SOURCE:#x}"
    ))
    assert booted.status == 0
    seen = [space["read"] for space in booted.records("space") if space["op"] == "read"]
    assert seen == ["b", None]


def test_s28_a_late_smmu_wakes_its_waiters_only(boot, disk):
    booted = boot(
        bootargs="driver.late=smmuv3", run=f"devices; driver add smmuv3; dma verify; disk {NVME} hash",
    )
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    names = {record["name"] for record in booted.records("device")}
    for name in names:
        first, last = all_of(booted, name)[0], latest(booted, name)
        if name in (NVME, EDU):
            assert (first["state"], first["attempts"], first["probes"]) == ("waiting", 1, 0)
            assert (last["state"], last["attempts"], last["probes"]) == ("bound", 2, 1)
        elif name == SMMU:
            assert (first["attempts"], last["attempts"], last["state"]) == (0, 1, "bound")
        else:
            assert (first["attempts"], first["state"]) == (last["attempts"], last["state"])


CLOCKS = 200


def chain(folder):
    """An overlay with as many clocks, each made from the one after it; the SMMU has
    the first."""
    nodes = [
        f'generated-{index} {{ compatible = "fixed-factor-clock"; #clock-cells = <0>; clock-mult = <1>; '
        f'clock-div = <1>; clocks = <&{{/{after}}}>; }};'
        for index, after in enumerate([f"generated-{n}" for n in range(1, CLOCKS)] + ["apb-pclk"])
    ]
    path = folder / "chain.dtso"
    path.write_text("/dts-v1/;\n/plugin/;\n&{/} {\n" + "\n".join(nodes) + "\n};\n"
                    "&{/smmuv3@9050000} { clocks = <&{/generated-0}>; };\n")
    return path


def test_s31_two_hundred_generated_nodes_in_reverse_order(boot, tree, tmp_path):
    dtb = trees.tree.keep(trees.tree.overlaid(tree, [chain(tmp_path)]))
    booted = boot(dtb=dtb)
    assert booted.status == 0
    devices = booted.records("device")
    generated = [device for device in devices if "/generated-" in device["name"]]
    assert len(generated) == CLOCKS
    # One edge each, so two attempts at most, and one probe.
    for device in generated:
        assert (device["state"], device["probes"]) == ("bound", 1)
        assert device["attempts"] <= 2
    edges = sum(len(device["waited"]) for device in devices)
    assert sum(device["attempts"] for device in devices) <= len(devices) + edges
    assert booted.device(NVME)["domain"] == "dma"
