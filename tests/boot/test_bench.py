"""What reads cost: counted by the kernel, and checked to be reads of the disks."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
from conftest import ROOT

# Counting, and the second disk, are QEMU's.
pytestmark = pytest.mark.lg_feature("qemu")

# What a read may take at most, in instructions, and how many waits for the IOMMU; a bit
# more than it does.
BOUNDS = {"read-4k-qd1": (2000, 1), "read-4k-qd32": (900, 1 / 16), "read-128k-qd32": (1500, 1 / 16)}


@pytest.fixture(scope="module")
def script():
    """scripts/bench, which knows what is read."""
    loader = SourceFileLoader("bench_script", str(ROOT / "scripts/bench"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_reads_are_counted_and_are_of_the_disks(boot, disk, script):
    booted = boot(run="bench disk", qemu_args=f"-icount shift=0 {script.NULL}")
    assert booted.status == 0
    rows = [script.check(row, disk) for row in booted.records("bench")]
    assert {(row["name"], row["backend"]) for row in rows} == {
        (name, backend) for name in BOUNDS for backend in ("file", "null")}
    for row in rows:
        insn, syncs = BOUNDS[row["name"]]
        assert row["insn"] <= insn, row
        assert row["syncs"] == syncs, row
        assert row["n"] >= 1000


def test_what_is_not_on_the_disk_fails_the_bench(boot, disk, script, tmp_path):
    booted = boot(run="disk 00:01.0 bench", qemu_args="-icount shift=0")
    row = booted.records("bench")[0]
    script.check(dict(row), disk)
    other = tmp_path / "other.img"
    other.write_bytes(bytes(disk.stat().st_size))
    with pytest.raises(script.Failed):
        script.check(dict(row), other)
