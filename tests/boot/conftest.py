"""Fixtures of the boot tests: the bench, disks, and the commands of the tree."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(Path(__file__).parent)]

from bench import Bench  # noqa: E402
from lib.common import find_qemu, qemu_version  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "least_qemu(version, what): skipped where QEMU is older, and so lacks this")
    config.addinivalue_line("markers", "thorough: for `make test-all` only")
    config.addinivalue_line("markers", "last: takes so long that failures are better seen before")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_runtest_setup(item):
    for marker in item.iter_markers("least_qemu"):
        least, what = marker.args
        version = qemu_version(find_qemu())
        if version < (least,):
            this = ".".join(map(str, version))
            pytest.skip(f"{what}: from QEMU {least} on, this is {this}; `make setup-qemu-new` "
                        "brings one for QEMU=")


def make_disk(path, size):
    """A disk image of reproducible noise."""
    path.write_bytes(random.Random(size).randbytes(size))
    return path


@pytest.fixture(scope="session")
def disk(tmp_path_factory):
    """A small disk: enough for every test that is not about size."""
    return make_disk(tmp_path_factory.mktemp("disk") / "1MiB.img", 1 << 20)


@pytest.fixture(scope="session")
def boot(target, disk):
    """`boot(...)` boots and returns a `Booted`; see `Bench.start` for what it takes."""
    return Bench(target, disk)


@pytest.fixture(scope="session")
def default(boot):
    """One boot of the default machine, for the tests that only look at it."""
    return boot()


@pytest.fixture
def command():
    """Runs a command of the tree, such as `command("scripts/qemu", "--help")`."""

    def call(*words, **options):
        return subprocess.run(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300, **options,
        )

    return call
