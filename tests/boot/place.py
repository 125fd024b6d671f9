"""A board that somebody else put together: a power switch, a serial line, a boot loader.

`PlaceBench` boots on it what the tests ask for. What they would have to put together
themselves, a machine, devices, a tree, is skipped, and the reason says what.
"""

import re
import time
from types import SimpleNamespace

import pexpect
import pytest
from bench import TIMEOUT, Booted
from labgrid.step import steps
from lib.machine import kernel_command_line

# How a boot ends where nobody takes its status: the kernel's last words.
END = re.compile(rb"^status (\d+), switching the power off\r?$", re.MULTILINE)
# How far back they may have begun.
TAIL = 80


class PlaceBench:
    """Starts boots, one at a time, as `Bench` does, on a board as it is."""

    def __init__(self, target):
        self.target = target
        self.strategy = target.get_driver("BoardStrategy")
        self.transcript = bytearray()
        steps.subscribe(self._hear)

    def _hear(self, event):
        """Keeps what any driver read from the console."""
        step = event.step
        if (step.tag, step.title, event.data.get("state")) == ("console", "read", "stop") and step.result:
            self.transcript += step.result

    @property
    def disk(self):
        """What a test needs that makes a device tree from QEMU's."""
        pytest.skip("the test makes its device tree from QEMU's, and this board has its own")

    def start(self, bootargs="", records=True, run=None, **options):
        """Starts a boot; returns the console."""
        if options:
            pytest.skip(f"the test puts its machine together ({', '.join(sorted(options))}), "
                        "and this board is as it is")
        words = SimpleNamespace(bootargs=f"report=json {bootargs}".strip() if records else bootargs,
                                run=run, interactive=False)
        self.strategy.prompt()
        self.strategy.set_arguments(kernel_command_line(words))
        self.transcript.clear()
        self.strategy.uboot.boot("")
        return self.strategy.console

    def _end(self, deadline):
        """Reads on to the kernel's last words: the status, None at the deadline."""
        looked = 0
        while time.monotonic() < deadline:
            if found := END.search(self.transcript, max(0, looked - TAIL)):
                return int(found[1])
            looked = len(self.transcript)
            try:
                self.strategy.console.read(size=4096, timeout=0.2)
            except pexpect.TIMEOUT:
                # Nothing was said meanwhile.
                pass
        return None

    def finish(self, timeout=TIMEOUT):
        """Waits for the end of the boot that was started."""
        try:
            status = self._end(time.monotonic() + timeout)
            booted = Booted(bytes(self.transcript), "", status)
        finally:
            self.strategy.off()
        booted.show()
        assert status is not None, f"no end within {timeout} s; the last lines: {booted.lines[-5:]}"
        return booted

    def __call__(self, timeout=TIMEOUT, **options):
        """A whole boot."""
        self.start(**options)
        return self.finish(timeout)
