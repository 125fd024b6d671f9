"""A flash's content: the image at its start, where the CPU's reset vector is, and for
a board whose firmware would be us, the device tree at the place that its `Reset` names."""

import hashlib

from .common import TARGET, Usage, replace_sparse

MADE = TARGET / "flash"


def pieces(recipe, image, blob=None):
    """What goes where. `blob` is the tree, if the board's flash has one."""
    flash = recipe["flash"]
    found = {0: image}
    if "tree-at" in flash:
        found[flash["tree-at"]] = blob
    ends = [*sorted(found)[1:], flash["size"]]
    for (start, data), end in zip(sorted(found.items()), ends):
        if start + len(data) > end:
            what = "image" if start == 0 else "tree"
            raise Usage(f"the {what} of {len(data):#x} bytes does not fit the flash: "
                        f"there are {end - start:#x} for it")
    return found


def with_tree(recipe, path, blob):
    """The flash in a file with another tree in it, stored under a name made from its
    content."""
    with open(path, "rb") as file:
        image = file.read(recipe["flash"]["tree-at"])
    made = MADE / f"{hashlib.sha256(image + blob).hexdigest()[:16]}.img"
    if not made.exists():
        replace_sparse(made, recipe["flash"]["size"], pieces(recipe, image, blob))
    return made
