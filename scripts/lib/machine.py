"""The QEMU command line of a boot: machine, devices, disk, kernel command line.

The boot tests put their boots together from the same functions, so that what
they test is what `make run` starts.
"""

import hashlib
import os
import random
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from . import board, flash, tools, tree
from .common import TARGET, Usage, find_qemu, qemu_version, replace_file

BLOCK = 512
GENERATED = TARGET / "disk.img"
GENERATED_SIZE = 64 << 20
# What is on the PCI bus, and on which slot of those that the machine leaves free: on
# `virt` the NVMe is 00:01.0, edu 00:02.0.
DEVICES = {
    "nvme": ("nvme,serial=mastiff,drive=disk", 0),
    "edu": ("edu", 1),
}


@dataclass
class Boot:
    """One boot, as the variables and options describe it. What is left out is as the
    board's recipe has it."""

    board: str = "qemu-virt"
    via: str = ""
    kernel: Path = None
    qemu: str = ""
    machine: str = ""
    cpu: str = ""
    smp: str = "1"
    mem: str = ""
    disk: Path = None
    disk_write: bool = False
    devices: list = field(default_factory=lambda: list(DEVICES))
    dtb: Path = None
    overlays: list = field(default_factory=list)
    bootargs: str = ""
    run: str = None
    interactive: bool = False
    qemu_args: str = ""

    def __post_init__(self):
        self.via, self.usual = board.started(self.board, self.via or None)
        self.kernel = self.kernel or board.images(self.board) / board.FILES[self.via]
        for name in ("machine", "cpu", "mem"):
            setattr(self, name, getattr(self, name) or self.usual[name])
        if self.via in tools.FIRMWARE:
            if self.disk:
                raise Usage(f"VIA={self.via} boots from {self.kernel.name}, and reads it: "
                            "it takes no DISK=")
            self.disk = self.kernel


def qemu_binary(boot):
    """The QEMU of this boot, checked to be one."""
    if boot.qemu:
        os.environ["QEMU"] = boot.qemu
    found = find_qemu()
    if not found:
        raise Usage(f"no QEMU at `{boot.qemu}`" if boot.qemu else "no QEMU: run scripts/setup")
    if not qemu_version(found):
        raise Usage(f"`{found}` does not run as a QEMU")
    return found


def noise(size):
    """Bytes for a disk: the same ones on every machine."""
    return random.Random("mastiff").randbytes(size)


def generated_disk():
    """The disk of a boot that was given none."""
    if not GENERATED.exists() or GENERATED.stat().st_size != GENERATED_SIZE:
        replace_file(GENERATED, noise(GENERATED_SIZE))
    return GENERATED


def readable(path, what):
    """The path, if it is a file that can be opened."""
    try:
        with open(path, "rb"):
            return Path(path)
    except OSError as error:
        raise Usage(f"{what} {path}: {error.strerror}")


def disk_size(path):
    """A disk's size in bytes; the path may be a file or a block device."""
    with open(path, "rb") as file:
        return file.seek(0, os.SEEK_END)


def check_disk(path):
    """A disk's path, if NVMe can show all of it."""
    size = disk_size(readable(path, "DISK"))
    if size == 0 or size % BLOCK:
        raise Usage(f"DISK {path}: {size} bytes are not a whole number of {BLOCK}-byte blocks")
    return path


def sha256(path):
    """A file's digest, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def kernel_command_line(boot):
    """BOOTARGS, then what the runner adds: the commands, or the prompt."""
    words = [boot.bootargs] if boot.bootargs else []
    if boot.run is not None:
        if '"' in boot.run:
            raise Usage('RUN may not contain `"`: it ends up quoted on the kernel command line')
        words.append(f'run="{boot.run}"')
    elif boot.interactive:
        words.append("interactive=1")
    return " ".join(words)


def machine_argument(boot):
    """The `-M` argument; the tree of `virt` is kept the same from boot to boot."""
    kind = boot.machine.split(",")[0]
    if kind.split("-")[0] == "virt" and "dtb-randomness" not in boot.machine:
        return boot.machine + ",dtb-randomness=off"
    return boot.machine


def device_arguments(boot, console="console"):
    """Disk and devices; semihosting carries the exit status, and what the kernel
    has to say where it knows no console, to the character device of the console."""
    semihosting = f"enable=on,target=native,chardev={console}"
    arguments = ["-nodefaults", "-semihosting-config", semihosting, *boot.usual["arguments"]]
    if not boot.interactive:
        # A reboot ends a boot that nobody watches.
        arguments.append("-no-reboot")
    for name in boot.devices:
        if name not in DEVICES:
            raise Usage(f"no device `{name}`; there are: {', '.join(DEVICES)}")
        if name == "nvme":
            path = str(boot.disk).replace(",", ",,")
            mode = "off" if boot.disk_write else "on"
            arguments += ["-drive", f"if=none,id=disk,format=raw,file={path},read-only={mode}"]
        device, slot = DEVICES[name]
        slot += boot.usual["first-slot"]
        arguments += ["-device", f"{device},bus=pcie.0,addr={slot:#x}"]
    try:
        return arguments + shlex.split(boot.qemu_args)
    except ValueError as error:
        raise Usage(f"QEMU_ARGS: {error}")


def tree_to_hand_over(boot):
    """The tree that QEMU is given, or None where it makes the right one itself. With
    `-kernel` QEMU adds the kernel command line to it; else it has to be in there."""
    words = kernel_command_line(boot) if boot.via != "kernel" else ""
    if not boot.overlays and not words:
        return boot.dtb
    if boot.dtb:
        blob = Path(boot.dtb).read_bytes()
    else:
        blob = board.tree(boot.board) or tree.dump(command(boot))
    if boot.overlays:
        blob = tree.overlaid(blob, boot.overlays)
    return tree.keep(tree.with_bootargs(blob, words) if words else blob)


def loading(boot, dtb=None):
    """What is loaded, and how."""
    given = ["-dtb", str(dtb)] if dtb else []
    if boot.via == "flash":
        path = boot.kernel
        if dtb and board.tree(boot.board):
            path, given = flash.with_tree(board.recipe(boot.board), path, dtb.read_bytes()), []
        path = str(path).replace(",", ",,")
        return ["-drive", f"if=pflash,format=raw,readonly=on,file={path}", *given]
    if boot.via in tools.FIRMWARE:
        return ["-bios", str(tools.firmware(boot.via)), *given]
    arguments = kernel_command_line(boot)
    return ["-kernel", str(boot.kernel), *given, *(["-append", arguments] if arguments else [])]


def check_sizes(boot):
    """SMP and MEM, before QEMU says it in more words."""
    if not re.fullmatch(r"[1-9][0-9]{0,2}", boot.smp):
        raise Usage(f"SMP={boot.smp} is not a number of CPUs, such as 1 or 4")
    if not re.fullmatch(r"[1-9][0-9]*[KMGT]?", boot.mem, re.IGNORECASE):
        raise Usage(f"MEM={boot.mem} is not a size, such as 512M or 1G")


def command(boot, dtb=None):
    """The whole command line."""
    check_sizes(boot)
    line = [qemu_binary(boot), "-M", machine_argument(boot), "-cpu", boot.cpu]
    line += ["-smp", boot.smp, "-m", boot.mem, "-display", "none"]
    # At a prompt Ctrl-C is the guest's; Ctrl-A C reaches QEMU's monitor.
    signals = "off" if boot.interactive else "on"
    line += ["-chardev", f"stdio,id=console,mux=on,signal={signals}", "-serial", "chardev:console"]
    if boot.interactive:
        line += ["-mon", "chardev=console,mode=readline"]
    return line + device_arguments(boot) + loading(boot, dtb)
