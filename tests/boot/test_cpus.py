"""Several CPUs: they come, they work at the same time, and who cannot come is said."""

import re

import pytest
from bench import NVME
from lib import tree as tools
from lib.machine import sha256
import trees

pytestmark = pytest.mark.lg_feature("qemu")
VIRT = "virt,iommu=smmuv3"


@pytest.mark.parametrize("machine, count", [
    (f"{VIRT},gic-version=3", 4),
    (f"{VIRT},gic-version=2", 8),
    (f"{VIRT},gic-version=3,virtualization=on", 8),
])
def test_all_come(boot, machine, count):
    booted = boot(machine=machine, smp=str(count), run="cpus")
    assert booted.status == 0
    assert booted.boot()["cpus"] == count
    assert booted.boot()["parked"] == 0
    numbers = [record["number"] for record in booted.records("cpu")]
    assert numbers == list(range(count))


@pytest.mark.parametrize("machine", [f"{VIRT},gic-version=3", f"{VIRT},gic-version=2"])
def test_all_at_work_at_once(boot, disk, machine):
    # The first time tables grow for what they do.
    run = "together 10; iommu; mem; together 300; iommu; mem; faults; domains"
    booted = boot(machine=machine, smp="4", run=run, timeout=120)
    assert booted.status == 0
    parts = booted.records("together")[4:]
    assert [part["cpu"] for part in parts] == [0, 1, 2, 3]
    for part in parts:
        assert part["ok"], part["error"]
        assert part["maps"] >= 300
        assert part["sha256"] == sha256(disk)
    # One of them has edu go round meanwhile.
    assert sorted(part["trips"] > 0 for part in parts) == [False, False, False, True]
    assert not booted.records("fault")
    before, after, *_ = booted.records("iommu")
    assert after["errors"] == after["events"] == 0
    assert after["streams_attached"] == before["streams_attached"]
    assert len(booted.records("domain")) == 2
    memory = booted.records("memory")
    for name in ("quarantined", "IOMMU tables", "device buffers"):
        before, after = [record["bytes"] for record in memory if record["name"] == name]
        assert before == after, name


def test_cpus_that_nobody_can_start_are_said_in_a_line(boot, tmp_path):
    blob = trees.machine_tree(boot, smp="4")
    source = tools.decompile(blob).replace('enable-method = "psci";', 'enable-method = "spin-table";')
    dtb = tools.keep(tools.compile_source(source))
    booted = boot(smp="4", dtb=dtb, run="cpus")
    assert booted.status == 0
    assert (booted.boot()["cpus"], booted.boot()["parked"]) == (1, 3)
    told = [line for line in booted.lines if "not started" in line]
    assert len(told) == 1
    assert re.search(r"/cpus/cpu@1 and 2 more CPUs: not started: .*spin-table, not psci", told[0])
    whys = [record["why"] for record in booted.records("cpu")]
    assert whys[0] is None and all("spin-table" in why for why in whys[1:])


def test_a_cpu_that_firmware_does_not_know_is_left_out(boot):
    blob = trees.machine_tree(boot, smp="3")
    source = tools.decompile(blob).replace("reg = <0x02>;", "reg = <0x77>;")
    dtb = tools.keep(tools.compile_source(source))
    booted = boot(smp="3", dtb=dtb, run="cpus; dma verify")
    assert booted.status == 0
    assert booted.boot()["cpus"] == 2
    assert any("PSCI CPU_ON: Invalid parameters" in line and "(-2)" in line
               for line in booted.lines)


def test_cpus_outlive_their_interrupt_controller(boot):
    run = f"together 20; suspend; resume; together 20; unbind /intc@8000000; rescan; dma verify {NVME}; together 20"
    booted = boot(smp="4", run=run)
    assert booted.status == 0
    assert len(booted.records("together")) == 12
