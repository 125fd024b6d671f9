"""Switched off and on again: the SMMU's clock and power follow its users."""

import pytest
import trees
from bench import EDU, NVME, SMMU
from lines import CLOCK, DOMAIN, GPIO, OFF, ON, TRACE, latest, lines

pytestmark = pytest.mark.lg_feature("qemu")
MASTERS = (NVME, EDU)


@pytest.fixture(scope="module")
def tree(boot):
    return trees.overlaid(trees.machine_tree(boot), "smmu-clock-power")


def states(booted, name):
    """The states that commands showed a device in, one after the other."""
    return [record["state"] for record in booted.records("device") if record["name"] == name]


def expect_dma(booted):
    """Both masters moved data in the end."""
    assert booted.status == 0
    assert {proof["device"] for proof in booted.records("dma") if proof["ok"]} == set(MASTERS)


def test_s26_unbinding_the_smmu_switches_it_off(boot, tree):
    booted = boot(
        run=f"unbind {SMMU}; devices; bind {SMMU}; dma verify", dtb=tree, qemu_args=TRACE
    )
    expect_dma(booted)
    for master in MASTERS:
        assert states(booted, master)[:2] == ["waiting", "waiting"]
        assert latest(booted, master)["state"] == "bound"
    assert lines(booted) == ON + OFF + ON + OFF


@pytest.mark.parametrize("supplier", [CLOCK, DOMAIN, GPIO])
def test_s26_unbinding_a_supplier_takes_its_users_first(boot, tree, supplier):
    booted = boot(
        run=f"unbind {supplier}; bind {supplier}; dma verify", dtb=tree, qemu_args=TRACE
    )
    expect_dma(booted)
    for name in (SMMU, *MASTERS):
        assert states(booted, name)[0] == "waiting"
        assert latest(booted, name)["state"] == "bound"
    assert lines(booted) == ON + OFF + ON + OFF


def test_s27_suspend_switches_off_and_resume_on(boot, tree):
    booted = boot(run="suspend; resume; dma verify", dtb=tree, qemu_args=TRACE)
    expect_dma(booted)
    assert lines(booted) == ON + OFF + ON + OFF
    for master in MASTERS:
        assert latest(booted, master)["probes"] == 1


def test_s10_off_and_on_again_and_again(boot, tree):
    again = "; ".join([f"unbind {SMMU}", f"bind {SMMU}"] * 20)
    booted = boot(run=f"{again}; dma verify", dtb=tree, qemu_args=TRACE)
    expect_dma(booted)
    assert lines(booted) == (ON + OFF) * 21


def test_clocks_shows_who_is_on(boot, tree):
    booted = boot(run=f"clocks; unbind {SMMU}; clocks", dtb=tree)
    assert booted.status == 0
    switches = booted.records("switch")
    shown = {name: [(s["class"], s["users"], s["on"], s["rate"]) for s in switches if s["name"] == name]
             for name in (CLOCK, DOMAIN)}
    assert shown[CLOCK] == [("clock", 1, True, 24_000_000), ("clock", 0, False, 24_000_000)]
    assert shown[DOMAIN] == [("power-domain", 1, True, None), ("power-domain", 0, False, None)]
