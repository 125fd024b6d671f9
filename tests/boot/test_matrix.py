"""The same image wherever a loader puts it, on machines of many sizes: the matrix."""

import itertools

import pytest
import trees
from bench import IMAGE, NVME
from lib.machine import sha256
from rawboot import raw_options

pytestmark = [pytest.mark.lg_feature("qemu"), pytest.mark.thorough]
VIRT = "virt,iommu=smmuv3,gic-version=3"
CPUS = ["cortex-a53", "cortex-a57", "cortex-a72", "neoverse-n1", "max"]
# Below 4 GiB, across it, and with most above.
SIZES = ["256M", "3G", "6G", "16G"]
MIB = 1 << 20


@pytest.mark.parametrize("cpu, mem", itertools.product(CPUS, SIZES))
def test_cpus_and_sizes(boot, disk, cpu, mem):
    # Each CPU with each number of them, too.
    smp = 1 + (CPUS.index(cpu) + SIZES.index(mem)) % 8
    booted = boot(machine=VIRT, cpu=cpu, mem=mem, smp=str(smp))
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


@pytest.mark.parametrize("mem", ["256M", "2G"])
def test_without_high_memory(boot, disk, mem):
    booted = boot(machine=f"{VIRT},highmem=off", mem=mem)
    assert booted.status == 0
    assert booted.digest() == sha256(disk)


# Image and tree at the low end, in the middle and at the high end of 4 GiB of RAM, which
# starts at 1 GiB; the tree at any page, and at no page's start.
PLACES = {
    "low": (0x4080_0000, 0x4060_1000),
    "tree-behind": (0x4080_0000, 0x4140_0008),
    "above-4-GiB": (0x1_0000_0000, 0x1_0800_3000),
    "end": (0x1_4000_0000 - 16 * MIB, 0x1_4000_0000 - 2 * MIB),
    "tree-below-4-GiB": (0x1_2340_0000, 0xffe0_0ff8),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_of_image_and_tree(boot, tmp_path, place):
    kernel, at = PLACES[place]
    blob = trees.machine_tree(boot, mem="4G", bootargs="report=json")
    booted = boot(mem="4G", **raw_options(tmp_path, IMAGE, blob, kernel=kernel, tree=at))
    assert booted.status == 0
    assert booted.device(NVME)["state"] == "bound"
