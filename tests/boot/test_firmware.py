"""By others' firmware, as it comes from Debian: it finds the disk image, starts what is on
it by itself, and leaves the machine in whatever state it does."""

import struct
import zlib

import pytest
import trees
from bench import NVME, TIMEOUT
from lib import board, disk, machine, tree
from lib.common import Usage, replace_sparse, run
from lib.machine import sha256
from lib.tools import tool

pytestmark = pytest.mark.lg_feature("qemu")
IMAGES = board.images("qemu-virt")
VIRT = "virt,iommu=smmuv3,gic-version=3"


@pytest.mark.parametrize("el", [1, pytest.param(2, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("via, greeting", [("u-boot", "U-Boot 20"), ("edk2", "UEFI firmware")])
def test_the_disk_is_started_by_itself(boot, via, greeting, el):
    kind = f"{VIRT},acpi=off,virtualization={'on' if el == 2 else 'off'}"
    booted = boot(via=via, machine=kind)
    assert any(line.startswith(greeting) for line in booted.lines)
    assert booted.status == 0
    assert booted.boot()["el"] == el
    # Firmware has used the disk, and read the kernel from it.
    assert booted.digest() == sha256(IMAGES / "disk.img")
    assert booted.device(NVME)["domain"] == "dma"


# Where U-Boot on this machine keeps its environment: the start of the second flash.
FLASH_SIZE, ENVIRONMENT_SIZE = 64 << 20, 0x4_0000
BY_HAND = ("pci enum; nvme scan; load nvme 0:1 0x40400000 EFI/BOOT/BOOTAA64.EFI; "
           "load nvme 0:1 0x48000000 tree.dtb; booti 0x40400000 - 0x48000000")


def u_boots_tree(boot):
    """What QEMU gives U-Boot, less its memory: with firmware the machine is another one."""
    blob = tree.dump(machine.command(machine.Boot(via="u-boot", devices=["nvme"])))
    return trees.overlaid(blob, patch="/delete-node/ &{/memory@40000000};").read_bytes()


def handing_over(folder, blob):
    """Options for a boot by a U-Boot that hands over this blob instead of QEMU's."""
    image = folder / "disk.img"
    disk.make(image, board.recipe("qemu-virt"), (IMAGES / "Image").read_bytes())
    (folder / "tree.dtb").write_bytes(blob)
    result = run(tool("mcopy"), "-i", f"{image}@@{disk.MIB}", folder / "tree.dtb", "::tree.dtb")
    assert result.returncode == 0, result.stdout
    words = f"bootdelay=0\0bootcmd={BY_HAND}\0\0".encode().ljust(ENVIRONMENT_SIZE - 4, b"\0")
    environment = struct.pack("<I", zlib.crc32(words)) + words
    replace_sparse(folder / "environment.img", FLASH_SIZE, {0: environment})
    flash = f"-drive if=pflash,unit=1,format=raw,readonly=on,file={folder}/environment.img"
    return {"via": "u-boot", "kernel": image, "qemu_args": flash}


def test_u_boot_hands_over_a_tree_without_memory(boot, tmp_path):
    # It writes what there is to /memory, but not that it may be used.
    blob = trees.overlaid(u_boots_tree(boot), patch='&{/} { memory { status = "disabled"; }; };')
    booted = boot(records=False, **handing_over(tmp_path, blob.read_bytes()))
    assert booted.status == 1
    errors = [line for line in booted.lines if "error:" in line]
    assert len(errors) == 1 and "no memory to work with" in errors[0] and "/memory" in errors[0]


def test_u_boot_adds_the_memory_that_a_tree_lacks(boot, tmp_path):
    booted = boot(records=False, **handing_over(tmp_path, u_boots_tree(boot)))
    assert booted.status == 0
    assert any("MiB of memory free" in line for line in booted.lines)


def test_without_a_tree_u_boot_starts_nothing(boot, tmp_path):
    console = boot.start(records=False, **handing_over(tmp_path, bytes(4096)))
    try:
        console.expect("Could not find a valid device tree", timeout=TIMEOUT)
        assert b"Mastiff" not in console.transcript
    finally:
        boot.target.deactivate(console)


def test_edk2_needs_no_memory_in_the_tree(boot):
    booted = boot(via="edk2", dtb=trees.overlaid(u_boots_tree(boot)))
    assert booted.status == 0
    assert any("MiB of memory free" in line for line in booted.lines)


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
