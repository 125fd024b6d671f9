"""Who shares a group on PCI Express: what ports and functions can keep apart, they do."""

import re

import pytest
from bench import EDU, NVME, SMMU

pytestmark = pytest.mark.lg_feature("qemu")
HOST = "/pcie@10000000"
# The access control of QEMU's root ports: source validation to upstream forwarding.
CONTROL, ON = 0x14E, 0x1F
COMMAND, MASTER = 0x4, 0x4


def port(name, slot, options=""):
    return f"-device pcie-root-port,id={name},bus=pcie.0,addr={slot},chassis={slot}{options}"


def edu(bus, address="0", options=""):
    return f"-device edu,bus={bus},addr={address}{options}"


def group(booted, function):
    device = booted.device(f"{HOST}/{function}")
    assert (device["driver"], device["state"], device["domain"]) == ("edu", "bound", "dma")
    return device["group"]


def config_writes(booted):
    """What was written to configuration space: device, offset, value, in order."""
    return re.findall(r"pci_cfg_write (\S+) \S+ @(0x\w+) <- (0x\w+)", booted.messages)


def test_two_behind_one_port_share_a_group_where_nothing_keeps_them_apart(boot):
    # Two functions of one device, which say nothing of what they do; one on a port of its
    # own; one on a port without access control, a switch's, that has nobody beside it.
    booted = boot(
        qemu_args=" ".join([
            port("one", 5), edu("one", "0.0", ",multifunction=on"), edu("one", "0.1"),
            port("two", 6), edu("two"), port("three", 7),
            "-device x3130-upstream,bus=three,id=up",
            "-device xio3130-downstream,bus=up,chassis=8,id=open", edu("open"),
        ]),
        run=f"dma verify; domains; dma begin {HOST}/01:00.0; unbind {HOST}/01:00.1; "
            f"dma finish {HOST}/01:00.0; ste {SMMU} 0x101; bind {HOST}/01:00.1; dma verify",
    )
    assert booted.status == 0
    groups = {name: group(booted, name) for name in ("01:00.0", "01:00.1", "02:00.0", "05:00.0")}
    assert groups["01:00.0"] == groups["01:00.1"]
    assert len(set(groups.values())) == 3
    shared, = [domain for domain in booted.records("domain") if len(domain["members"]) > 1]
    assert sorted(shared["members"]) == [f"{HOST}/01:00.0", f"{HOST}/01:00.1"]
    # Each has a stream of its own in the one domain; it goes with its device.
    assert [stream["stream"] for stream in shared["streams"]] == [0x100, 0x101]
    assert [entry["config"] for entry in booted.records("entry")] == ["abort"]
    assert all(dma["ok"] for dma in booted.records("dma"))
    # Devices of the root complex are each their own.
    assert len({booted.device(name)["group"] for name in (NVME, EDU)} | set(groups.values())) == 5
    assert booted.records("fault") == []


def test_access_control_is_on_before_anything_masters(boot):
    booted = boot(
        qemu_args=f"{port('one', 5)} {edu('one')} -trace pci_cfg_write", run="suspend; resume; dma verify",
    )
    assert booted.status == 0
    of_port = [(int(at, 16), int(value, 16)) for name, at, value in config_writes(booted)
               if name == "pcie-root-port"]
    control = [value for at, value in of_port if at == CONTROL]
    # On, lost with the power, and on again; each before the port forwards anything.
    assert control == [ON, 0, ON]
    state = 0
    for at, value in of_port:
        if at == CONTROL:
            state = value
        elif at == COMMAND and value & MASTER:
            assert state == ON


def test_a_switch_whose_ports_send_across_is_one_group(boot):
    # The switch's ports have no access control on QEMU, the root port above has.
    down = "-device xio3130-downstream,bus=up,chassis=2{0},id=down{0},slot={0}"
    switch = (f"{port('one', 5)} -device x3130-upstream,bus=one,id=up {down.format(1)} {down.format(2)} "
              f"{edu('down1')} {edu('down2')}")
    booted = boot(qemu_args=switch, run="dma verify; domains")
    assert booted.status == 0
    assert group(booted, "03:00.0") == group(booted, "04:00.0")
    shared, = [domain for domain in booted.records("domain") if len(domain["members"]) > 1]
    assert [stream["stream"] for stream in shared["streams"]] == [0x300, 0x400]
    assert all(dma["ok"] for dma in booted.records("dma"))


def test_s13_a_managed_master_shares_with_nobody(boot):
    pair = f"{port('one', 5)} {edu('one', '0.0', ',multifunction=on')} {edu('one', '0.1')}"
    booted = boot(qemu_args=pair, bootargs="driver.override=01:00.1:edu-managed", run="dma verify")
    assert booted.device(f"{HOST}/01:00.0")["state"] == "bound"
    refused = booted.device(f"{HOST}/01:00.1")
    assert (refused["state"], refused["probes"], refused["domain"]) == ("failed", 0, "blocked")
    assert f"not isolated from {HOST}/01:00.0" in booted.reason(f"{HOST}/01:00.1")
