"""Commands: from `RUN`, with their status, and at the prompt."""

import pytest
from bench import NVME, SMMU

# What is at these paths is on QEMU's machine only.
VIRT = pytest.mark.lg_feature("virt")
READ_ONLY = [
    "help", "help why", "devices", f"why {NVME}", "tree", "tree /chosen", "iommu", "streams",
    f"ste {SMMU} 8", f"walk {NVME} 0x1000", "domains", "faults", "irqs", "mem", "dmesg", "uptime",
    "dma verify", f"disk {NVME} hash",
]


@VIRT
def test_every_command_that_only_looks_succeeds(boot):
    booted = boot(run="; ".join(READ_ONLY))
    steps = booted.records("step")
    assert [step["command"] for step in steps] == READ_ONLY
    assert all(step["ok"] and step["error"] is None for step in steps)
    assert booted.status == 0


@pytest.mark.parametrize("wrong, named", [
    ("frobnicate", "frobnicate"),
    ("why /no/such/device", "/no/such/device"),
    ("ste", "usage"),
    pytest.param("walk /pcie@10000000/00:01.0 nonsense", "nonsense", marks=VIRT),
    pytest.param("disk /smmuv3@9050000 hash", "/smmuv3@9050000", marks=VIRT),
    ("poweroff many", "many"),
])
def test_wrong_command_fails_with_one_line(boot, wrong, named):
    booted = boot(run=f"uptime; {wrong}; echo not reached")
    assert booted.status == 1
    first, second = booted.records("step")
    assert first["ok"] and not second["ok"]
    assert second["command"] == wrong
    said = [line for line in booted.lines if line.startswith(f"{wrong}:")]
    assert len(said) == 1 and named in said[0]
    assert not any("not reached" in line for line in booted.lines if not line.startswith("["))


def test_unknown_boot_argument_is_named_and_ignored(boot):
    booted = boot(bootargs="frobnicate=1", run="uptime")
    assert booted.status == 0
    assert any("frobnicate=1" in line and "unknown" in line for line in booted.lines)


def test_poweroff_ends_with_the_given_status(boot):
    assert boot(run="poweroff 7; echo not reached").status == 7


def test_prompt_edits_remembers_and_powers_off(boot):
    console = boot.start(bootargs="interactive=1")
    console.expect("mastiff> ", timeout=60)
    # A slip of the finger, corrected; then the same line again from the history.
    console.sendline("uptimf\x7fe")
    console.expect("mastiff> ", timeout=20)
    console.sendline("\x1b[A")
    console.expect("mastiff> ", timeout=20)
    console.sendline("frobnicate")
    console.expect("no such command", timeout=20)
    console.expect("mastiff> ", timeout=20)
    console.write(b"\x04")
    booted = boot.finish(timeout=20)
    assert booted.status == 0
    assert "uptimf: " not in booted.text
