"""Blobs that are no tree, or no tree to boot with: said, with a status, soon."""

import struct

import pytest
import trees
from bench import IMAGE
from rawboot import raw_options

pytestmark = pytest.mark.lg_feature("qemu")
# Offsets in the header (devicetree specification 0.4 §5.2).
MAGIC, TOTAL_SIZE, STRUCT_OFFSET, STRINGS_OFFSET, VERSION = 0, 4, 8, 12, 20


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
