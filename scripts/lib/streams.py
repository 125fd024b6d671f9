"""What a tree says of its devices' streams, read by `dtc` and `fdtget` alone, and
compared with a plan: nothing of Mastiff's own reader is in here."""

from .common import Usage, run


def _paths(tree):
    """The full path of every node, from the decompiled source's nesting."""
    result = run("dtc", "-q", "-I", "dtb", "-O", "dts", tree)
    if result.returncode != 0:
        raise Usage(f"dtc can't read {tree}")
    stack, paths = [], []
    for line in map(str.strip, result.stdout.splitlines()):
        if line.endswith("{"):
            name = line[:-1].strip()
            stack.append("" if name == "/" else name.split(":")[-1].strip())
            paths.append("/".join(stack) or "/")
        elif line == "};":
            stack.pop()
    return paths


def _cells(tree, paths, name):
    """A property's cells by node, for the nodes that have it."""
    pairs = [word for path in paths for word in (path, name)]
    result = run("fdtget", "-t", "x", "-d", "-", tree, *pairs)
    lines = result.stdout.splitlines()
    if result.returncode != 0 or len(lines) != len(paths):
        raise Usage(f"fdtget can't read {name} in {tree}: {result.stdout[-200:]}")
    found = zip(paths, lines)
    return {path: [int(word, 16) for word in line.split()] for path, line in found if line != "-"}


def _masked(id, mask=0):
    """The IDs that differ from this one only in bits of the mask."""
    ids, subset = set(), mask
    while True:
        ids.add(id & ~mask | subset)
        if subset == 0:
            return ids
        subset = (subset - 1) & mask


class Said:
    """What the tree says."""

    def __init__(self, tree):
        paths = _paths(tree)
        handles = _cells(tree, paths, "phandle")
        self.by_handle = {cells[0]: path for path, cells in handles.items()}
        self.wants = _cells(tree, list(handles), "#iommu-cells")
        self.iommus = _cells(tree, paths, "iommus")
        self.maps = _cells(tree, paths, "iommu-map")

    def streams(self, path):
        """A device's own streams, by IOMMU."""
        cells, found = self.iommus.get(path, []), {}
        while cells:
            iommu = self.by_handle[cells[0]]
            count = self.wants[iommu][0]
            found.setdefault(iommu, set()).update(_masked(*(cells[1:1 + count] or [0])))
            cells = cells[1 + count:]
        return found

    def ranges(self, path):
        """A bus's map, by IOMMU. Linux's trees have one output cell in all of them."""
        cells, found = self.maps.get(path, []), {}
        for first, handle, id, count in zip(*[iter(cells)] * 4):
            found.setdefault(self.by_handle[handle], []).append((first, id, count))
        return found


def compare(tree, devices):
    """How many devices of a plan have streams, and where it differs from the tree."""
    said = Said(tree)
    differences, count = [], 0
    for device in devices:
        name = device["name"]
        if device["state"] == "disabled" or not (name in said.iommus or name in said.maps):
            own = [s for s in device["streams"] if s["property"] == "iommus"]
            if own and name not in said.iommus:
                differences.append(f"{name}: streams from nowhere: {own}")
            continue
        count += 1
        own, ranges = {}, {}
        for entry in device["streams"]:
            if entry["property"] == "iommus":
                own[entry["iommu"]] = set(entry["ids"])
            else:
                ranges[entry["iommu"]] = [(r["first"], r["id"], r["count"]) for r in entry["ranges"]]
        if own != said.streams(name):
            differences.append(f"{name}: {own}, fdtget has {said.streams(name)}")
        if ranges != said.ranges(name):
            differences.append(f"{name}: {ranges}, fdtget has {said.ranges(name)}")
    return count, differences
