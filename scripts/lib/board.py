"""A board's recipe, `boards/NAME/board.toml`: what it is flashed with, and how QEMU
starts that where QEMU has such a board."""

import tomllib

from . import tree as trees
from .common import HOST, ROOT, TARGET, Usage

BOARDS = ROOT / "boards"
# What is booted, by the way that it is booted.
FILES = {"kernel": "Image", "flash": "flash.img", "u-boot": "disk.img", "edk2": "disk.img"}


def names():
    """The boards that have an image."""
    return sorted({path.parent.name for path in BOARDS.glob("*/Cargo.toml")} - {HOST})


def recipe(name):
    """A board's recipe."""
    if name not in names():
        raise Usage(f"no board `{name}`; there are: {', '.join(names())}")
    path = BOARDS / name / "board.toml"
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Usage(f"{path.relative_to(ROOT)}: {error}")


def started_by_qemu(name):
    """Whether QEMU has such a board."""
    return "qemu" in recipe(name)


def images(name):
    """Where a board's images are."""
    return TARGET / "images" / name


def started(name, via=None):
    """How QEMU starts a board: the way, and the machine, CPU and memory for it."""
    whole = recipe(name)
    if not started_by_qemu(name):
        raise Usage(f"QEMU has no board `{name}`: `make image BOARD={name}` is for the real one")
    ways = whole["via"]
    via = via or next(iter(ways))
    if via not in ways:
        raise Usage(f"{name} does not boot by `{via}`; it does by: {', '.join(ways)}")
    return via, {"first-slot": 1, "arguments": [], **whole["qemu"], **ways[via]}


def tree(name):
    """The blob of the tree that a board's flash has, if it has one."""
    source = recipe(name).get("flash", {}).get("tree")
    return trees.compile_source((ROOT / source).read_text()) if source else None
