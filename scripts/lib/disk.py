"""A disk or SD card that boot loaders start from: one FAT partition with the image where
EFI looks for one (UEFI §3.5.1.1), and an `extlinux.conf` that U-Boot finds by itself. Made
from the same input it is the same to the byte."""

import os
import tempfile
from pathlib import Path

from .common import Usage, last_line, run
from .tools import tool

SECTOR = 512
MIB = 1 << 20
IMAGE = "EFI/BOOT/BOOTAA64.EFI"
FOLDERS = ["extlinux", "EFI", "EFI/BOOT"]
# An EFI system partition, which U-Boot takes as readily as any FAT.
TYPE = "ef"
LABEL = 0x4D61_7374
# FAT keeps times, in local time: the oldest that it can.
SAME_TIME = {"SOURCE_DATE_EPOCH": "315532800", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1",
             "MTOOLSRC": "/dev/null"}


def _call(name, *words, **options):
    result = run(tool(name), *words, env=dict(os.environ, **SAME_TIME), **options)
    if result.returncode != 0:
        raise Usage(f"{name} did not make the disk image: {last_line(result.stdout)}")


def extlinux(recipe):
    """What U-Boot reads: the file that it starts, and with what command line."""
    lines = ["default mastiff", "label mastiff", f"    kernel /{IMAGE}"]
    if "append" in recipe["disk"]:
        lines.append(f"    append {recipe['disk']['append']}")
    return "\n".join(lines) + "\n"


def make(path, recipe, image):
    """Writes the disk image."""
    size, first = recipe["disk"]["size"], recipe["disk"].get("first", MIB)
    # A quarter of it is more than FAT takes.
    if len(image) > (size - first) * 3 // 4:
        raise Usage(f"the image of {len(image):#x} bytes does not fit the disk: "
                    f"its partition has {max(size - first, 0):#x}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft, part = Path(folder) / "disk", f"{folder}/disk@@{first}"
        table = Path(folder) / "table"
        table.write_text(f"label: dos\nlabel-id: {LABEL:#x}\n"
                         f"start={first // SECTOR}, type={TYPE}, bootable\n")
        with open(draft, "wb") as file:
            file.truncate(size)
        with open(table) as lines:
            _call("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", draft, stdin=lines)
        _call("mformat", "-i", part, "-F", "-N", f"{LABEL:08x}", "-T", (size - first) // SECTOR,
              "-h", 16, "-s", 63, "-H", first // SECTOR, "-v", "MASTIFF", "::")
        for name in FOLDERS:
            _call("mmd", "-i", part, f"::{name}")
        files = {"extlinux/extlinux.conf": extlinux(recipe).encode(), IMAGE: image}
        for name, data in files.items():
            file = Path(folder) / "file"
            file.write_bytes(data)
            _call("mcopy", "-i", part, file, f"::{name}")
        draft.replace(path)
