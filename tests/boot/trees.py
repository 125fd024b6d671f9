"""Device trees for the tests: QEMU's own, changed in one way or another."""

import struct
import tempfile
from pathlib import Path

from bench import IMAGE
from lib import machine, tree

DTS = Path(__file__).resolve().parents[2] / "dts"
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9


def machine_tree(boot, **options):
    """The tree that QEMU makes for a bench's machine."""
    return tree.dump(machine.command(machine.Boot(kernel=IMAGE, disk=boot.disk, **options)))


def overlaid(blob, *names, patch=""):
    """The blob under overlays of `dts/`, and under one of this text on top; stored as a
    file for `-dtb`."""
    with tempfile.NamedTemporaryFile("w", suffix=".dtso") as last:
        last.write(patch)
        last.flush()
        overlays = [DTS / f"{name}.dtso" for name in names]
        return tree.keep(tree.overlaid(blob, [*overlays, last.name]))


def _token(blob, at):
    """(token, name of a node, next offset) at an offset of the structure block."""
    token, = struct.unpack_from(">I", blob, at)
    at += 4
    if token == BEGIN_NODE:
        end = blob.index(b"\0", at)
        return token, blob[at:end].decode(), (end + 4) & ~3
    if token == PROP:
        length, = struct.unpack_from(">I", blob, at)
        return token, None, (at + 8 + length + 3) & ~3
    return token, None, at


def root_children(blob):
    """(name, start, end) of each child of the root, as they lie in the blob."""
    at, = struct.unpack_from(">I", blob, 8)
    depth, found, start = 0, [], None
    while True:
        token, name, after = _token(blob, at)
        if token == BEGIN_NODE:
            depth += 1
            if depth == 2:
                start = (name, at)
        elif token == END_NODE:
            depth -= 1
            if depth == 1:
                found.append((*start, after))
        elif token == END:
            return found
        at = after


def reordered(blob, key):
    """The same tree with the root's children sorted by `key` of their names."""
    children = root_children(blob)
    first, last = children[0][1], children[-1][2]
    body = b"".join(blob[start:end] for _, start, end in sorted(children, key=lambda c: key(c[0])))
    assert len(body) == last - first
    return blob[:first] + body + blob[last:]
