"""What the tree says decides: order, missing suppliers, wrong properties.

Every tree here is QEMU's own with one thing changed (`dts/`), so what differs
from the default boot comes from that one thing.
"""

import pytest
import trees
from bench import EDU, EDU_STREAM, NVME, NVME_STREAM, SMMU

pytestmark = pytest.mark.lg_feature("qemu")
UART = "/pl011@9000000"


@pytest.fixture(scope="module")
def tree(boot):
    return trees.machine_tree(boot)


def state(device):
    """What must not depend on the order of anything."""
    return {key: device[key] for key in ("state", "driver", "probes", "iommu", "streams", "domain")}


ORDERS = {
    "smmu-first": lambda name: not name.startswith("smmuv3"),
    "smmu-last": lambda name: name.startswith("smmuv3"),
    "sorted": lambda name: name,
    "pcie-first": lambda name: not name.startswith("pcie"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_s01_order_of_nodes_does_not_matter(boot, default, tree, order):
    shuffled = trees.reordered(tree, ORDERS[order])
    names = [name for name, _, _ in trees.root_children(shuffled)]
    assert sorted(names) == sorted(name for name, _, _ in trees.root_children(tree))
    booted = boot(dtb=trees.tree.keep(shuffled))
    assert booted.status == 0
    for device in default.records("device"):
        assert state(booted.device(device["name"])) == state(device)


@pytest.mark.parametrize("late", ["smmuv3", "pcie", "gic", "smmuv3,pcie,gic"])
def test_s01_drivers_that_arrive_later_change_nothing(boot, default, late):
    adds = "; ".join(f"driver add {name}" for name in late.split(","))
    booted = boot(bootargs=f"driver.late={late}", run=f"{adds}; dma verify")
    assert booted.status == 0
    for name in (SMMU, NVME, EDU):
        assert state(booted.device(name)) == state(default.device(name))


def test_s03_disabled_smmu_means_direct_dma(boot, disk, tree):
    booted = boot(dtb=trees.overlaid(tree, "smmu-disabled"))
    nvme = booted.device(NVME)
    assert booted.status == 0
    assert (nvme["state"], nvme["domain"]) == ("bound", "none")
    assert SMMU not in booted.waited(NVME)
    assert booted.device(SMMU)["state"] == "disabled"
    assert SMMU in nvme["decision"]


@pytest.mark.parametrize("how", ["tree", "bootargs"])
def test_s02_smmu_without_driver_refuses_its_masters(boot, tree, how):
    if how == "tree":
        booted = boot(dtb=trees.overlaid(tree, "smmu-unknown"))
    else:
        booted = boot(bootargs="driver.skip=smmuv3")
    assert booted.status == 1
    for master in (NVME, EDU):
        device = booted.device(master)
        assert (device["state"], device["probes"]) == ("failed", 0)
        # For ever, and at once: nobody waited.
        assert SMMU not in booted.waited(master)
        why = "no driver in this image" if how == "tree" else "skipped on the command line"
        assert SMMU in booted.reason(master) and why in booted.reason(master)


def test_s02_policy_may_allow_direct_dma(boot, tree):
    booted = boot(
        bootargs="iommu.missing=direct", dtb=trees.overlaid(tree, "smmu-unknown"),
        run=f"rescan; unbind {NVME}; bind {NVME}; dma verify",
    )
    assert booted.status == 0
    nvme = booted.device(NVME)
    assert (nvme["state"], nvme["domain"]) == ("bound", "none")
    # Each decision is told once, however often its device is tried (edu cannot reach
    # memory without an IOMMU).
    assert booted.device(EDU)["probes"] > 1 and nvme["probes"] > 1
    said = [line for line in booted.lines if "policy: " in line and not line.startswith("@")]
    assert len(said) == 2
    for master, line in zip((NVME, EDU), said):
        assert master in line and "iommu.missing=direct" in line and "no driver in this image" in line


def test_s04_smmu_without_reg_fails_and_its_masters_name_it(boot, tree):
    booted = boot(dtb=trees.overlaid(tree, "smmu-without-reg"))
    assert booted.status == 1
    smmu = booted.device(SMMU)
    assert smmu["state"] == "failed"
    assert "reg" in booted.reason(SMMU)
    for master in (NVME, EDU):
        assert booted.device(master)["probes"] == 0
        assert SMMU in booted.reason(master)
    assert booted.device(UART)["state"] == "bound"


def test_own_iommus_of_a_function_take_precedence(boot, tree):
    booted = boot(dtb=trees.overlaid(tree, "nvme-own-iommus"))
    nvme, edu = booted.device(NVME), booted.device(EDU)
    assert booted.status == 0
    assert (nvme["domain"], nvme["iommu"], nvme["streams"]) == ("dma", SMMU, [NVME_STREAM])
    assert edu["iommu"] is None


def test_s24_a_stream_beyond_the_table_fails_one_device_only(boot, tree):
    patch = "&{/pcie@10000000/nvme@1,0} { iommus = <&{/smmuv3@9050000} 0x10000>; };"
    booted = boot(dtb=trees.overlaid(tree, "nvme-short-iommus", patch=patch), run=f"why {NVME}; dma verify")
    assert booted.status == 0
    nvme, edu = booted.device(NVME), booted.device(EDU)
    assert (nvme["state"], nvme["probes"], nvme["domain"]) == ("failed", 0, "blocked")
    assert "StreamID 0x10000" in booted.reason(NVME) and "0x10000 streams" in booted.reason(NVME)
    assert (edu["state"], edu["domain"], edu["streams"]) == ("bound", "dma", [EDU_STREAM])


@pytest.mark.parametrize("overlay, named", [
    ("nvme-dangling-iommus", "0xdead"), ("nvme-short-iommus", "iommus"),
])
def test_wrong_reference_fails_one_device_only(boot, tree, overlay, named):
    booted = boot(dtb=trees.overlaid(tree, overlay))
    nvme, edu = booted.device(NVME), booted.device(EDU)
    assert (nvme["state"], nvme["probes"], nvme["domain"]) == ("failed", 0, "none")
    assert named in booted.reason(NVME)
    assert (edu["state"], edu["domain"], edu["streams"]) == ("bound", "dma", [EDU_STREAM])
    # edu proved its DMA, and the main job speaks of the disk that is missing.
    assert booted.status == 0
    assert any("no disk" in line for line in booted.lines)
