"""Gzip streams read as far as they are needed: the same bytes as Python's reader, in bounded pieces."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from gfscreen.scan.volume import gunzip
from gfscreen.scan.volume.gunzip import READ_ERRORS, Gunzip, fill, open_unpacked, read_up_to, skip

NOISE = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()


def member(data: bytes, flags: int = 0) -> bytes:
    """One gzip member whose header has these fields: 2 its checksum, 4 extra bytes, 8 a name, 16 a comment."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff"
    head += struct.pack("<H", 6) + b"BC\x02\0ab" if flags & 4 else b""
    head += b"name.nii\0" if flags & 8 else b""
    head += b"comment\0" if flags & 16 else b""
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return head + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data))


def unpacked(path: Path, size: int, piece: int = 1000) -> tuple[bytes, int]:
    """`size` bytes, read in pieces, and how many bytes of the file lie behind the member."""
    with Gunzip(path) as stream:
        data = bytearray()
        while len(data) < size:
            part = bytearray(min(piece, size - len(data)))
            fill(stream, part)
            data += part
        return bytes(data), stream.finish(1 << 20)


@pytest.mark.parametrize("read_bytes", [97, 4096, 1 << 18])
@pytest.mark.parametrize("flags", [0, 2, 4, 8, 16, 30])
def test_every_header_wherever_the_pieces_end(tmp_path, monkeypatch, flags, read_bytes):
    monkeypatch.setattr(gunzip, "_READ_BYTES", read_bytes)
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(member(NOISE[start : start + 3000], flags) for start in range(0, len(NOISE), 3000)))
    assert gzip.decompress(path.read_bytes()) == NOISE
    assert unpacked(path, len(NOISE)) == (NOISE, 0)


@pytest.mark.parametrize("tail", [0, 1, 27, 28, 29, 5000, 300_000])
@pytest.mark.parametrize("extra", [0, 1, 5000])
def test_what_lies_behind_is_counted(tmp_path, tail, extra):
    """`extra` bytes of the member itself are unpacked on the way to its checksum and are none of them."""
    path = tmp_path / "a.gz"
    path.write_bytes(member(NOISE) + (NOISE * 15)[:tail])
    assert unpacked(path, len(NOISE) - extra) == (NOISE[: len(NOISE) - extra], tail)


def test_a_member_that_goes_on_and_on_is_left(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(NOISE + bytes(50_000_000)) + b"tail")
    with Gunzip(path) as stream:
        fill(stream, bytearray(len(NOISE)))
        assert stream.finish(1 << 20) == 0


@pytest.mark.parametrize("kept", [1, 10, 4000, -9, -8, -1])
def test_a_stream_that_is_cut_is_an_error(tmp_path, kept):
    path = tmp_path / "a.gz"
    path.write_bytes(member(NOISE)[:kept])
    with pytest.raises(READ_ERRORS):
        unpacked(path, len(NOISE))


def test_behind_the_last_member_it_ends(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(member(b"abc") + bytes(100_000) + member(b"def") + b"rubbish")
    with Gunzip(path) as stream:
        data = bytearray(10)
        assert read_up_to(stream, data) == 6
        assert bytes(data[:6]) == b"abcdef"
        assert stream.readinto(bytearray(5)) == 0
        with pytest.raises(EOFError, match="ends after 0 of 3 bytes"):
            fill(stream, bytearray(3))


def test_a_bomb_is_unpacked_only_as_far_as_is_asked(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    try:
        with Gunzip(path) as stream:
            skip(stream, 5_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_plain_files_are_told_by_their_first_bytes(tmp_path):
    plain, packed = tmp_path / "a.nii.gz", tmp_path / "a.nii"
    plain.write_bytes(NOISE)
    packed.write_bytes(member(NOISE))
    for path, kind in ((plain, False), (packed, True)):
        with open_unpacked(path) as stream:
            data = bytearray(len(NOISE))
            fill(stream, data)
            assert bytes(data) == NOISE
            assert isinstance(stream, Gunzip) is kind
