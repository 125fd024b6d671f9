"""Fixtures of the boot tests: the bench, disks, and the commands of the tree."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from labgrid.pytestplugin.hooks import LABGRID_ENV_KEY

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(Path(__file__).parent)]

from bench import Bench  # noqa: E402
from lib.common import find_qemu, qemu_version  # noqa: E402


def pytest_configure(config):
    # Of the places that are held for this run, each worker has one to itself.
    worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
    if places := os.environ.get("LG_PLACES", "").split():
        os.environ["LG_PLACE"] = places[int(worker.removeprefix("gw")) % len(places)]
    config.addinivalue_line(
        "markers", "least_qemu(version, what): skipped where QEMU is older, and so lacks this")
    config.addinivalue_line("markers", "thorough: for `make test-all` only")
    config.addinivalue_line("markers", "last: takes so long that failures are better seen before")


def pytest_collection_modifyitems(config, items):
    env = config.stash[LABGRID_ENV_KEY]
    if env and "qemu" not in env.get_target_features():
        # A board is for what boots it.
        idle = [item for item in items if "boot" not in item.fixturenames]
        items[:] = [item for item in items if "boot" in item.fixturenames]
        config.hook.pytest_deselected(items=idle)
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


def starts_qemu(target):
    """Whether the boots are QEMUs of this process, and not a board's."""
    return "BoundedQEMUDriver" in {type(driver).__name__ for driver in target.drivers}


@pytest.fixture(scope="session")
def disk(env, target, tmp_path_factory):
    """A small disk: enough for every test that is not about size. On a board it is the one
    that it has."""
    if starts_qemu(target):
        return make_disk(tmp_path_factory.mktemp("disk") / "1MiB.img", 1 << 20)
    images = env.config.get_images()
    if "disk" not in images:
        pytest.skip("the lab file does not say what is on the board's disk (images: disk:)")
    return Path(images["disk"])


@pytest.fixture(scope="session")
def boot(request, target):
    """`boot(...)` boots and returns a `Booted`; see `Bench.start` for what it takes, and
    `PlaceBench.start` for what it takes on a board as it is."""
    if starts_qemu(target):
        return Bench(target, request.getfixturevalue("disk"))
    from place import PlaceBench

    return PlaceBench(target)


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
