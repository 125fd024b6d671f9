"""Suppliers of the SMMU: a clock behind a gate, a power domain, and who switches them.

With `smmu-clock-power` the SMMU hangs on lines of the GPIO controller, which hangs on
the fixed clock. What becomes of it, and of the masters behind it, is decided by the
graph alone.
"""

import pytest
import trees
from bench import EDU, NVME, SMMU
from lib.machine import sha256
from lines import CLOCK, DOMAIN, GPIO, OFF, ON, SUPPLY_LINE, TRACE, latest, lines

pytestmark = pytest.mark.lg_feature("qemu")
APB = "/apb-pclk"
PCIE = "/pcie@10000000"
CHAIN = [APB, GPIO, CLOCK, DOMAIN, SMMU, NVME, EDU]
DRIVERS = ["fixed-clock", "pl061", "gpio-gate-clock", "gpio-power-domain", "smmuv3"]


@pytest.fixture(scope="module")
def tree(boot):
    return trees.machine_tree(boot)


@pytest.fixture(scope="module")
def chain(boot, tree):
    return boot(dtb=trees.overlaid(tree, "smmu-clock-power"), qemu_args=TRACE)


def test_s05_each_waits_on_its_own_supplier_and_is_probed_once(chain):
    assert chain.status == 0
    for name in CHAIN:
        device = chain.device(name)
        assert (device["state"], device["probes"]) == ("bound", 1), name
        assert device["attempts"] <= 1 + len(device["waited"]), name
    assert CLOCK in chain.waited(SMMU)
    assert GPIO in chain.waited(CLOCK) and GPIO in chain.waited(DOMAIN)
    assert chain.waited(GPIO) == [APB]
    for master in (NVME, EDU):
        assert chain.waited(master) == [SMMU]
    assert chain.boot()["waiting"] == chain.boot()["failed"] == 0


def test_s05_suppliers_are_bound_before_their_consumers(chain):
    orders = [chain.device(name)["order"] for name in (APB, GPIO, CLOCK, SMMU, NVME)]
    assert orders == sorted(orders)
    assert chain.device(GPIO)["order"] < chain.device(DOMAIN)["order"] < chain.device(SMMU)["order"]


def test_s05_dma_is_verified_behind_it(chain, disk):
    assert chain.digest() == sha256(disk)
    proofs = chain.records("dma")
    assert {proof["device"] for proof in proofs} == {NVME, EDU}
    assert all(proof["ok"] for proof in proofs)


def test_power_comes_before_the_clock_and_goes_after_it(chain):
    # Off again: the machine ends with its devices down.
    assert lines(chain) == ON + OFF


@pytest.mark.parametrize("order", [1, -1], ids=["up", "down"])
def test_s05_in_other_orders_of_nodes(boot, chain, tree, order):
    blob = trees.overlaid(tree, "smmu-clock-power").read_bytes()
    shuffled = trees.reordered(blob, lambda name: [order * ord(letter) for letter in name])
    booted = boot(dtb=trees.tree.keep(shuffled))
    assert booted.status == 0
    for name in CHAIN:
        device = booted.device(name)
        assert (device["state"], device["probes"]) == ("bound", 1), name
        assert device["domain"] == chain.device(name)["domain"]


@pytest.mark.parametrize("late", [*DRIVERS, ",".join(DRIVERS)])
def test_s05_with_drivers_that_come_late(boot, tree, late):
    adds = "; ".join(f"driver add {name}" for name in late.split(","))
    booted = boot(
        bootargs=f"driver.late={late}", run=f"{adds}; dma verify",
        dtb=trees.overlaid(tree, "smmu-clock-power"), qemu_args=TRACE,
    )
    assert booted.status == 0
    for name in CHAIN:
        device = latest(booted, name)
        assert (device["state"], device["probes"]) == ("bound", 1), name
    assert lines(booted) == ON + OFF


@pytest.mark.parametrize("overlay, supplier, reason", [
    ("smmu-clock-disabled", CLOCK, f"{CLOCK}: node disabled"),
    ("smmu-clock-unknown", CLOCK, f"{CLOCK}: no driver in this image"),
    ("smmu-clock-dangling", None, "0xdead"),
])
def test_a_clock_that_never_comes_fails_the_smmu_and_its_masters(boot, tree, overlay, supplier, reason):
    booted = boot(dtb=trees.overlaid(tree, overlay))
    assert booted.status == 1
    for name in (SMMU, NVME, EDU):
        device = booted.device(name)
        assert (device["state"], device["probes"]) == ("failed", 0), name
        assert reason in booted.reason(name)
        assert booted.waited(name) == ([SMMU] if name != SMMU else [])
    assert booted.boot()["waiting"] == 0
    assert booted.device(GPIO)["state"] == "bound"


def test_policy_does_not_turn_a_failed_smmu_into_direct_dma(boot, tree):
    booted = boot(dtb=trees.overlaid(tree, "smmu-clock-unknown"))
    assert booted.device(NVME)["domain"] == "none"
    assert booted.records("dma") == []


def test_s06_a_clock_behind_the_smmu_that_it_clocks(boot, tree):
    booted = boot(dtb=trees.overlaid(tree, "smmu-clock-cycle"))
    assert booted.status == 1
    for name in (SMMU, EDU):
        assert booted.device(name)["state"] == "failed"
        assert f"{SMMU} -> {EDU}" in booted.reason(name) or f"{EDU} -> {SMMU}" in booted.reason(name)
    assert "in a cycle" in booted.reason(NVME)
    assert booted.boot()["waiting"] == 0


def test_s06_a_cycle_is_broken_where_a_device_can_do_without(boot, disk, tree):
    booted = boot(dtb=trees.overlaid(tree, "gic-clock-cycle"))
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    said = [line for line in booted.lines if "to break the cycle" in line]
    assert len(said) == 1 and GPIO in said[0] and "/gic-clock" in said[0]
    assert booted.boot()["waiting"] == booted.boot()["failed"] == 0


def test_a_supply_is_on_before_the_bus_is_scanned(boot, disk, tree):
    booted = boot(dtb=trees.overlaid(tree, "pcie-supply"), qemu_args=TRACE)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)
    pcie = booted.device(PCIE)
    assert (pcie["probes"], booted.waited(PCIE)) == (1, ["/slot-supply"])
    assert lines(booted) == [(SUPPLY_LINE, 1), (SUPPLY_LINE, 0)]
