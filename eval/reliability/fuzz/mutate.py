"""Damage a file as storage, transfer, other programs and ill will do: fields, numbers, bytes, lengths, compression.

A NIfTI file is unpacked, damaged and packed again: a flipped bit of compressed data only ever tests its checksum.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from random import Random

# Offset, struct format and name of the fields that are read, from the NIfTI-1 and NIfTI-2 definitions.
_FIELDS = {
    348: [
        *[(0, "i", "sizeof_hdr"), (70, "h", "datatype"), (72, "h", "bitpix"), (108, "f", "vox_offset")],
        *[(40 + 2 * n, "h", f"dim[{n}]") for n in range(8)],
        *[(76 + 4 * n, "f", f"pixdim[{n}]") for n in range(8)],
        *[(112, "f", "scl_slope"), (116, "f", "scl_inter"), (123, "B", "xyzt_units")],
        *[(252, "h", "qform_code"), (254, "h", "sform_code")],
        *[(256 + 4 * n, "f", f"quatern and offset[{n}]") for n in range(6)],
        *[(280 + 4 * n, "f", f"srow[{n}]") for n in range(12)],
        (344, "i", "magic"),
    ],
    540: [
        *[(0, "i", "sizeof_hdr"), (12, "h", "datatype"), (14, "h", "bitpix"), (168, "q", "vox_offset")],
        *[(16 + 8 * n, "q", f"dim[{n}]") for n in range(8)],
        *[(104 + 8 * n, "d", f"pixdim[{n}]") for n in range(8)],
        *[(176, "d", "scl_slope"), (184, "d", "scl_inter"), (500, "i", "xyzt_units")],
        *[(344, "i", "qform_code"), (348, "i", "sform_code")],
        *[(352 + 8 * n, "d", f"quatern and offset[{n}]") for n in range(6)],
        *[(400 + 8 * n, "d", f"srow[{n}]") for n in range(12)],
        (4, "i", "magic"),
    ],
}
_WHOLE = (0, 1, 2, 3, 4, 7, 8, 16, 64, 128, 255, 256, 348, 512, 540, 1024, 1280, 1536, 32767, 65536, 2**31 - 1, 2**62)
_REAL = (
    0.0,
    -0.0,
    1.0,
    0.5,
    1e-3,
    1e-7,
    1e-30,
    1e-45,
    0.3,
    10.0,
    99.0,
    1e3,
    1e10,
    3e38,
    1e300,
    math.inf,
    float("nan"),
)
_WORDS = (b"0", b"-1", b"nan", b"inf", b"1e308", b"-1e308", b"1e-320", b"99999999999999999999", b"2147483648", b"65536")
MAX_BYTES = 1 << 20


def _real(rng: Random) -> float:
    value = rng.choice(_REAL) if rng.random() < 0.8 else rng.uniform(-1e4, 1e4)
    return -value if rng.random() < 0.3 else value


def _pack(order: str, kind: str, rng: Random) -> bytes:
    """One value of a field; whole numbers wrap to the field's size, reals that do not fit become infinite."""
    if kind in "fd":
        value = _real(rng)
        try:
            return struct.pack(order + kind, value)
        except OverflowError:
            return struct.pack(order + kind, math.inf)
    size = struct.calcsize(kind)
    whole = rng.choice(_WHOLE) if rng.random() < 0.7 else rng.getrandbits(8 * size)
    if rng.random() < 0.3:
        whole = -whole
    return (whole % (1 << (8 * size))).to_bytes(size, "little" if order == "<" else "big")


def damage_fields(data: bytes, rng: Random) -> bytes:
    """Set one to four fields of a NIfTI header to values that somebody forgot to think of."""
    raw = bytearray(data)
    size = next((s for s in _FIELDS if data[:4] in (s.to_bytes(4, "little"), s.to_bytes(4, "big"))), 348)
    if len(raw) < size:
        return data
    order = ">" if data[:4] == size.to_bytes(4, "big") else "<"
    for offset, kind, _ in rng.choices(_FIELDS[size], k=rng.randint(1, 4)):
        value = _pack(order, kind, rng)
        raw[offset : offset + len(value)] = value
    return bytes(raw)


def damage_text(data: bytes, rng: Random) -> bytes:
    """Change a number or swap, drop or repeat a line in the text header of a MetaImage or NRRD file."""
    end = data.find(b"LOCAL") if b"LOCAL" in data[:4096] else data.find(b"\n\n")
    head, tail = (data[:end], data[end:]) if end > 0 else (data[:512], data[512:])
    if rng.random() < 0.6 and (numbers := list(re.finditer(rb"-?\d+(\.\d+)?", head))):
        chosen = rng.choice(numbers)
        return head[: chosen.start()] + rng.choice(_WORDS) + head[chosen.end() :] + tail
    lines = head.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.randrange(4)
    if action == 0:
        lines[place], lines[other] = lines[other], lines[place]
    elif action == 1:
        lines.insert(other, lines[place])
    elif action == 2:
        del lines[place]
    else:
        lines[place] = lines[place].partition(b" ")[0] + b" " + lines[other].partition(b" ")[2]
    return b"\n".join(lines) + tail


def damage_bytes(data: bytes, rng: Random) -> bytes:
    """Flip bits, overwrite, cut, repeat, insert: what storage and transfer do."""
    if not data:
        return rng.randbytes(rng.randint(1, 600))
    raw = bytearray(data)
    # Headers come first and matter most.
    place = min(int(rng.expovariate(1 / 200)), len(raw) - 1) if rng.random() < 0.7 else rng.randrange(len(raw))
    length = rng.choice((1, 2, 4, 8, 16, 64))
    action = rng.randrange(6)
    if action == 0:
        raw[place] ^= 1 << rng.randrange(8)
    elif action == 1:
        raw[place : place + length] = rng.randbytes(length)
    elif action == 2:
        del raw[place:]
    elif action == 3:
        del raw[place : place + length]
    elif action == 4:
        raw[place:place] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    else:
        raw += rng.choice((bytes(length), rng.randbytes(length), raw[:2048]))
    return bytes(raw)


def _unpacked(data: bytes) -> bytes | None:
    if data[:2] != b"\x1f\x8b":
        return None
    try:
        unpacker = zlib.decompressobj(wbits=31)
        return unpacker.decompress(data, MAX_BYTES)
    except zlib.error:
        return None


def bomb(rng: Random) -> bytes:
    """A few kilobytes that unpack to megabytes of zeros, behind a header that asks for any part of them."""
    from eval.reliability.fuzz.seeds import nifti

    start = bytearray(damage_fields(nifti("i2"), rng))
    side = rng.choice((64, 256, 400))
    start[40:48] = struct.pack("<4h", 3, side, side, rng.choice((1, 8, 32)))
    if rng.random() < 0.3:
        start[108:112] = struct.pack("<f", rng.choice((352.0, 1e5, 1e6, 1e7, 1e9)))
    return gzip.compress(bytes(start) + bytes(rng.choice((10**5, 4 * 10**6))), 9, mtime=0)


def mutate(data: bytes, rng: Random, other: bytes = b"") -> bytes:
    """One to three damages of `data`, at most `MAX_BYTES` long; `other` is a second file to splice with."""
    if rng.random() < 0.002:
        return bomb(rng)
    inner = _unpacked(data)
    packed = inner is not None and rng.random() < 0.85
    raw = inner if packed and inner is not None else data
    for _ in range(rng.choice((1, 1, 2, 3))):
        choice = rng.random()
        if raw[:4] == b"NRRD" or raw[:6] == b"Object" or raw[:5] == b"NDims":
            raw = damage_text(raw, rng) if choice < 0.6 else damage_bytes(raw, rng)
        elif raw[128:132] == b"DICM" and choice < 0.9:
            # Nobody reads the preamble.
            raw = raw[:132] + damage_bytes(raw[132:], rng)
        elif choice < 0.6:
            raw = damage_fields(raw, rng)
        elif choice < 0.95 or not other:
            raw = damage_bytes(raw, rng)
        else:
            cut = rng.randrange(len(raw) + 1)
            raw = raw[:cut] + other[min(cut, len(other)) :]
    raw = raw[:MAX_BYTES]
    return gzip.compress(raw, 1, mtime=0) if packed else raw
