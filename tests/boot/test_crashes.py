"""Crashes: the last words reach a person, the status is 3, and there is an end,
whatever else is broken."""

import struct

import pytest
import trees
from bench import IMAGE
from lib import tree as tools
from rawboot import raw_options

pytestmark = pytest.mark.lg_feature("virt")
CRASHED = 3
# What each crash on demand must be reported as.
REPORTS = {
    "panic": ["*** panic at ", ": on demand"],
    "data-abort": ["*** data abort", "at address 0x7fffffffffff8, "],
    "undefined": ["*** undefined instruction"],
    "stack-overflow": ["*** data abort", "stack overflow: the kernel's stack", " times)"],
    "write-text": ["*** data abort", "permission fault"],
    "write-rodata": ["*** data abort", "permission fault"],
    "execute-data": ["*** instruction abort", "permission fault"],
    "out-of-memory": ["*** panic at ", "memory allocation"],
}
# Where nothing answers, and where there is flash.
NOTHING, FLASH = 0x0B00_0000, 0x0
NO_HOST = "-semihosting-config enable=off"


def console_at(boot, folder, address, **options):
    """QEMU's tree with the console's registers elsewhere."""
    overlay = folder / "console.dtso"
    overlay.write_text(f"&{{/pl011@9000000}} {{ reg = <0 {address:#x} 0 0x1000>; }};\n")
    return tools.keep(tools.overlaid(trees.machine_tree(boot, **options), [overlay]))


def has(booted, words):
    missing = [word for word in words if word not in booted.text]
    assert not missing, f"not said: {missing}"
    return True


@pytest.mark.parametrize("crash", REPORTS)
def test_crash_on_demand(boot, crash):
    booted = boot(bootargs=f"selftest={crash}")
    assert booted.status == CRASHED
    assert has(booted, ["entered at EL", *REPORTS[crash], "backtrace (addr2line"])


@pytest.mark.parametrize("crash", ["panic", "data-abort", "stack-overflow"])
def test_crash_of_another_cpu(boot, crash):
    booted = boot(smp="4", bootargs=f"selftest={crash}@1")
    assert booted.status == CRASHED
    assert has(booted, ["CPU 3 runs", *REPORTS[crash], "\non CPU 1\n", "backtrace (addr2line"])
    # Nobody else goes on.
    assert "Probe story" not in booted.text


def test_every_crash_on_demand_is_tested():
    source = (IMAGE.parents[3] / "kernel/arch/src/aarch64/selftest.rs").read_text()
    named = [line.split('"')[1] for line in source.splitlines() if "name: \"" in line]
    assert sorted(named) == sorted(REPORTS)


@pytest.mark.parametrize("crash", ["panic", "data-abort", "stack-overflow"])
def test_crash_is_reported_past_a_console_that_faults(boot, tmp_path, crash):
    dtb = console_at(boot, tmp_path, NOTHING)
    booted = boot(timeout=30, bootargs=f"selftest={crash}", dtb=dtb)
    assert booted.status == CRASHED
    # Both: why it ended, and what became of the console.
    assert has(booted, ["entered at EL", *REPORTS[crash], "data abort", f"{NOTHING + 0x18:#x}"])


def test_console_that_faults_when_its_driver_comes(boot, tmp_path):
    booted = boot(timeout=30, dtb=console_at(boot, tmp_path, NOTHING))
    assert booted.status == CRASHED
    assert has(booted, ["*** data abort", "at work: driver pl011 on /pl011@9000000"])


def test_console_that_never_has_room_is_waited_for_once(boot, tmp_path):
    # The flag register says "full" for ever: it is in flash.
    full = tmp_path / "full.bin"
    full.write_bytes(struct.pack("<I", 1 << 5))
    load = f"-device loader,file={full},addr={FLASH + 0x18:#x},force-raw=on"
    dtb = console_at(boot, tmp_path, FLASH)
    booted = boot(timeout=30, bootargs="selftest=panic", dtb=dtb, qemu_args=load)
    assert booted.status == CRASHED
    assert has(booted, ["entered at EL", *REPORTS["panic"]])


def test_crash_with_nobody_to_take_a_status(boot):
    # The firmware switches the power off, which QEMU ends with 0.
    booted = boot(timeout=30, bootargs="selftest=panic", qemu_args=NO_HOST)
    assert booted.status == 0
    assert has(booted, [*REPORTS["panic"], "status 3, switching the power off"])


@pytest.mark.parametrize("crash", ["panic", "data-abort"])
def test_crash_with_nobody_to_tell_ends_all_the_same(boot, tmp_path, crash):
    dtb = console_at(boot, tmp_path, NOTHING)
    booted = boot(timeout=30, bootargs=f"selftest={crash}", dtb=dtb, qemu_args=NO_HOST)
    assert booted.status == 0
    assert booted.text == ""


def test_crash_before_there_is_an_address_space(boot, tmp_path):
    # No tree is read; an empty file is none that QEMU would load.
    options = raw_options(tmp_path, IMAGE, bytes(4))
    stub = (tmp_path / "stub.bin").read_bytes()
    # movz x0, #(NOTHING >> 16), lsl #16, in place of the stub's last jump, then the jump.
    stub = stub[:-4] + struct.pack("<I", 0xD280_0000 | 1 << 21 | NOTHING >> 16 << 5) + stub[-4:]
    (tmp_path / "stub.bin").write_bytes(stub)
    booted = boot(timeout=30, **options)
    assert booted.status == CRASHED
    assert has(booted, ["*** data abort", f"at address {NOTHING:#x}, "])
