"""Others' firmware and tools: Debian's U-Boot and EDK2 for QEMU, what partitions and fills
a disk image, what lists the parts of a release. All of it lands under target/, which needs
no root; Debian packages that the machine has installed are used as they are."""

import os
import shutil
import tempfile
from pathlib import Path

from . import apt
from .common import ROOT, TARGET, Usage, last_line, run, say

# By the way it boots: the package, and the file in it.
FIRMWARE = {
    "u-boot": ("u-boot-qemu", "usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    "edk2": ("qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
}
# Each tool and its package.
DISK_TOOLS = {"sfdisk": "fdisk", "mformat": "mtools", "mcopy": "mtools", "mmd": "mtools"}
# From the Rust registry: what lists the parts of a release.
CYCLONEDX = ("cargo-cyclonedx", "0.5.9")
HOME = TARGET / "tools"
# Where Debian keeps them, on the PATH of users or not.
PLACES = ["usr/bin", "usr/sbin", "sbin"]


def firmware(via):
    """The firmware for a way to boot."""
    name = FIRMWARE[via][1]
    found = next((root / name for root in (HOME, Path("/")) if (root / name).exists()), None)
    if not found:
        raise Usage(f"no {via} here: run `scripts/setup firmware`")
    return found


def tool(name):
    """A tool's path."""
    places = [os.environ.get("PATH", "/usr/bin"), "/usr/sbin", "/sbin"]
    found = shutil.which(name, path=":".join([*places, *(str(HOME / place) for place in PLACES)]))
    if not found:
        raise Usage(f"no {name} here: run `scripts/setup disk`")
    return found


def _are_there(find, names):
    try:
        return all(find(name) for name in names)
    except Usage:
        return False


def firmware_ready():
    return _are_there(firmware, FIRMWARE)


def disk_tools_ready():
    return _are_there(tool, DISK_TOOLS)


def cyclonedx():
    """The tool that makes bills of materials."""
    found = HOME / "bin" / CYCLONEDX[0]
    if not found.exists():
        raise Usage("no cargo-cyclonedx here: run `scripts/setup dist`")
    return found


def cyclonedx_ready():
    return _are_there(lambda _: cyclonedx(), ["it"])


def set_up_cyclonedx():
    name, version = CYCLONEDX
    say(f"setup: building {name} {version} (from the Rust registry; takes some minutes)")
    result = run("cargo", "install", "--locked", "--quiet", "--root", HOME, "--version", version,
                 name, cwd=ROOT)
    if result.returncode != 0:
        raise Usage(f"cargo could not install {name}: {last_line(result.stdout)}")


def _bring(package, wanted):
    """Unpacks a package, and keeps of it what is `wanted`."""
    source = apt.Apt()
    with tempfile.TemporaryDirectory(dir=TARGET) as folder:
        source.unpack(package, None, folder)
        for path in wanted:
            if not (Path(folder) / path).exists():
                raise Usage(f"{package} has no {path}")
            (HOME / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(folder) / path, HOME / path)


def set_up_firmware():
    packages = " and ".join(package for package, _ in FIRMWARE.values())
    say(f"setup: getting firmware to boot by (Debian's {packages})")
    for package, path in FIRMWARE.values():
        _bring(package, [path])


def set_up_disk_tools():
    say("setup: getting the tools that make disk images (Debian's fdisk, mtools)")
    _bring("fdisk", ["sbin/sfdisk"])
    # The others are names of this one.
    _bring("mtools", ["usr/bin/mtools"])
    for name in ("mformat", "mcopy", "mmd"):
        link = HOME / "usr/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("mtools")
