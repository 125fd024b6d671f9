"""Boards: every recipe makes its image, every list fits its tree, and a board made by the
documentation builds."""

import json
import os
import re
import shutil
import struct
import subprocess

import pytest
from conftest import ROOT
from lib import board
from lib.common import run
from lib.tools import tool

TREES = {
    "fvp-base": "arm/fvp-base-revc.dtb",
    "rock-5b": "rockchip/rk3588-rock-5b.dtb",
    "beaglebone-ai64": "ti/k3-j721e-beagleboneai64.dtb",
}
# What a list must have bound there, besides interrupts, time and a console.
BOUND = {
    "fvp-base": {"pl011", "smmuv3", "pcie"},
    "rock-5b": {"uart-8250", "dw-pcie"},
    "beaglebone-ai64": {"uart-8250", "smmuv3"},
}
CORPUS = ROOT / "target/corpus/arm64"
BLOCK = re.compile(r"^`boards/([^`]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.S | re.M)


def test_every_board_has_a_recipe_and_a_line_in_the_documentation():
    documented = (ROOT / "docs/boards.md").read_text()
    assert set(TREES) | {"qemu-virt", "sbsa-ref"} == set(board.names())
    for name in board.names():
        assert isinstance(board.recipe(name), dict)
        status = "run in QEMU" if board.started_by_qemu(name) else "built only"
        assert re.search(rf"^\| `{name}` \| [^|]+ \| {status} \|", documented, re.M), name


@pytest.mark.parametrize("command_line", [
    ["make", "image"], ["make", "run"], ["scripts/qemu", "--board", "acme-9"],
    ["scripts/make-image", "acme-9"], ["scripts/dist", "acme-9"]], ids=" ".join)
def test_a_board_that_does_not_exist_is_one_line(command, command_line):
    if command_line[0] == "make":
        command_line = [*command_line, "BOARD=acme-9"]
    result = command(*command_line)
    said = [line for line in result.stderr.splitlines() if not line.startswith("make:")]
    assert result.returncode == 2 and result.stdout == ""
    assert len(said) == 1 and "no board `acme-9`" in said[0] and "qemu-virt" in said[0]


def test_a_board_that_qemu_has_not_is_not_run(command):
    result = command("scripts/qemu", "--board", "rock-5b")
    assert (result.returncode, result.stdout) == (2, "")
    assert "rock-5b" in result.stderr and "make image" in result.stderr


# What `file` takes them for.
LOOKS = {
    "Image": "Linux kernel ARM64 boot executable Image, little-endian, 4K pages",
    "flash.img": "Linux kernel ARM64 boot executable Image, little-endian, 4K pages",
    "disk.img": "DOS/MBR boot sector; partition 1 : ID=0xef, active",
    "mastiff.elf": "ELF 64-bit LSB pie executable, ARM aarch64",
}


def look_at(folder, recipe):
    """Whether all files of a board are there, and are what the documentation says."""
    expected = {"Image", "mastiff.elf"} | {f"{kind}.img" for kind in ("disk", "flash") if kind in recipe}
    assert {path.name for path in folder.iterdir()} == expected
    if shutil.which("file"):
        for name in expected:
            assert run("file", "--brief", folder / name).stdout.startswith(LOOKS[name])
    for kind in ("disk", "flash"):
        if kind in recipe:
            assert (folder / f"{kind}.img").stat().st_size == recipe[kind]["size"]


@pytest.mark.parametrize("name", ["qemu-virt", "sbsa-ref"])
def test_the_images_are_what_others_take_them_for(name):
    look_at(board.images(name), board.recipe(name))


@pytest.mark.thorough
@pytest.mark.parametrize("name", TREES)
def test_the_image_of_a_board_that_is_not_here(command, tmp_path, name):
    made = subprocess.run([ROOT / "scripts/make-image", "--out", tmp_path, name])
    assert made.returncode == 0
    image = (tmp_path / "Image").read_bytes()
    assert image[56:60] == b"ARM\x64" and image[:2] == b"MZ"
    look_at(tmp_path, board.recipe(name))
    if "disk" in board.recipe(name):
        table = run(tool("sfdisk"), "--json", tmp_path / "disk.img").stdout
        part, = json.loads(table)["partitiontable"]["partitions"]
        assert part["start"] == board.recipe(name)["disk"].get("first", 1 << 20) // 512
        assert part["bootable"] and part["type"] == "ef"


@pytest.mark.thorough
@pytest.mark.parametrize("name", TREES)
def test_the_list_of_a_board_fits_its_tree(name):
    if not (CORPUS / TREES[name]).exists():
        pytest.skip("no trees here: scripts/corpus brings them")
    planned = subprocess.run(
        ["cargo", "run", "--release", "--quiet", "--package", "mastiff-host", "--", "plan",
         "--json", "--board", name, CORPUS / TREES[name]], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    devices = [json.loads(line) for line in planned.stdout.splitlines()]
    drivers = {device["driver"] for device in devices if device["state"] == "bound"}
    assert {"gic", "arm-timer"} | BOUND[name] <= drivers
    assert [device["name"] for device in devices if device["state"] in ("waiting", "failed")] == []


@pytest.mark.thorough
@pytest.mark.last
def test_a_board_made_by_the_documentation_builds(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=lambda at, names: {"target", ".git"} & set(names))
    (tree / "target").mkdir()
    (tree / "target/tools").symlink_to(ROOT / "target/tools")
    blocks = BLOCK.findall((ROOT / "docs/adding-a-board.md").read_text())
    assert len(blocks) == 4
    for name, text in blocks:
        path = tree / "boards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = subprocess.run([tree / "scripts/make-image", "acme-1"], env=os.environ)
    assert made.returncode == 0
    image = (tree / "target/images/acme-1/Image").read_bytes()
    assert struct.unpack_from("<Q", image, 16)[0] >= len(image)
    assert (tree / "target/images/acme-1/disk.img").exists()
