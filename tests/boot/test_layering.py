"""The layering check itself: on this tree it finds nothing, on a bad one all."""

import copy
import json
import subprocess

import pytest
from conftest import ROOT
from lib import layering


@pytest.fixture(scope="module")
def metadata():
    line = ["cargo", "metadata", "--no-deps", "--format-version=1"]
    return json.loads(subprocess.run(line, cwd=ROOT, capture_output=True, check=True).stdout)


def test_this_tree_is_clean(metadata):
    assert list(layering.violations(metadata)) == []


@pytest.mark.parametrize("user, used, kind, said", [
    ("core", "nvme", None, "kernel/core uses drivers/nvme"),
    ("core", "hw", None, "kernel/core uses kernel/hw"),
    ("dt", "core", None, "kernel/dt uses kernel/core"),
    ("nvme", "arch", None, "drivers/nvme uses kernel/arch"),
    ("nvme", "smmuv3", None, "drivers/nvme uses drivers/smmuv3"),
    ("nvme", "pgtable", "build", "drivers/nvme uses kernel/pgtable"),
    ("edu", "qemu-virt", None, "nothing depends on a board"),
    ("shell", "testkit", None, "outside its dev-dependencies"),
    ("qemu-virt", "testkit", None, "outside its dev-dependencies"),
    ("host", "testkit", None, "outside its dev-dependencies"),
    ("host", "arch", None, "a host has no hardware"),
    ("qemu-virt", "host", None, "nothing depends on a board"),
])
def test_a_dependency_the_wrong_way_is_found(metadata, user, used, kind, said):
    changed = copy.deepcopy(metadata)
    package, = (p for p in changed["packages"] if p["name"] == f"mastiff-{user}")
    package["dependencies"].append({"name": f"mastiff-{used}", "kind": kind})
    found = list(layering.dependency_violations(layering.crates(changed)))
    assert len(found) == 1 and said in found[0]


def test_tests_may_use_the_testkit(metadata):
    changed = copy.deepcopy(metadata)
    package, = (p for p in changed["packages"] if p["name"] == "mastiff-hw")
    package["dependencies"].append({"name": "mastiff-testkit", "kind": "dev"})
    assert list(layering.dependency_violations(layering.crates(changed))) == []


def crate(folder, layer, name):
    """A made-up crate on disk."""
    found = layering.Crate.__new__(layering.Crate)
    found.folder, found.layer, found.name, found.uses = folder, layer, name, []
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text("[lints]\nworkspace = true\n")
    return found


@pytest.mark.parametrize("layer, file, text, clean", [
    ("drivers", "lib.rs", "#![forbid(unsafe_code)]\n", True),
    ("drivers", "lib.rs", "// #![forbid(unsafe_code)]\n", False),
    ("boards", "main.rs", "// unsafe in words only\n", True),
    ("boards", "main.rs", "unsafe { stub() }\n", False),
    ("boards", "main.rs", "#[unsafe(no_mangle)]\n", False),
])
def test_unsafe_out_of_place_is_found(tmp_path, layer, file, text, clean):
    made = crate(tmp_path, layer, "made-up")
    (tmp_path / "src" / file).write_text(text)
    assert (not list(layering.unsafe_violations({"x": made}))) == clean


def test_a_crate_without_the_workspaces_lints_is_found(tmp_path):
    made = crate(tmp_path, "drivers", "made-up")
    assert not list(layering.lint_violations({"x": made}))
    (tmp_path / "Cargo.toml").write_text("[package]\n")
    assert list(layering.lint_violations({"x": made}))
