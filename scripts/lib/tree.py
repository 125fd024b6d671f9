"""Device trees made for a boot: QEMU's own, with overlays on top.

QEMU's tree carries no `__symbols__`, so no overlay can refer to its labels.
The tree is decompiled instead, the overlays' fragments are appended to its
source, and all of it is compiled together; `&{/path}` reaches any node.
"""

import hashlib
import re
import struct
import tempfile
from pathlib import Path

from .common import TARGET, Usage, replace_file, run

TREES = TARGET / "dtb"
MAGIC = b"\xd0\x0d\xfe\xed"


def read(path):
    """The blob in a file; only that it is one is checked here."""
    blob = path.read_bytes()
    if blob[:4] != MAGIC:
        raise Usage(f"DTB {path}: not a device tree blob (compile sources with dtc)")
    return packed(blob)


def packed(blob):
    """The blob without the room at its end. QEMU dumps trees of a full MiB and
    doubles what it is given, and a kernel need not take more than 2 MiB."""
    if len(blob) < 40:
        return blob
    _, _, structure, strings, _, _, _, _, strings_size, structure_size = struct.unpack_from(
        ">10I", blob
    )
    end = max(structure + structure_size, strings + strings_size)
    if not 40 <= end <= len(blob):
        return blob
    return blob[:4] + struct.pack(">I", end) + blob[8:end]


def _dtc(*arguments):
    result = run("dtc", "-q", *arguments)
    if result.returncode != 0:
        lines = [line for line in result.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "rror" in line] or lines or ["dtc failed"]
        raise Usage(errors[0].strip().removeprefix("Error: "))


def dump(command):
    """The tree that QEMU would hand to the kernel of this command line."""
    with tempfile.TemporaryDirectory(prefix="mastiff-") as folder:
        path = Path(folder) / "qemu.dtb"
        line = list(command)
        line[line.index("-M") + 1] += f",dumpdtb={path}"
        result = run(*line)
        if not path.exists():
            said = [line for line in result.stdout.splitlines() if line and "warning:" not in line]
            raise Usage(f"QEMU made no tree: {said[0] if said else 'it said nothing'}")
        return packed(path.read_bytes())


def decompile(blob):
    """A tree's source."""
    with tempfile.TemporaryDirectory(prefix="mastiff-") as folder:
        tree, source = Path(folder) / "tree.dtb", Path(folder) / "tree.dts"
        tree.write_bytes(blob)
        _dtc("-I", "dtb", "-O", "dts", "-o", source, tree)
        return source.read_text()


def compile_source(text):
    """The blob of a tree's source."""
    with tempfile.TemporaryDirectory(prefix="mastiff-") as folder:
        source, tree = Path(folder) / "tree.dts", Path(folder) / "tree.dtb"
        source.write_text(text)
        _dtc("-I", "dts", "-O", "dtb", "-o", tree, source)
        return tree.read_bytes()


# What opens an overlay's source, or something in which that would be other text.
HEADER = re.compile(r'("(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/)|/(?:dts-v1|plugin)/\s*;', re.S)


def _body(source):
    """An overlay's source without its headers, every line where it was."""
    return HEADER.sub(lambda match: match[1] or "\n" * match[0].count("\n"), source)


def overlaid(blob, overlays):
    """The blob with the overlays' fragments applied, in their order."""
    parts = [decompile(blob)]
    for path in overlays:
        # The line marker makes dtc's errors name the overlay.
        parts.append(f'# 1 "{path}"\n{_body(Path(path).read_text())}')
    return compile_source("\n".join(parts) + "\n")


def with_bootargs(blob, text):
    """The blob with this as the kernel's command line."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return compile_source(f'{decompile(blob)}\n/ {{ chosen {{ bootargs = "{quoted}"; }}; }};\n')


def keep(blob):
    """Stores a tree under a name made from its content, for `-dtb`."""
    path = TREES / f"{hashlib.sha256(blob).hexdigest()[:16]}.dtb"
    if not path.exists():
        replace_file(path, blob)
    return path
