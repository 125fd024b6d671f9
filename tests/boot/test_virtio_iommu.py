"""The default story behind another IOMMU: a PCI function on its masters' own bus."""

import json
import re

import pytest
from bench import EDU, EDU_STREAM, NVME, NVME_STREAM
from lib.machine import sha256

pytestmark = pytest.mark.lg_feature("qemu")
VIOMMU = "/pcie@10000000/00:03.0"
UNMAPPED = 0xABC_D000
GICV3 = "virt,gic-version=3"
EVENTS = "-trace virtio_iommu_set_config -trace virtio_iommu_attach"


@pytest.fixture(scope="module")
def behind(boot):
    """`behind(...)` boots with a virtio-iommu at 00:03.0; `options` are its own."""

    def start(options="", machine=GICV3, qemu_args="", reserved=None, **rest):
        device = f"virtio-iommu-pci,bus=pcie.0,addr=3{options}"
        if reserved:
            properties = {"driver": "virtio-iommu-pci", "bus": "pcie.0", "addr": "3", "reserved-regions": reserved}
            device = f"'{json.dumps(properties)}'"
        return boot(machine=machine, qemu_args=f"-device {device} {qemu_args}", **rest)

    return start


@pytest.fixture(scope="module")
def default(behind):
    """One boot, for the tests that only look at it."""
    return behind()


def test_main_job_succeeds_and_reads_the_disk(default, disk):
    assert default.status == 0
    assert default.digest() == sha256(disk)


@pytest.mark.parametrize("master, driver, stream", [
    (NVME, "nvme", NVME_STREAM), (EDU, "edu", EDU_STREAM),
])
def test_masters_waited_for_it(default, master, driver, stream):
    device = default.device(master)
    assert (device["driver"], device["state"]) == (driver, "bound")
    assert (device["iommu"], device["streams"], device["domain"]) == (VIOMMU, [stream], "dma")
    assert default.waited(master) == [VIOMMU]
    assert device["probes"] == 1
    assert default.device(VIOMMU)["order"] < device["order"]


def test_it_is_a_function_behind_no_iommu(default):
    device = default.device(VIOMMU)
    assert (device["driver"], device["state"]) == ("virtio-iommu", "bound")
    assert (device["iommu"], device["streams"], device["domain"]) == (None, [], "none")


def test_edu_reaches_memory_by_translation_only(default):
    proofs = [dma for dma in default.records("dma") if dma["device"] == EDU]
    assert proofs and all(proof["ok"] for proof in proofs)
    assert all(proof["iova"] < 1 << 28 and proof["pa"] >= 1 << 30 for proof in proofs)


def test_its_record(default):
    record, = default.records("iommu")
    assert (record["name"], record["driver"]) == (VIOMMU, "virtio-iommu")
    assert record["streams_attached"] == 2
    assert record["errors"] == record["events"] == 0
    assert record["commands"] >= record["syncs"] > 0
    assert {"map/unmap", "bypass domains", "granule 0x1000"} <= set(record["features"])


@pytest.mark.parametrize("machine, el", [
    ("virt,gic-version=2", 1),
    ("virt,gic-version=3,virtualization=on", 2),
    ("virt,gic-version=3,highmem=off", 1),
])
def test_machine(behind, disk, machine, el):
    # Messages go to a GICv2m frame or to an ITS: either is mapped like memory.
    booted = behind(machine=machine)
    assert booted.status == 0
    assert booted.boot()["el"] == el
    assert booted.digest() == sha256(disk)
    assert booted.device(NVME)["domain"] == booted.device(EDU)["domain"] == "dma"


def test_without_message_signalled_interrupts(behind, disk):
    booted = behind(machine=f"{GICV3},its=off", devices=["nvme"])
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


@pytest.mark.parametrize("options", [
    ",boot-bypass=off", ",disable-legacy=on", ",packed=on", ",page-per-vq=on",
    ",event_idx=off,indirect_desc=off", ",aw-bits=39",
])
def test_device_options(behind, disk, options):
    booted = behind(options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


def test_bypass_ends_before_anything_is_attached(behind):
    booted = behind(qemu_args=EVENTS)
    traced = re.findall(r"virtio_iommu_(set_config|attach) (.*)", booted.messages)
    assert traced[0] == ("set_config", "bypass=0x0")
    assert [what for what, _ in traced].count("attach") == 2
    assert not [words for what, words in traced if what == "set_config" and words != "bypass=0x0"]


def test_doorbells_that_it_lets_through_are_not_mapped(behind):
    # QEMU keeps the page for messages of the ITS, or the GICv2m frame.
    for machine, first in ((GICV3, 0x809_0000), ("virt,gic-version=2", 0x802_0000)):
        booted = behind(machine=machine, run=f"ste {VIOMMU} {EDU_STREAM}; dma verify; domains")
        assert booted.status == 0
        entry, = booted.records("entry")
        fields = {field["name"]: field["value"] for part in entry["parts"] for field in part["fields"]}
        assert fields["MSI first"] == first
        assert fields["mappings"] == 0
        # It heard of the end of its transfers all the same.
        assert all(dma["ok"] for dma in booted.records("dma"))


def test_addresses_that_it_reserves_are_nobodys(behind, disk):
    # Those that the NVMe is given first. Where there is an ITS, QEMU reserves its page
    # only, whatever the command line says.
    first, last = 1 << 40, (1 << 41) - 1
    options = {"machine": f"{GICV3},its=off", "devices": ["nvme"]}
    free, = [dma for dma in behind(**options).records("dma") if dma["op"] == "verify"]
    assert first <= free["iova"] <= last
    booted = behind(reserved=[f"{first:#x}:{last:#x}:0"], **options)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    for dma in booted.records("dma"):
        assert not first <= dma["iova"] <= last
    booted = behind(reserved=[f"{first:#x}:{last:#x}:0"], run=f"ste {VIOMMU} {NVME_STREAM}", **options)
    entry, = booted.records("entry")
    fields = {field["name"]: field["value"] for part in entry["parts"] for field in part["fields"]}
    assert (fields["RESV first"], fields["RESV last"]) == (first, last)


def test_a_fault_is_decoded(behind):
    booted = behind(run=f"dma read {EDU} {UNMAPPED:#x} 64")
    fault, = booted.records("fault")
    # QEMU does not say what the transaction wanted.
    assert (fault["event"], fault["access"]) == ("MAPPING", "unknown")
    assert (fault["iommu"], fault["stream"]) == (VIOMMU, EDU_STREAM)
    assert (fault["device"], fault["driver"]) == (EDU, "edu")
    assert fault["iova"] & ~0xFFF == UNMAPPED
    assert fault["count"] >= 1
    assert any("MAPPING" in line and EDU in line and not line.startswith("@")
               for line in booted.lines)


def test_a_fault_disturbs_nobody_else(behind, disk):
    booted = behind(run=f"dma read {EDU} {UNMAPPED:#x} 64; dma verify; disk {NVME} hash")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


def test_passthrough_is_a_bypass_domain(behind, disk):
    booted = behind(bootargs="iommu.passthrough=1", run=f"disk {NVME} hash; ste {VIOMMU} 0x8")
    assert booted.status == 0
    assert booted.device(NVME)["domain"] == "identity"
    assert booted.digest() == sha256(disk)
    entry, = booted.records("entry")
    assert (entry["iommu"], entry["stream"], entry["config"]) == (VIOMMU, 8, "bypass")


def test_a_driver_that_manages_its_iommu(behind):
    booted = behind(bootargs=f"driver.override={EDU}:edu-managed", run=f"dma verify {EDU}")
    edu = booted.device(EDU)
    assert booted.status == 0
    assert (edu["driver"], edu["domain"], edu["iommu"]) == ("edu-managed", "managed", VIOMMU)


def test_nothing_is_reachable_after_unbind(behind):
    booted = behind(run=f"unbind {NVME}; ste {VIOMMU} 0x8; bind {NVME}; dma verify {NVME}")
    assert booted.status == 0
    entry, = booted.records("entry")
    assert (entry["iommu"], entry["stream"], entry["config"]) == (VIOMMU, 8, "abort")
    nvme = booted.device(NVME)
    assert (nvme["state"], nvme["domain"], nvme["probes"]) == ("bound", "dma", 2)


def test_it_goes_and_comes_back_with_its_masters(behind, disk):
    booted = behind(run=f"unbind {VIOMMU}; bind {VIOMMU}; dma verify; disk {NVME} hash")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    assert booted.device(EDU)["probes"] == 2


def test_suspended_and_resumed(behind, disk):
    booted = behind(run=f"suspend; resume; dma verify; disk {NVME} hash")
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


def test_a_large_granule_is_refused_and_so_are_masters(behind):
    booted = behind(",granule=64k")
    assert booted.status == 1
    assert "smallest page is larger than 4 KiB" in booted.reason(VIOMMU)
    for master in (NVME, EDU):
        assert booted.device(master)["state"] == "failed"
        assert "smallest page" in booted.reason(master)
    assert booted.records("dma") == []
