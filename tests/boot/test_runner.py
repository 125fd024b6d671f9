"""scripts/qemu and make run: what they refuse, how they end, what they leave."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from conftest import ROOT, make_disk
from lib.machine import sha256

pytestmark = pytest.mark.lg_feature("qemu")
QEMU = "scripts/qemu"


def refused(result, *named):
    """Status 2 and one line on stderr that names what is wrong."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    line, = result.stderr.splitlines()
    for word in named:
        assert word in line
    return True


def test_usage_errors_are_one_line_and_status_2(command, tmp_path):
    odd = tmp_path / "odd.img"
    odd.write_bytes(bytes(1000))
    (tmp_path / "empty.img").write_bytes(b"")
    (tmp_path / "wrong.dtso").write_text("&{/no/such/node} { a; };\n")
    for words, named in [
        (["--no-such-option"], ["--no-such-option"]),
        (["--disk", "/no/such.img"], ["DISK", "/no/such.img"]),
        (["--disk", tmp_path], ["DISK", "directory"]),
        (["--disk", odd], ["1000", "512"]),
        (["--disk", tmp_path / "empty.img"], ["DISK"]),
        (["--disk-write"], ["DISK="]),
        (["--dtb", "/no/such.dtb"], ["DTB", "/no/such.dtb"]),
        (["--dtb", odd], ["DTB", "device tree"]),
        (["--overlays", "/no/such.dtso"], ["/no/such.dtso"]),
        (["--overlays", tmp_path / "wrong.dtso"], ["wrong.dtso:1"]),
        (["--qemu", "/no/such/qemu"], ["/no/such/qemu"]),
        (["--qemu", "/bin/true"], ["/bin/true"]),
        (["--kernel", "/no/such/Image"], ["/no/such/Image"]),
        (["--board", "no-such-board"], ["no-such-board", "qemu-virt"]),
        (["--via", "carrier-pigeon"], ["carrier-pigeon", "flash"]),
        (["--smp", "0"], ["SMP=0"]),
        (["--smp", "many"], ["SMP=many"]),
        (["--mem", "lots"], ["MEM=lots"]),
        (["--timeout", "soon"], ["TIMEOUT=soon"]),
        (["--devices", "floppy"], ["floppy"]),
        (["--run", 'echo "a"'], ["RUN"]),
        (["--qemu-args", "'"], ["QEMU_ARGS"]),
        (["--qemu-args", "-snapshot"], ["--qemu-args", "--help"]),
    ]:
        assert refused(command(QEMU, *map(str, words)), *named), words


@pytest.mark.parametrize("word", ["no", "false", "yes", "2"])
def test_a_disk_is_not_opened_for_writing_by_a_word(command, disk, word):
    environment = dict(os.environ, DISK=str(disk), DISK_WRITE=word)
    assert refused(command(QEMU, "--dry-run", env=environment), f"DISK_WRITE={word}")


@pytest.mark.parametrize("words, named", [([], "BOARD"), ([""], "qemu-virt"), (["qemu-virt", "--no"], "--no")], ids=str)
def test_images_are_of_boards_there_are(command, words, named):
    assert refused(command("scripts/make-image", *words), named)


def test_what_qemu_refuses_is_status_2(command):
    for words in (["--machine", "no-such-machine"], ["--qemu-args=-no-such-option"],
                  ["--mem", "900T"], ["--mem", "1M"], ["--smp", "999"], ["--cpu", "none"]):
        result = command(QEMU, *words)
        assert (result.returncode, result.stdout) == (2, "")
        # The words are QEMU's, and where it gives advice there are two lines.
        assert result.stderr.startswith("qemu-system-aarch64: ")


def test_variables_are_options(command, disk):
    environment = dict(os.environ, DISK=str(disk), SMP="3", BOOTARGS="loglevel=3", RUN="a; b")
    line = shlex.split(command(QEMU, "--dry-run", "--smp", "2", env=environment).stdout)
    assert line[line.index("-smp") + 1] == "2"
    assert line[line.index("-append") + 1] == 'loglevel=3 run="a; b"'
    drive = line[line.index("-drive") + 1]
    assert f"file={disk}" in drive and "read-only=on" in drive


def test_disk_is_writable_on_request_only(command, disk):
    environment = dict(os.environ, DISK=str(disk), DISK_WRITE="1")
    assert "read-only=off" in command(QEMU, "--dry-run", env=environment).stdout


def test_overlays_change_qemus_tree(command, disk):
    result = command(QEMU, "--disk", str(disk), "--overlays", "dts/smmu-disabled.dtso", "--run", "tree")
    assert result.returncode == 0
    assert "disabled" in result.stdout


@pytest.mark.parametrize("header", ["/dts-v1/; /plugin/;", "/dts-v1/;\n/plugin/ ;", "// /*\n/dts-v1/;/plugin/; /* */"])
def test_overlays_open_as_dtc_lets_them(command, disk, tmp_path, header):
    overlay = tmp_path / "an overlay.dtso"
    overlay.write_text(f'{header}\n&{{/chosen}} {{ note = "/plugin/; // no comment"; }};\n')
    result = command(QEMU, "--disk", str(disk), "--overlays", f"'{overlay}'", "--dry-run")
    assert (result.returncode, result.stderr) == (0, "")
    line = shlex.split(result.stdout)
    assert b"/plugin/; // no comment\0" in Path(line[line.index("-dtb") + 1]).read_bytes()
    # An error's line is the overlay's.
    overlay.write_text(f"{header}\n&{{/no/such/node}} {{ a; }};\n")
    count = header.count("\n") + 2
    assert refused(command(QEMU, "--disk", str(disk), "--overlays", f"'{overlay}'"), f".dtso:{count}")


@pytest.mark.parametrize("run, status", [("uptime", 0), ("frobnicate", 1), ("poweroff 42", 42)])
def test_status_is_the_firmwares(command, disk, run, status):
    assert command(QEMU, "--disk", str(disk), "--run", run).returncode == status


def qemus_of(pid):
    """Ids of the processes that have this parent."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def gone(pid, within=10.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=str)
def test_no_qemu_outlives_the_runner(disk, number):
    runner = subprocess.Popen(
        [ROOT / QEMU, "--disk", disk, "--run", "echo started; sleep 60000"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    assert any("started" in line for line in runner.stdout)
    emulator, = qemus_of(runner.pid)
    runner.send_signal(number)
    assert runner.wait(10) == (-9 if number == signal.SIGKILL else 128 + number)
    assert gone(emulator)
    runner.stdout.close()


def test_timeout_is_124_and_leaves_nothing(command, disk):
    result = command(QEMU, "--disk", str(disk), "--timeout", "3", "--run", "sleep 60000")
    assert result.returncode == 124
    assert result.stderr.splitlines()[-1] == "qemu: no end within 3 s"


def test_a_kernel_that_says_nothing_is_hinted_at(command):
    """With a stand-in for QEMU, which is as silent as a kernel on the wrong CPU."""
    program = """if True:
        from lib import tether
        tether.SILENCE = 0.1
        raise SystemExit(tether.boot(["sh", "-c", "sleep 1; echo late"], False, 60)[0])
    """
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "scripts"), PYTHONDONTWRITEBYTECODE="1")
    result = command(sys.executable, "-c", program, env=environment)
    assert (result.returncode, result.stdout) == (0, "late\n")
    hint, = result.stderr.splitlines()
    assert "not a byte" in hint and "CPU" in hint


def test_a_prompt_needs_somebody_who_sees_it(disk, tmp_path):
    """`make run > log` on a terminal boots as a script does."""
    for redirect, interactive in ((f"> {tmp_path}/log", False), ("", True)):
        words = f"{QEMU} --disk {disk} --dry-run {redirect}"
        output, status = pexpect.run(f"sh -c '{words}'", cwd=str(ROOT), withexitstatus=True)
        printed = output.decode() if interactive else (tmp_path / "log").read_text()
        assert status == 0
        assert ("interactive=1" in printed) == interactive


@pytest.mark.parametrize("goal", ["run", "test"])
def test_make_refuses_variables_that_nobody_reads(command, goal):
    assert refused(command("make", goal, "DISC=some.img", "RUN=a b=c"), " DISC;", "DISK")


def test_two_runs_at_once_end_each_with_its_own_status(disk):
    statuses = [5, 6]
    runs = [subprocess.Popen(
        ["make", "run", f"DISK={disk}", f"RUN=poweroff {status}"], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) for status in statuses]
    try:
        assert [run.wait(300) for run in runs] == statuses
    finally:
        # A make that is told to end ends what it runs.
        for run in runs:
            run.terminate()
            run.wait()


def test_make_run_reads_the_generated_disk(command):
    result = command("make", "run")
    assert result.returncode == 0
    said = re.search(r"disk (\S+) \(generated\), SHA-256 ([0-9a-f]{64})", result.stderr)
    assert sha256(said[1]) == said[2]
    assert said[2] in result.stdout
    assert "is the same" in result.stderr


def test_make_run_reads_the_disk_it_is_given(command, tmp_path):
    image = make_disk(tmp_path / "a disk, with a name.img", 1 << 20)
    result = command("make", "run", f"DISK={image}", "BOOTARGS=report=json")
    assert result.returncode == 0
    assert sha256(image) in result.stdout


def test_make_run_ends_with_the_firmwares_status(command, disk):
    result = command("make", "run", f"DISK={disk}", "RUN=frobnicate")
    assert result.returncode == 1
    assert any(line.startswith("frobnicate:") for line in result.stdout.splitlines())


def test_make_run_without_its_disk_is_status_2(command):
    result = command("make", "run", "DISK=/no/such.img")
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if "/no/such.img" in line] == [
        "qemu: DISK /no/such.img: No such file or directory"
    ]
