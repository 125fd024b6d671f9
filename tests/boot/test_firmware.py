"""By others' firmware, as it comes from Debian: it finds the disk image, starts what is on
it by itself, and leaves the machine in whatever state it does."""

import pytest
from bench import NVME
from lib import board, disk
from lib.common import Usage, run
from lib.machine import sha256
from lib.tools import tool

pytestmark = pytest.mark.lg_feature("qemu")
IMAGES = board.images("qemu-virt")
VIRT = "virt,iommu=smmuv3,gic-version=3"


@pytest.mark.parametrize("machine, el", [(VIRT, 1), (f"{VIRT},virtualization=on", 2)])
def test_u_boot_starts_the_disk_by_itself(boot, machine, el):
    booted = boot(via="u-boot", machine=machine)
    assert any(line.startswith("U-Boot ") for line in booted.lines)
    assert booted.status == 0
    assert booted.boot()["el"] == el
    # Firmware has used the disk, and read the kernel from it.
    assert booted.digest() == sha256(IMAGES / "disk.img")
    assert booted.device(NVME)["domain"] == "dma"


def test_a_disk_image_is_partitioned_and_the_same_each_time(tmp_path):
    recipe, image = board.recipe("qemu-virt"), (IMAGES / "Image").read_bytes()
    disk.make(tmp_path / "disk.img", recipe, image)
    assert sha256(tmp_path / "disk.img") == sha256(IMAGES / "disk.img")
    listed = run(tool("sfdisk"), "--dump", tmp_path / "disk.img").stdout
    assert "label: dos" in listed and "start=        2048" in listed and "bootable" in listed
    part = f"{tmp_path}/disk.img@@{disk.MIB}"
    run(tool("mcopy"), "-i", part, "::Image", tmp_path / "Image")
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
