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


# The SMMU's registers (IHI 0070 §6.2) that firmware leaves behind in `left_on`.
SMMU = 0x0905_0000
CR0, STRTAB_BASE, STRTAB_BASE_CFG = SMMU + 0x20, SMMU + 0x80, SMMU + 0x88
STREAMS_LOG2 = 5
STREAM_TABLE = RAM + 0x900_0000


def left_on(folder):
    """An SMMU as firmware may leave it: on, every stream bypassing it. Gives the stores
    that make it so, for `raw_options`, and the table that they need."""
    bypass = struct.pack("<8Q", 0b100 << 1 | 1, 0, 0, 0, 0, 0, 0, 0)
    (folder / "streams.bin").write_bytes(bypass * (1 << STREAMS_LOG2))
    return {
        "stores": [(STRTAB_BASE, STREAM_TABLE), (STRTAB_BASE_CFG, STREAMS_LOG2), (CR0, 1)],
        "loads": [f"-device loader,file={folder}/streams.bin,addr={STREAM_TABLE:#x},force-raw=on"],
    }


# edu as function 00:02.0, at the start of the window for registers.
EDU_CONFIG, EDU = 0x40_1000_0000 + (2 << 15), 0x1000_0000


def aimed(at):
    """What firmware writes to have edu write its buffer, all zeroes, to an address 100 ms
    from now: more stores for `left_on`'s."""
    return [
        (EDU_CONFIG + 0x10, EDU), (EDU_CONFIG + 0x4, 0b110),
        (EDU + 0x80, 0x4_0000), (EDU + 0x88, at), (EDU + 0x90, 0x1000), (EDU + 0x98, 0b11),
    ]


def stub(tree, kernel, stores=()):
    """Stores to registers, then x0 = tree, x1..x3 = 0, jump to the kernel."""
    words = []
    for address, value in stores:
        words += _load_constant(5, address) + _load_constant(6, value)
        # str x6, [x5] where the register has 64 bits, str w6, [x5] where it has 32.
        words.append(0xF900_00A6 if address == STRTAB_BASE else 0xB900_00A6)
    words += _load_constant(0, tree)
    for register in (1, 2, 3):
        words += _load_constant(register, 0)
    words += _load_constant(4, kernel)
    words.append(0xD61F_0000 | 4 << 5)  # br x4
    return struct.pack(f"<{len(words)}I", *words)


def raw_options(folder, image, blob, kernel=KERNEL, tree=TREE, before=None):
    """Options for `boot(raw=True, ...)` that start the image with this blob, `before`
    that has been set up."""
    before = before or {"stores": [], "loads": []}
    (folder / "stub.bin").write_bytes(stub(tree, kernel, before["stores"]))
    (folder / "tree.bin").write_bytes(blob)
    loads = [
        f"-device loader,file={folder}/stub.bin,addr={STUB:#x},force-raw=on",
        f"-device loader,file={folder}/tree.bin,addr={tree:#x},force-raw=on",
        f"-device loader,file={image},addr={kernel:#x},force-raw=on",
        f"-device loader,addr={STUB:#x},cpu-num=0",
        *before["loads"],
    ]
    return {"raw": True, "qemu_args": " ".join(loads)}


def before_flash(folder, ram, code=b"", stores=()):
    """QEMU's arguments for something that runs at EL3 before the reset vector at 0 does."""
    (folder / "stub.bin").write_bytes(code + stub(0, 0, stores))
    at = ram + 0x3000_0000
    return (f"-device loader,file={folder}/stub.bin,addr={at:#x},force-raw=on "
            f"-device loader,addr={at:#x},cpu-num=0")
