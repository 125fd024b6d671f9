"""Runs one QEMU: bounded in time, its console passed on, nothing left behind."""

import re
import select
import signal
import subprocess
import sys
import termios
import time

from .common import die_with_parent, say

TIMED_OUT = 124
CRASHED = 3
BAD_USAGE = 2
# A kernel that can speak at all has done so by then, but for a very slow machine.
SILENCE = 20
DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Stopped(Exception):
    """A signal asked the runner to end."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def _stop(number, _frame):
    raise Stopped(number)


class Terminal:
    """Gives a terminal back as it was: QEMU makes it raw and may be killed."""

    def __enter__(self):
        self.saved = termios.tcgetattr(0) if sys.stdin and sys.stdin.isatty() else None
        return self

    def __exit__(self, *_):
        if self.saved:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            termios.tcsetattr(0, termios.TCSANOW, self.saved)


def _hear(child, deadline):
    """The console's next bytes, none at its end; None at the deadline."""
    left = None if deadline is None else deadline - time.monotonic()
    # One that never falls silent meets its deadline too.
    if left is not None and (left <= 0 or not select.select([child.stdout], [], [], left)[0]):
        return None
    return child.stdout.read1(65536)


def _first(child, deadline):
    """The first bytes, which a kernel that this machine cannot run never writes."""
    hint = time.monotonic() + SILENCE
    if deadline is None or hint < deadline:
        data = _hear(child, hint)
        if data is not None:
            return data
        say(f"qemu: not a byte from the kernel in {SILENCE:g} s; is it for this machine and CPU?")
    return _hear(child, deadline)


def _copy(child, deadline, digests, started):
    """Passes the console on until it ends; how many bytes, or None at the deadline."""
    seen, tail = 0, b""
    data = _first(child, deadline)
    if data:
        started()
    while data != b"":
        if data is None:
            return None
        seen += len(data)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        *lines, tail = (tail + data).split(b"\n")
        for line in lines:
            digests.update(DIGEST.findall(line))
        data = _hear(child, deadline)
    return seen


def _end(child):
    """Ends the child, if it still runs, by its id. QEMU has nothing to put away:
    what the guest wrote has been handed to the host."""
    if child.poll() is None:
        child.kill()
        child.wait()


def boot(command, interactive, timeout, started=lambda: None):
    """Boots and returns the exit status and the SHA-256 digests that were printed.
    `started` is called when something runs, before its first words are passed on."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    digests = set()
    with Terminal():
        child = subprocess.Popen(
            command,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            seen = _copy(child, deadline, digests, started)
            if seen is None:
                say(f"qemu: no end within {timeout:g} s")
                return TIMED_OUT, digests
            # Its console is closed; what is left is to exit.
            status = child.wait(10)
        except Stopped as stopped:
            return 128 + stopped.number, digests
        except subprocess.TimeoutExpired:
            say("qemu: QEMU closed its console and did not exit")
            return TIMED_OUT, digests
        except BrokenPipeError:
            return 128 + signal.SIGPIPE, digests
        finally:
            _end(child)
    if status < 0:
        say(f"qemu: QEMU was ended by signal {-status} ({signal.Signals(-status).name})")
        return CRASHED, digests
    if status == 1 and seen == 0:
        # No firmware spoke: this 1 is QEMU's own, and its line says why.
        return BAD_USAGE, digests
    return status, digests
