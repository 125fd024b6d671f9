"""Blobs that are no tree, or no tree to boot with: said, with a status, soon."""

import struct

import pytest
import trees
from bench import IMAGE
from rawboot import raw_options

pytestmark = pytest.mark.lg_feature("qemu")
# Offsets in the header (devicetree specification 0.4 §5.2).
MAGIC, TOTAL_SIZE, STRUCT_OFFSET, STRINGS_OFFSET, VERSION, STRUCT_SIZE = 0, 4, 8, 12, 20, 36


def with_word(offset, value):
    return lambda blob: blob[:offset] + struct.pack(">I", value) + blob[offset + 4 :]


def word(blob, offset):
    return struct.unpack_from(">I", blob, offset)[0]


def bad_token(blob):
    """A token that does not exist, in the middle of the structure block."""
    _, start, _ = trees.root_children(blob)[3]
    return with_word(start, 0x77)(blob)


def endless_property(blob):
    """A property that claims to be longer than the blob."""
    at = word(blob, STRUCT_OFFSET)
    while word(blob, at) != trees.PROP:
        at += 4
    return with_word(at + 4, 0x7FFF_FFFF)(blob)


BREAKS = {
    "no-magic": with_word(MAGIC, 0),
    "total-size-zero": with_word(TOTAL_SIZE, 0),
    "total-size-huge": with_word(TOTAL_SIZE, 0xFFFF_FFF0),
    "structure-outside": with_word(STRUCT_OFFSET, 0xFFFF_FF00),
    "strings-outside": with_word(STRINGS_OFFSET, 0xFFFF_FF00),
    "future-version": lambda blob: with_word(VERSION, 99)(with_word(VERSION + 4, 99)(blob)),
    "bad-token": bad_token,
    "endless-property": endless_property,
}


def with_root_tail(blob, tail):
    """The blob with more at the end of its root: packed, so strings come last."""
    structure, strings = word(blob, STRUCT_OFFSET), word(blob, STRINGS_OFFSET)
    size = word(blob, STRUCT_SIZE)
    assert structure + size <= strings
    # The root's end and the tree's are the last two words.
    at = structure + size - 8
    grown = blob[:at] + tail + blob[at:]
    for offset, old in ((TOTAL_SIZE, len(blob)), (STRINGS_OFFSET, strings), (STRUCT_SIZE, size)):
        grown = with_word(offset, old + len(tail))(grown)
    return grown


def many_nodes(blob):
    nodes = b"".join(
        struct.pack(">I4sI", trees.BEGIN_NODE, b"%03x" % (index % 0xFFF), trees.END_NODE)
        for index in range(140_000)
    )
    return with_root_tail(blob, nodes)


def long_property(blob):
    length, name = 1_900_000, blob.index(b"\0stdout-path\0") + 1 - word(blob, STRINGS_OFFSET)
    node = struct.pack(">I4s3I", trees.BEGIN_NODE, b"big", trees.PROP, length, name)
    return with_root_tail(blob, node + bytes(length) + struct.pack(">I", trees.END_NODE))


@pytest.mark.parametrize("grown", [many_nodes, long_property])
def test_valid_blob_of_almost_2_mib_is_no_crash(boot, tmp_path, grown):
    blob = grown(trees.machine_tree(boot, bootargs="report=json"))
    assert len(blob) < 2 << 20
    booted = boot(timeout=60, **raw_options(tmp_path, IMAGE, blob))
    too_large = [line for line in booted.lines if "device tree" in line and "too large" in line]
    assert (booted.status, len(too_large)) in [(0, 0), (1, 1)]


def test_memory_that_is_not_there_is_reported(boot, tmp_path):
    overlay = tmp_path / "memory.dtso"
    overlay.write_text("&{/memory@40000000} { reg = <0 0 0x1000 0>; };\n")
    blob = trees.tree.overlaid(trees.machine_tree(boot), [overlay])
    booted = boot(timeout=60, **raw_options(tmp_path, IMAGE, blob))
    assert booted.status == 1
    assert any("no memory at 0xffffffffff8" in line for line in booted.lines)


@pytest.mark.parametrize("broken", BREAKS)
def test_broken_blob_is_reported(boot, tmp_path, broken):
    blob = BREAKS[broken](trees.machine_tree(boot))
    booted = boot(timeout=30, **raw_options(tmp_path, IMAGE, blob))
    assert booted.status == 1
    assert any("tree" in line for line in booted.lines)


def test_tree_without_memory_is_reported(boot, tmp_path):
    blob = trees.overlaid(trees.machine_tree(boot), "no-memory").read_bytes()
    booted = boot(timeout=30, **raw_options(tmp_path, IMAGE, blob))
    assert booted.status == 1
    assert any("memory" in line for line in booted.lines)


def test_no_tree_at_all_is_reported(boot, tmp_path):
    # x0 points at zeroes.
    booted = boot(timeout=30, **raw_options(tmp_path, IMAGE, bytes(64)))
    assert booted.status == 1
    assert any("tree" in line for line in booted.lines)
