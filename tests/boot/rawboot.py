"""Boots without `-kernel`: image and tree go to memory as they are.

QEMU edits and checks a tree that it is handed with `-dtb`, so a broken one never
arrives, and it picks the load address. Here a stub of a few instructions puts
the tree's address in x0 and jumps, as the arm64 boot protocol asks.
"""

import struct

RAM = 0x4000_0000
# QEMU leaves a tree of its own at the start of RAM.
STUB = RAM + 0x40_0000
KERNEL = RAM + 0x200_0000
TREE = RAM + 0x800_0000


def _load_constant(register, value):
    """movz, movk, movk, movk: a 64-bit constant (Arm ARM C6.2.254, C6.2.255)."""
    words = []
    for index in range(4):
        opcode = 0xD280_0000 if index == 0 else 0xF280_0000
        words.append(opcode | index << 21 | (value >> 16 * index & 0xFFFF) << 5 | register)
    return words


def stub(tree, kernel):
    """x0 = tree, x1..x3 = 0, jump to the kernel."""
    words = _load_constant(0, tree)
    for register in (1, 2, 3):
        words += _load_constant(register, 0)
    words += _load_constant(4, kernel)
    words.append(0xD61F_0000 | 4 << 5)  # br x4
    return struct.pack(f"<{len(words)}I", *words)


def raw_options(folder, image, blob, kernel=KERNEL, tree=TREE):
    """Options for `boot(raw=True, ...)` that start the image with this blob."""
    (folder / "stub.bin").write_bytes(stub(tree, kernel))
    (folder / "tree.bin").write_bytes(blob)
    loads = [
        f"-device loader,file={folder}/stub.bin,addr={STUB:#x},force-raw=on",
        f"-device loader,file={folder}/tree.bin,addr={tree:#x},force-raw=on",
        f"-device loader,file={image},addr={kernel:#x},force-raw=on",
        f"-device loader,addr={STUB:#x},cpu-num=0",
    ]
    return {"raw": True, "qemu_args": " ".join(loads)}
