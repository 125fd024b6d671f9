"""The lab: what its files must say, how places are taken and given back, and that the tests
come to the same on places of a coordinator as on QEMU here."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import attr
import pytest
from conftest import ROOT
from lib import board, results
from lib.common import die_with_parent
from test_runner import gone, qemus_of, refused

# In the environment that it needs, without looking for that.
LAB = [sys.executable, ROOT / "scripts/lab"]
PLACE = ROOT / "boards/qemu-virt/place.yaml"
FILES = sorted(path for path in ROOT.glob("boards/*/*.yaml"))
# What the files of boards on a desk leave open.
DESK = {"LG_SERIAL": "/dev/null", "LG_POWER_MODEL": "rest", "LG_POWER_HOST": "http://127.0.0.1:1/",
        "LG_POWER_INDEX": "0"}
CONSOLE_ONLY = """
options: {board: rock-5b}
targets: {main: {resources: {}, drivers: {NetworkPowerDriver: {}}}}
"""
UNPLUGGED = """
options: {board: rock-5b}
targets: {main: {resources: {NetworkPowerPort: {model: rest, host: a, index: 0}},
                 drivers: {SerialDriver: {}, NetworkPowerDriver: {}}}}
"""


def environment(**more):
    """The caller's, without what it says of a lab."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LG_")} | more


def test_every_board_has_a_lab_file_of_use(command):
    assert {path.parent.name for path in FILES if path.name == "lab.yaml"} == set(board.names())
    for path in FILES:
        checked = command(*LAB, "check", str(path), env=environment(**DESK))
        assert (checked.returncode, checked.stdout.strip()) == (0, path.parent.name), checked.stderr


@pytest.mark.parametrize("text, named", [
    ("[1,\n - a: b: c", ["configuration"]), ("", ["empty"]), ("just words", ["target `main`"]),
    ("targets: {main: }", ["target `main`"]), ("targets: {main: {drivers: {Nonsense: {}}}}", ["Nonsense"]),
    (CONSOLE_ONLY, ["no console", "NetworkPowerDriver"]), (UNPLUGGED, ["SerialPort", "SerialDriver"]),
    ((ROOT / "boards/rock-5b/desk.yaml").read_text().replace("../..", str(ROOT)), ["LG_SERIAL"]),
    (PLACE.read_text().replace("../..", str(ROOT)).replace("board: qemu-virt", "board: nowhere"),
     ["nowhere", "rock-5b"]),
    ("targets: {main: {drivers: {}}}", ["no console"]),
], ids=str)
def test_a_lab_file_of_no_use_is_refused(command, tmp_path, text, named):
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    assert refused(command(*LAB, "check", str(path), env=environment()), str(path), *named)


def test_scripts_test_takes_no_lab_file_of_no_use(command, tmp_path):
    assert refused(command("scripts/test", "--lab", "/no/such.yaml"), "/no/such.yaml")
    (tmp_path / "lab.yaml").write_text(CONSOLE_ONLY)
    env = environment(LAB=str(tmp_path / "lab.yaml"))
    assert refused(command("scripts/test", env=env), "no console")


def test_what_qemu_is_told_is_not_for_boards(command):
    env = environment(QEMU_ARGS="-snapshot")
    assert refused(command(*LAB, "check", str(PLACE), env=env), "QEMU_ARGS", str(PLACE))


def on_place(command, *words, **variables):
    return command(*LAB, "run", str(PLACE), "--", *words, env=environment(**variables))


def test_a_coordinator_that_is_not_there_is_named(command):
    # Nobody can listen at port 1 without being root, and nobody does.
    assert refused(on_place(command, "true", LG_COORDINATOR="127.0.0.1:1"), "127.0.0.1:1")


class Farm:
    """`scripts/farm` for as long as it is held."""

    def __init__(self, *words):
        env = environment(TMPDIR=os.environ.get("TMPDIR", "/tmp"))
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "scripts/farm", *words, "--", "sh", "-c", 'echo "$LG_COORDINATOR"; cat'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            preexec_fn=die_with_parent, start_new_session=True)
        self.coordinator = self.process.stdout.readline().strip()

    def children(self):
        return qemus_of(self.process.pid)

    def end(self):
        """By the end of its command; its status."""
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def farm():
    farm = Farm()
    try:
        assert farm.coordinator
        yield farm
        children = farm.children()
        assert farm.end() == 0 and all(gone(child) for child in children)
    finally:
        farm.process.kill()
        farm.process.wait()


def test_places_are_held_and_given_back(command, farm):
    # What runs while both places are held finds none, waits, and says who has them.
    inner = [*LAB, "run", PLACE, "--", "echo", "not reached"]
    for place in ("", "emulated-1"):
        held = on_place(command, *inner, LG_COORDINATOR=farm.coordinator, LG_PLACE=place, LG_WAIT="0")
        assert (held.returncode, held.stdout) == (2, "")
        said = held.stderr.splitlines()[-1]
        assert farm.coordinator in said and "emulated-1 (held by " in said and "LG_WAIT" in said
    # They were given back each time, by a command that failed as well.
    free = on_place(command, "sh", "-c", 'echo "$LG_PLACES"; exit 7', LG_COORDINATOR=farm.coordinator)
    assert (free.returncode, free.stdout) == (7, "emulated-0 emulated-1\n")


def test_a_place_that_is_not_there_is_named(command, farm):
    result = on_place(command, "true", LG_COORDINATOR=farm.coordinator, LG_PLACE="emulated-9")
    assert refused(result, "emulated-9", farm.coordinator, "emulated-0, emulated-1")
    rock = command(*LAB, "run", str(ROOT / "boards/rock-5b/lab.yaml"), "--", "true",
                   env=environment(LG_COORDINATOR=farm.coordinator))
    assert refused(rock, "board=rock-5b", farm.coordinator)


def test_a_place_without_a_console_is_named(command, farm):
    client = [sys.executable, "-m", "labgrid.remote.client", "-x", farm.coordinator, "-p", "half"]
    for words in (["create"], ["add-match", "farm/emulated-0/NetworkPowerPort"]):
        assert command(*client, *words).returncode == 0
    result = on_place(command, "true", LG_COORDINATOR=farm.coordinator, LG_PLACE="half")
    assert refused(result, "place half", farm.coordinator, "SerialPort", "SerialDriver")
    assert command(*client, "delete").returncode == 0


# By its id, and as Ctrl-C does, which everybody on a terminal hears of.
@pytest.mark.parametrize("end", [
    lambda run: run.terminate(), lambda run: os.killpg(run.pid, signal.SIGINT)], ids=["TERM", "Ctrl-C"])
def test_a_place_is_given_back_by_tests_that_are_ended(command, farm, tmp_path, end):
    run = subprocess.Popen(
        [ROOT / "scripts/test", "--lab", PLACE, "--out", tmp_path, "tests/boot/test_shell.py"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(LG_COORDINATOR=farm.coordinator), start_new_session=True)
    try:
        assert any("2 workers" in line for line in run.stdout)
        end(run)
        assert run.wait(90) != 0
        free = on_place(command, "true", LG_COORDINATOR=farm.coordinator, LG_WAIT="0")
        assert free.returncode == 0, free.stderr
    finally:
        run.kill()
        run.wait()
        run.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=str)
def test_nothing_of_a_farm_outlives_it(number):
    farm = Farm("--boards", "1")
    try:
        assert farm.coordinator
        children = farm.children()
        # The coordinator, the exporter, the command.
        assert len(children) == 3
        # Ctrl-C is heard by the command as well.
        (os.killpg if number == signal.SIGINT else os.kill)(farm.process.pid, number)
        farm.process.wait(60)
        assert all(gone(child) for child in children)
    finally:
        farm.process.kill()
        farm.process.wait()
        farm.process.stdin.close()
        farm.process.stdout.close()


@pytest.mark.parametrize("words, named", [([], "no command"), (["--boards", "0", "--", "true"], "--boards 0")])
def test_a_farm_of_nothing_is_refused(command, words, named):
    assert refused(command("scripts/farm", *words), named)


def outcomes(folder):
    """What each test came to, and why those that were skipped were."""
    return {(suite.name, case.name): (case.outcome, case.reason)
            for suite in results.read_junit(folder / "junit.xml") for case in suite.cases}


def same_here_and_there(farm, folder, *words):
    """Runs the tests on the farm's places and here; how many of them ran there."""
    def run(where, *arguments, **variables):
        log = folder / f"{where}.log"
        with open(log, "w") as file:
            subprocess.run([ROOT / "scripts/test", "--out", folder / where, *arguments],
                           stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                           env=environment(**variables), timeout=3600)
        return outcomes(folder / where), log.read_text()

    there, log = run("there", "--lab", PLACE, *words, LG_COORDINATOR=farm.coordinator)
    # In parallel, each on a place of its own.
    assert re.search(r"emulated-0, emulated-1 of coordinator", log) and "2 workers" in log
    ran = {name: outcome for name, (outcome, _) in there.items() if outcome != "skipped"}
    assert ran, log
    # What does not run there needs a QEMU of its own, and says so.
    for outcome, reason in there.values():
        assert outcome != "skipped" or re.search("feature.*qemu|and this board", reason), reason
    here, log = run("here", *(f"tests/boot/{module.rpartition('.')[2]}.py::{name}" for module, name in ran))
    assert {name: outcome for name, (outcome, _) in here.items()} == ran, log
    assert set(ran.values()) == {"passed"}
    return len(ran)


def test_the_same_tests_come_to_the_same(farm, tmp_path):
    main_job = "tests/boot/test_default.py::test_main_job_succeeds_and_reads_the_disk"
    assert same_here_and_there(farm, tmp_path, "tests/boot/test_shell.py", main_job) >= 10


@pytest.mark.thorough
@pytest.mark.last
def test_the_whole_suite_comes_to_the_same(farm, tmp_path):
    assert same_here_and_there(farm, tmp_path) >= 40


class Deeds(list):
    """What a strategy had its drivers do, in order."""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """`made(*media)`: a board of stand-ins with these media, its strategy, and its deeds."""
    import strategy
    from labgrid import Environment, Target
    from labgrid.driver import UBootDriver, USBSDMuxDriver, USBStorageDriver
    from labgrid.driver.fake import FakeConsoleDriver, FakePowerDriver
    from labgrid.driver.provider import TFTPProviderDriver

    deeds = Deeds()

    @attr.s(eq=False)
    class Power(FakePowerDriver):
        def off(self):
            deeds.append("off")

        def cycle(self):
            deeds.append("cycle")

    @attr.s(eq=False)
    class UBoot(UBootDriver):
        def on_activate(self):
            deeds.append("prompt")

        def run_check(self, cmd):
            deeds.append(cmd)

    @attr.s(eq=False)
    class Mux(USBSDMuxDriver):
        bindings = {}

        def __attrs_post_init__(self):
            super(USBSDMuxDriver, self).__attrs_post_init__()

        def set_mode(self, mode):
            deeds.append(f"card to {mode}")

    @attr.s(eq=False)
    class Card(USBStorageDriver):
        bindings = {}

        def __attrs_post_init__(self):
            super(USBStorageDriver, self).__attrs_post_init__()

        def on_activate(self):
            pass

        def on_deactivate(self):
            pass

        def write_image(self, path):
            deeds.append(f"write {Path(path).name}")

    @attr.s(eq=False)
    class Tftp(TFTPProviderDriver):
        bindings = {}

        @property
        def provider(self):
            return attr.make_class("Provider", {"host": attr.ib("127.0.0.1")})()

        def stage(self, path):
            return f"lab/{Path(path).name}"

    def make(*media):
        (tmp_path / "lab.yaml").write_text("images: {card: disk.img, kernel: Image}\ntargets: {}\n")
        target = Target("main", env=Environment(str(tmp_path / "lab.yaml")))
        for kind in (Power, FakeConsoleDriver, UBoot, *({"card": Card, "mux": Mux, "tftp": Tftp}[m] for m in media)):
            kind(target, None)
        return strategy.BoardStrategy(target, None), deeds

    return make


def test_a_card_is_written_once_and_without_power(made):
    strategy, deeds = made("mux", "card")
    strategy.prompt()
    assert deeds == ["off", "card to host", "write disk.img", "card to dut", "cycle", "prompt"]
    deeds.clear()
    strategy.prompt()
    assert deeds == ["off", "cycle", "prompt"]


def test_an_image_is_offered_by_tftp(made):
    strategy, deeds = made("tftp")
    strategy.prompt()
    assert deeds == ["off", "cycle", "prompt", "setenv mastiff_file lab/Image", "setenv mastiff_server 127.0.0.1"]


def test_a_long_command_line_is_told_in_pieces(made):
    strategy, deeds = made()
    words = 'report=json run="' + "uptime; " * 100 + '"'
    strategy.set_arguments(words)
    first, *pieces = deeds
    assert first == "setenv bootargs" and all(len(piece) < 230 for piece in pieces)
    assert "".join(piece.split("'")[1] for piece in pieces) == words
