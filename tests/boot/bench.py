"""A boot and what came of it, as the tests see them."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from lib import machine, tools  # noqa: E402
from lib.common import find_qemu  # noqa: E402

IMAGE = Path(__file__).resolve().parents[2] / "target/images/qemu-virt/Image"
NVME = "/pcie@10000000/00:01.0"
EDU = "/pcie@10000000/00:02.0"
SMMU = "/smmuv3@9050000"
NVME_STREAM = 0x8
EDU_STREAM = 0x10

# What the person who runs the tests may set for every boot that does not say
# otherwise; taken out of the environment, where the tests of the runner would
# inherit it.
CHOSEN = {name: os.environ.pop(name.upper(), "") for name in ("smp", "mem", "cpu", "qemu_args")}
TIMEOUT = float(os.environ.pop("TIMEOUT", "") or 120)
for subject in ("DISK", "DISK_WRITE", "DEVICES", "DTB", "OVERLAYS", "BOOTARGS", "RUN", "MACHINE", "BOARD", "VIA",
                "KERNEL", "LAB", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(subject, None)


class Booted:
    """A boot that has ended."""

    def __init__(self, transcript, messages, status):
        self.text = transcript.decode(errors="replace").replace("\r", "")
        self.lines = self.text.splitlines()
        self.messages = messages
        self.status = status

    def show(self):
        """Prints it, for pytest to show where a test fails. Devices without a driver are noise."""
        print("\n".join(line for line in self.lines if '"state":"unclaimed"' not in line))

    def records(self, kind):
        """The records of a kind, in the order they were printed."""
        found = [json.loads(line[1:]) for line in self.lines if line.startswith("@{")]
        return [record for record in found if record["kind"] == kind]

    def device(self, name):
        """The last device record of that name: commands print some on the way."""
        named = [record for record in self.records("device") if record["name"] == name]
        assert named, f"no record of {name}"
        return named[-1]

    def boot(self):
        """The record of the boot as a whole."""
        record, = self.records("boot")
        return record

    def reason(self, name):
        """Why a device waits or failed: its chain of causes, as one text."""
        return " | ".join(f"{c['device']}: {c['reason']}" for c in self.device(name)["cause"])

    def waited(self, name):
        """The paths of what a device waited for."""
        return [waited["on"] for waited in self.device(name)["waited"]]

    def digest(self):
        """The SHA-256 of the disk that was read."""
        digests = [r["sha256"] for r in self.records("dma") if r["sha256"]]
        assert len(digests) == 1, f"{len(digests)} digests"
        return digests[0]


class Bench:
    """Starts boots, one at a time, on QEMUs that labgrid's target describes."""

    def __init__(self, target, disk):
        self.target = target
        self.disk = disk
        self.driver = target.get_driver("BoundedQEMUDriver", activate=False)
        self.board = target.env.config.get_option("board")
        target.env.config.data["tools"]["qemu"] = find_qemu()
        self.given = {name: getattr(self.driver, name) for name in ("machine", "cpu", "memory", "kernel")}

    def start(self, bootargs="", records=True, raw=False, dtb=None, **options):
        """Starts a boot. `options` are those of `lib.machine.Boot`; `dtb` is a blob
        or a file; `raw` boots without `-kernel`: the options then say what runs."""
        chosen = {name: value for name, value in CHOSEN.items() if value}
        options = {**chosen, **options}
        if options.get("via") not in tools.FIRMWARE:
            options = {"disk": self.disk, **options}
        if not {"board", "via"} & options.keys():
            # Labgrid's environment says what boards and ways have in board.toml.
            options = {"board": self.board, "machine": self.given["machine"],
                       "cpu": self.given["cpu"], "mem": self.given["memory"], **options}
        if records:
            bootargs = f"report=json {bootargs}".strip()
        boot = machine.Boot(bootargs=bootargs, dtb=dtb, **options)
        extra = ["-display", "none", "-smp", boot.smp]
        extra += machine.device_arguments(boot, console="serialsocket")
        by_labgrid = boot.via == "kernel"
        if by_labgrid:
            extra += ["-dtb", str(dtb)] if dtb else []
        else:
            extra += machine.loading(boot, machine.tree_to_hand_over(boot))
        self.driver.machine = machine.machine_argument(boot)
        self.driver.cpu = boot.cpu
        self.driver.memory = boot.mem
        self.driver.kernel = self.given["kernel"] if by_labgrid and not raw else None
        self.driver.boot_args = machine.kernel_command_line(boot) or None
        self.driver.extra_args = shlex.join(extra)
        self.target.activate(self.driver)
        try:
            self.driver.on()
        except OSError:
            self.target.deactivate(self.driver)
            raise
        return self.driver

    def finish(self, timeout=TIMEOUT):
        """Waits for the end of the boot that was started."""
        try:
            status = self.driver.wait(time.monotonic() + timeout)
            booted = Booted(bytes(self.driver.transcript), self.driver.messages, status)
        finally:
            self.target.deactivate(self.driver)
        booted.show()
        assert status is not None, f"no end within {timeout} s; the last lines: {booted.lines[-5:]}"
        return booted

    def __call__(self, timeout=TIMEOUT, **options):
        """A whole boot."""
        self.start(**options)
        return self.finish(timeout)
