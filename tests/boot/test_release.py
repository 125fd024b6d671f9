"""Releases: the same to the byte wherever they are built, and crates that can be packaged."""

import json
import os
import shutil
import subprocess

import pytest
from conftest import ROOT
from lib import packages
from lib.machine import sha256

pytestmark = pytest.mark.thorough
BOARD = "sbsa-ref"
MINUTE = 60


def released(folder):
    """A release of one board, from a copy of the tree in this folder."""
    shutil.copytree(ROOT, folder, ignore=lambda at, names: {"target", ".git"} & set(names))
    (folder / "target").mkdir()
    (folder / "target/tools").symlink_to(ROOT / "target/tools")
    environment = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
    made = subprocess.run([folder / "scripts/dist", "--out", folder / "out", BOARD],
                          env=environment, stdin=subprocess.DEVNULL, timeout=30 * MINUTE)
    assert made.returncode == 0
    return folder / "out"


@pytest.mark.last
def test_builds_in_different_folders_are_the_same(tmp_path):
    first, second = released(tmp_path / "a"), released(tmp_path / "another place")
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert {f"{BOARD}/Image", f"{BOARD}/mastiff.elf", f"{BOARD}/flash.img"} <= set(names)
    assert [name for name in names if sha256(first / name) != sha256(second / name)] == []
    assert str(tmp_path).encode() not in (first / BOARD / "mastiff.elf").read_bytes()
    check = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=second)
    assert check.returncode == 0
    bill = json.loads((first / BOARD / "mastiff.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"] for part in bill["components"]}
    assert {"mastiff-smmuv3", "fdt", "spin"} <= parts


@pytest.mark.last
def test_every_reusable_crate_can_be_packaged(tmp_path):
    names = packages.names()
    assert {"mastiff-core", "mastiff-dt", "mastiff-pgtable", "mastiff-smmuv3"} <= set(names)
    # Each is built from its package, with the others' packages beside it.
    made = packages.make(tmp_path)
    assert [file.name.rsplit("-", 1)[0] for file in made] == names
    assert [line for file in made for line in packages.problems(file)] == []
