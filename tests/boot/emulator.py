"""labgrid's QEMUDriver, with what a test of exit statuses and hangs needs.

Added to it: every step is bounded, the exit status is kept, all console output
is recorded, QEMU's own messages are kept apart, and the emulator dies with the
test process, however that dies.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attr
import pexpect
from labgrid.driver import QEMUDriver
from labgrid.factory import target_factory
from labgrid.util import PtxExpect
from labgrid.util.qmp import QMPError, QMPMonitor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from lib.common import die_with_parent  # noqa: E402

STARTUP_SECONDS = 30


@target_factory.reg_driver
@attr.s(eq=False)
class BoundedQEMUDriver(QEMUDriver):
    """A QEMU whose boots end, and that says how."""

    def on_activate(self):
        super().on_activate()
        # Semihosting's console shares the serial line's socket.
        where = self._cmd.index("-chardev") + 1
        assert self._cmd[where].startswith("socket,id=serialsocket")
        self._cmd[where] += ",mux=on"
        self._expect = PtxExpect(self)
        self.transcript = bytearray()
        self.exit_status = None
        self._cont = None
        self._messages = open(Path(self._tempdir) / "messages", "w+b")

    def on_deactivate(self):
        super().on_deactivate()
        self._messages.close()

    @property
    def messages(self):
        """What QEMU itself wrote: warnings, errors, traces."""
        self._messages.seek(0)
        return self._messages.read().decode(errors="replace")

    def on(self):
        """Starts QEMU; an error of its own is raised with its words."""
        if self.status:
            return
        self._child = subprocess.Popen(
            self._cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._messages, preexec_fn=die_with_parent,
        )
        try:
            self._accept()
            self.qmp = QMPMonitor(self._child.stdout, self._child.stdin)
        except (OSError, QMPError) as error:
            self.off()
            raise OSError(f"QEMU did not start: {self.messages.strip() or error}") from error
        self.status = 1
        # Not waited for: QEMU answers when the machine lets it, and a machine that
        # prints waits until its console is read.
        self._cont = threading.Thread(target=self._continue, daemon=True)
        self._cont.start()

    def _continue(self):
        try:
            # Past labgrid's record of steps, which is for one thread.
            self.qmp.execute("cont")
        except (QMPError, OSError, ValueError):
            # A short boot is over, and QEMU with it, before the answer.
            pass

    def _accept(self):
        deadline = time.monotonic() + STARTUP_SECONDS
        self._socket.settimeout(0.2)
        while self._clientsocket is None:
            try:
                self._clientsocket, _ = self._socket.accept()
                self._clientsocket.setblocking(False)
            except TimeoutError:
                if self._child.poll() is not None or time.monotonic() > deadline:
                    raise

    def _read(self, size=1, timeout=10, max_size=None):
        data = super()._read(size, timeout, max_size)
        self.transcript += data
        if not data:
            raise pexpect.EOF("QEMU closed the console")
        return data

    def wait(self, deadline):
        """Reads on until QEMU has ended: its exit status, None at the deadline."""
        try:
            while True:
                self._read(timeout=max(0, deadline - time.monotonic()))
        except (pexpect.EOF, ConnectionResetError):
            pass
        except pexpect.TIMEOUT:
            return None
        try:
            self.exit_status = self._child.wait(max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        return self.exit_status

    def off(self):
        """Ends QEMU, if it still runs."""
        if self._child:
            if self._child.poll() is None:
                self._child.send_signal(signal.SIGKILL)
            if self._cont:
                self._cont.join(STARTUP_SECONDS)
            # Closes the monitor's pipes and reaps.
            self._child.communicate()
        self._child = None
        self.status = 0
