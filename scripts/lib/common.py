"""Paths, one-line errors and subprocesses that outlive nobody, for every script."""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"
# The board that is no board: where the `mastiff` command runs.
HOST = "host"
RUST_TARGET = "aarch64-unknown-none-softfloat"
# Below this QEMU's SMMUv3 has no stage 2.
QEMU_LEAST = (8, 1)


class Usage(Exception):
    """Something the person can put right; its text is the one line they see."""


class Parser(argparse.ArgumentParser):
    """A parser of options whose errors are a `Usage` like any other."""

    def error(self, message):
        raise Usage(f"{message} (see --help)")


def main(name, entry):
    """Runs a script's entry point; a `Usage` becomes one line and status 2."""
    try:
        sys.exit(entry())
    except Usage as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def say(text):
    """One line of progress, on stderr so that stdout stays the script's product."""
    print(text, file=sys.stderr, flush=True)


def run(*command, **options):
    """Runs a command with its output captured, and no input unless it is given some."""
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **{"stdin": subprocess.DEVNULL, **options},
    )


# What a command that is told to end has for putting things in order.
END_SECONDS = 40


def attend(*command, ending=signal.SIGTERM, seconds=END_SECONDS, **options):
    """Runs a command to its end; its status. If this process is told to end meanwhile, so
    is the command, by the signal `ending`; it has some seconds for that."""
    child = subprocess.Popen([str(part) for part in command], preexec_fn=die_with_parent,
                             **options)
    try:
        return child.wait()
    except BaseException as stopped:
        # Ctrl-C has told everybody on the terminal.
        if not isinstance(stopped, KeyboardInterrupt):
            child.send_signal(ending)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


def end_on(*signals):
    """These end the process as an exception does, so that what it holds is given back."""
    for number in signals:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def die_with_parent():
    """For `preexec_fn`: the child is killed when its parent dies, however it dies."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def replace_file(path, data):
    """Writes a file so that others see all of it or none."""
    replace_sparse(path, len(data), {0: data})


def replace_sparse(path, size, pieces):
    """Writes a file of `size` bytes in the same way, zero but for `pieces`: offset and
    bytes. What is zero takes no room on most file systems."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(draft, "wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    draft.replace(path)


def last_line(text):
    """The line of a failed command's output that says most: its last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def qemu_version(binary):
    """(major, minor, micro) of a QEMU binary, or None where it isn't one."""
    try:
        words = run(binary, "--version").stdout.split()
    except OSError:
        return None
    if words[:3] != ["QEMU", "emulator", "version"]:
        return None
    return tuple(int(part) for part in words[3].split(".")[:3] if part.isdigit())


def find_qemu():
    """The QEMU to use: the one that `QEMU` names, else the one on PATH."""
    name = os.environ.get("QEMU") or "qemu-system-aarch64"
    return shutil.which(name)
