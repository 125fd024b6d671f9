"""Boards of a lab that QEMU stands in for, with what a lab has besides: one network power
switch, and a console server's TCP port for each. A board is a machine with a boot loader
(U-Boot), an SD card for that, and the devices of `make run`; there is no host behind it that
takes an exit status. Without power nobody listens on its serial line."""

import http.server
import re
import select
import shlex
import socket
import subprocess
import threading

from . import machine, tools
from .common import ROOT, Usage, die_with_parent

LOCAL = "127.0.0.1"
# As labgrid's power switches of model `rest` are reached.
OUTLET = re.compile(r"^/outlet/([0-9]+)/power$")
ON, OFF = b"1", b"0"


def command(card, disk, uart):
    """QEMU's command line. The card is no PCI device: the kernel finds what it finds in
    `make run`."""
    path = str(card).replace(",", ",,")
    extra = ["-semihosting-config", "enable=off",
             "-drive", f"if=none,id=card,format=raw,file={path},read-only=on",
             "-device", "virtio-blk-device,drive=card"]
    boot = machine.Boot(via="kernel", disk=disk, qemu_args=shlex.join(extra))
    return [machine.qemu_binary(boot), "-M", machine.machine_argument(boot), "-cpu", boot.cpu,
            "-smp", boot.smp, "-m", boot.mem, "-display", "none",
            "-chardev", f"socket,id=console,path={uart},mux=on", "-serial", "chardev:console",
            *machine.device_arguments(boot), "-bios", str(tools.firmware("u-boot"))]


class Line:
    """A serial line: one end a TCP port for whoever wants to see it, the other the board's.
    What is said while nobody is at the other end is lost."""

    def __init__(self, uart):
        self.doors = {"desk": socket.create_server((LOCAL, 0)),
                      "board": socket.socket(socket.AF_UNIX)}
        self.doors["board"].bind(str(uart))
        self.doors["board"].listen()
        self.port = self.doors["desk"].getsockname()[1]
        self.ends = {}
        threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self):
        while True:
            ready = select.select([*self.doors.values(), *self.ends.values()], [], [])[0]
            for name, door in self.doors.items():
                other = "board" if name == "desk" else "desk"
                if self.ends.get(name) in ready:
                    self._pass(name, other)
                if door in ready:
                    # The last to come has it.
                    self._hang_up(name)
                    self.ends[name] = door.accept()[0]

    def _pass(self, source, sink):
        try:
            data = self.ends[source].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._hang_up(source)
            return
        try:
            if sink in self.ends:
                self.ends[sink].sendall(data)
        except OSError:
            self._hang_up(sink)

    def _hang_up(self, name):
        if name in self.ends:
            self.ends.pop(name).close()


class Board:
    """A machine that is on or off."""

    def __init__(self, folder, card, disk):
        uart = folder / "uart"
        self.line = Line(uart)
        self.command = command(card, disk, uart)
        self.child = None

    def is_on(self):
        return self.child is not None and self.child.poll() is None

    def switch(self, on):
        if on and not self.is_on():
            self.child = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL,
                                          preexec_fn=die_with_parent)
        elif not on and self.is_on():
            self.child.kill()
            self.child.wait()


def power_switch(boards):
    """A server for the outlets that the boards are on, in their order; its port. One thread
    for all: a QEMU dies with the thread that started it."""

    class Outlets(http.server.BaseHTTPRequestHandler):
        """GET tells whether one is on; PUT switches it."""

        def answer(self, change=None):
            found = OUTLET.match(self.path)
            board = boards[int(found[1])] if found and int(found[1]) < len(boards) else None
            if board and change is not None:
                board.switch(change == ON)
            body = b"" if not board else ON if board.is_on() else OFF
            self.send_response(200 if board else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer()

        def do_PUT(self):
            self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer((LOCAL, 0), Outlets)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def exported(boards, port):
    """What the exporter offers: a group for each board."""
    url = f"http://{LOCAL}:{port}/outlet/{{index}}/power"
    return {
        name: {
            "NetworkSerialPort": {"host": LOCAL, "port": board.line.port, "protocol": "raw"},
            "NetworkPowerPort": {"model": "rest", "host": url, "index": index},
        }
        for index, (name, board) in enumerate(boards.items())
    }


def count(text):
    """A number of boards."""
    if not re.fullmatch(r"[1-9]|1[0-6]", text):
        raise Usage(f"--boards {text} is not a number of boards, 1 to 16")
    return int(text)
