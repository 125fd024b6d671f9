"""An ELF file's loadable bytes as a flat image: what `objcopy -O binary` makes.

rustup's toolchains come without a usable objcopy, and the format is simple.
The arm64 boot header that the image starts with is checked on the way.
"""

import struct

from .common import Usage

EM_AARCH64 = 183
PT_LOAD = 1
# The arm64 header (Linux Documentation/arch/arm64/booting.rst): image_size at
# byte 16, the magic at byte 56.
HEADER = 64
MAGIC = b"ARM\x64"


def _segments(data):
    """(address, file offset, bytes in the file, bytes in memory) of each PT_LOAD."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise Usage("not a little-endian ELF64 file")
    machine, = struct.unpack_from("<H", data, 18)
    if machine != EM_AARCH64:
        raise Usage(f"an ELF file for machine {machine}, not aarch64 ({EM_AARCH64})")
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, _, start, address, _, stored, memory, _ = struct.unpack_from(
            "<IIQQQQQQ", data, offset + index * size
        )
        if kind == PT_LOAD and memory:
            yield address, start, stored, memory


def flatten(data):
    """The flat image; bytes that are zero at the end (`.bss`) are not in it."""
    segments = sorted(_segments(data))
    if not segments:
        raise Usage("the ELF file has nothing to load")
    base = segments[0][0]
    image = bytearray()
    for address, start, stored, _ in segments:
        if stored:
            image.extend(bytes(max(0, address - base - len(image))))
            image[address - base : address - base + stored] = data[start : start + stored]
    span = max(address + memory for address, _, _, memory in segments) - base
    if len(image) < HEADER or image[56:60] != MAGIC:
        raise Usage("the image does not start with the arm64 boot header")
    image_size, = struct.unpack_from("<Q", image, 16)
    if image_size < span:
        raise Usage(f"the header says {image_size:#x} bytes, but the image occupies {span:#x}")
    return bytes(image)
