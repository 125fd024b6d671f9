"""The default boot: masters wait for their SMMU, and their DMA goes through it."""

import random

import pytest
from bench import EDU, EDU_STREAM, NVME, NVME_STREAM, SMMU, TIMEOUT
from conftest import make_disk
from lib.machine import sha256

MIB = 1 << 20
# With the disk and the devices of QEMU's machine, whoever started it.
VIRT = pytest.mark.lg_feature("virt")


@VIRT
def test_main_job_succeeds_and_reads_the_disk(default, disk):
    assert default.status == 0
    assert default.digest() == sha256(disk)


@VIRT
def test_nvme_waited_for_the_smmu_and_was_probed_once(default):
    nvme = default.device(NVME)
    assert nvme["driver"] == "nvme"
    assert nvme["state"] == "bound"
    assert (nvme["iommu"], nvme["streams"], nvme["domain"]) == (SMMU, [NVME_STREAM], "dma")
    assert nvme["probes"] == 1
    assert SMMU in default.waited(NVME)


@VIRT
def test_edu_reaches_memory_by_translation_only(default):
    edu = default.device(EDU)
    assert (edu["state"], edu["domain"], edu["streams"]) == ("bound", "dma", [EDU_STREAM])
    proofs = [dma for dma in default.records("dma") if dma["device"] == EDU]
    assert proofs and all(proof["ok"] for proof in proofs)
    # Its mask covers 256 MiB and memory starts at 1 GiB.
    assert all(proof["iova"] < 1 << 28 and proof["pa"] >= 1 << 30 for proof in proofs)


@VIRT
def test_smmu_is_bound_before_its_masters(default):
    smmu = default.device(SMMU)
    assert (smmu["driver"], smmu["state"]) == ("smmuv3", "bound")
    assert all(smmu["order"] < default.device(master)["order"] for master in (NVME, EDU))
    record, = default.records("iommu")
    assert (record["name"], record["driver"]) == (SMMU, "smmuv3")
    assert record["streams_attached"] == 2
    assert record["errors"] == record["events"] == 0
    assert record["commands"] > record["syncs"] > 0


@VIRT
def test_boot_record_says_what_was_booted(default):
    boot = default.boot()
    assert (boot["board"], boot["cpus"], boot["el"]) == ("qemu-virt", 1, 1)
    # No instruction counter without -icount.
    assert boot["insn"] is None
    assert boot["us"] > 0


def test_boot_record_counts_what_the_device_records_show(default, env):
    boot, devices = default.boot(), default.records("device")
    assert boot["board"] == env.config.get_option("board")
    assert boot["devices"] == len(devices)
    for state in ("bound", "waiting", "failed"):
        assert boot[state] == sum(device["state"] == state for device in devices)
    assert boot["waiting"] == boot["failed"] == 0


def test_attempts_are_bounded_by_what_was_waited_for(default):
    for device in default.records("device"):
        assert device["attempts"] <= 1 + len(device["waited"]), device["name"]


@VIRT
def test_story_is_told_without_records(boot):
    booted = boot(records=False)
    assert booted.status == 0
    assert not booted.records("device")
    for words in ([NVME, "waited", SMMU], [EDU, "waited", SMMU]):
        assert any(all(word in line for word in words) for line in booted.lines), words


@pytest.mark.lg_feature("qemu")
@pytest.mark.parametrize("size", [512, MIB, 64 * MIB], ids=["one-block", "1MiB", "64MiB"])
def test_digest_equals_the_hosts(boot, tmp_path, size):
    image = make_disk(tmp_path / "disk.img", size)
    assert boot(disk=image).digest() == sha256(image)


@pytest.mark.lg_feature("qemu")
@pytest.mark.last
def test_digest_of_a_gibibyte_equals_the_hosts(boot, tmp_path):
    """Longer than any ring of the driver, and than memory that it could have kept."""
    image = tmp_path / "disk.img"
    noise = random.Random("1GiB").randbytes(MIB - 8)
    try:
        with open(image, "wb") as file:
            # Each MiB is another one, so that none can be read in another's place.
            file.writelines(index.to_bytes(8, "little") + noise for index in range(1024))
        assert boot(disk=image, timeout=TIMEOUT + 1024).digest() == sha256(image)
    finally:
        image.unlink(missing_ok=True)


@pytest.mark.lg_feature("qemu")
def test_dma_is_translated(boot):
    booted = boot(qemu_args="-trace smmuv3_translate*")
    traced = [line for line in booted.messages.splitlines() if "smmuv3_translate" in line]
    of_nvme = [line for line in traced if f"sid={NVME_STREAM:#x}" in line]
    assert any("smmuv3_translate_success" in line for line in of_nvme)
    # A bypass or abort of any stream would be DMA that nobody translated.
    assert not [line for line in traced if "_bypass" in line or "_abort" in line]


@pytest.mark.lg_feature("qemu")
def test_first_verified_block_within_ten_million_instructions(boot):
    booted = boot(qemu_args="-icount shift=0")
    assert booted.status == 0
    assert 0 < booted.boot()["insn"] <= 10_000_000
