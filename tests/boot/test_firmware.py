"""By others' firmware, as it comes from Debian: it finds the disk image, starts what is on
it by itself, and leaves the machine in whatever state it does."""

import pytest
from bench import NVME, TIMEOUT
from lib import board, disk
from lib.common import Usage, run
from lib.machine import sha256
from lib.tools import tool

pytestmark = pytest.mark.lg_feature("qemu")
IMAGES = board.images("qemu-virt")
VIRT = "virt,iommu=smmuv3,gic-version=3"


@pytest.mark.parametrize("el", [1, pytest.param(2, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("via, greeting", [("u-boot", "U-Boot 20"), ("edk2", "UEFI firmware")])
def test_the_disk_is_started_by_itself(boot, via, greeting, el):
    machine = f"{VIRT},acpi=off,virtualization={'on' if el == 2 else 'off'}"
    booted = boot(via=via, machine=machine)
    assert any(line.startswith(greeting) for line in booted.lines)
    assert booted.status == 0
    assert booted.boot()["el"] == el
    # Firmware has used the disk, and read the kernel from it.
    assert booted.digest() == sha256(IMAGES / "disk.img")
    assert booted.device(NVME)["domain"] == "dma"


def test_memory_that_efi_keeps_is_not_used(boot):
    def free(booted):
        line, = (line for line in booted.lines if "MiB of memory free" in line)
        return int(line.split("]")[1].split()[0])

    # The tree claims all of it. EDK2's runtime services keep some MiB.
    assert free(boot(via="edk2", run="uptime")) < free(boot(run="uptime")) - 4


def test_efi_without_a_tree_is_said_on_its_console(boot):
    console = boot.start(via="edk2", machine=VIRT)
    try:
        console.expect("Mastiff: this firmware has no device tree .*acpi=off", timeout=TIMEOUT)
        # It goes on to what else there is to boot.
        console.expect("failed to start .*Unsupported", timeout=TIMEOUT)
    finally:
        boot.target.deactivate(console)


def test_a_disk_image_is_partitioned_and_the_same_each_time(tmp_path):
    recipe, image = board.recipe("qemu-virt"), (IMAGES / "Image").read_bytes()
    disk.make(tmp_path / "disk.img", recipe, image)
    assert sha256(tmp_path / "disk.img") == sha256(IMAGES / "disk.img")
    listed = run(tool("sfdisk"), "--dump", tmp_path / "disk.img").stdout
    assert "label: dos" in listed and "start=        2048" in listed and "bootable" in listed
    part = f"{tmp_path}/disk.img@@{disk.MIB}"
    run(tool("mcopy"), "-i", part, f"::{disk.IMAGE}", tmp_path / "Image")
    assert (tmp_path / "Image").read_bytes() == image
    assert run(tool("mcopy"), "-i", part, "::extlinux/extlinux.conf", "-").stdout == disk.extlinux(recipe)


def test_an_image_that_does_not_fit_its_disk_is_refused(tmp_path):
    recipe = {"disk": {"size": 4 * disk.MIB}}
    with pytest.raises(Usage, match="image of 0x300000 bytes does not fit the disk"):
        disk.make(tmp_path / "disk.img", recipe, bytes(3 * disk.MIB))
    assert not list(tmp_path.iterdir())


def test_firmware_boots_from_its_own_disk_only(command, tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(512))
    result = command("scripts/qemu", "--via", "u-boot", "--disk", str(image))
    assert (result.returncode, result.stdout) == (2, "")
    assert "DISK=" in result.stderr and "u-boot" in result.stderr
