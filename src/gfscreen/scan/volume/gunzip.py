"""Gzip, read as long as a scan needs it: members in a row are one stream, and what lies behind it is counted, not read.

Python's and isal's readers go on to the end of the file, and refuse it for a few bytes that a copy or an archive left
there. Of every member that is read, the checksum is verified.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any, cast

from isal import igzip_lib, isal_zlib

MAGIC = b"\x1f\x8b"
# isal has no type stubs that mypy accepts for its error class, which is an Exception.
READ_ERRORS: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error))
# The empty member with which bgzip ends its files (SAM specification 4.1.2): belongs there, not worth a word.
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_READ_BYTES = 1 << 18
# What one call unpacks at most, whatever it is fed.
_UNPACK_BYTES = 1 << 20
# A member is fed little at first, because what it leaves over is copied: a file may hold many small ones.
_FIRST_FEED_BYTES = 1 << 12
# Members without content cost time and bring nothing; some lie where bgzip's files were joined.
_MOST_EMPTY_MEMBERS = 1000


class Gunzip(io.RawIOBase):
    """The unpacked bytes of a gzip file, from the start.

    Raises one of READ_ERRORS where the file ends within a member, or is damaged. Behind the last member it ends as a
    file does, whatever follows; zeros between members are skipped, as gzip does.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, which begins with MAGIC. Raises OSError."""
        self._file = path.open("rb")
        self._data, self._at = b"", 0
        self._empty_members = 0
        self._begin_member()

    def _begin_member(self) -> None:
        self._member: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._feed, self._unpacked = _FIRST_FEED_BYTES, 0

    def readable(self) -> bool:
        """As of every stream that is read."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill some of `buffer`; 0 behind the last member."""
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._member.eof and not self._next_member():
                return 0
            if piece := self._unpack(len(view)):
                view[: len(piece)] = piece
                return len(piece)
        return 0

    def finish(self, limit: int) -> int:
        """Unpack the rest of the member, so that its checksum is verified; how many bytes of the file lie behind it.

        0 also where the member goes on for more than `limit` bytes, and for the empty member at the end that is
        bgzip's.
        """
        while not self._member.eof:
            limit -= len(self._unpack(min(limit, _UNPACK_BYTES)))
            if limit <= 0:
                return 0
        # The place of the first byte behind the member.
        place = self._file.tell() - len(self._data) + self._at
        behind = os.fstat(self._file.fileno()).st_size - place
        if behind == len(_BGZF_END):
            self._file.seek(place)
            if self._file.read(behind) == _BGZF_END:
                return 0
        return behind

    def _unpack(self, size: int) -> bytes:
        """At most `size` bytes more of this member; may be none although there is more."""
        fed = b""
        if self._member.needs_input:
            if self._at == len(self._data):
                self._data, self._at = self._file.read(_READ_BYTES), 0
                if not self._data:
                    raise EOFError("the gzip stream ends before its end mark")
            fed = self._data[self._at : self._at + self._feed]
            self._at += len(fed)
            self._feed = min(2 * self._feed, _READ_BYTES)
        piece: bytes = self._member.decompress(fed, max_length=min(size, _UNPACK_BYTES))
        self._unpacked += len(piece)
        if self._member.eof:
            self._at -= len(self._member.unused_data)
        return piece

    def _next_member(self) -> bool:
        """Go on to the member that follows; False if none does."""
        if not self._unpacked:
            self._empty_members += 1
            if self._empty_members > _MOST_EMPTY_MEMBERS:
                raise EOFError(f"more than {_MOST_EMPTY_MEMBERS} gzip members without content")
        if self._data[self._at : self._at + 1] == b"\0":
            self._data, self._at = self._data[self._at :].lstrip(b"\0"), 0
        # isal misreads the checksum of a header that comes in two pieces: there must be enough for all of it.
        while len(self._data) - self._at < _FIRST_FEED_BYTES and (more := self._file.read(_READ_BYTES)):
            self._data, self._at = (self._data[self._at :] + more).lstrip(b"\0"), 0
        if self._data[self._at : self._at + 2] != MAGIC:
            return False
        self._begin_member()
        return True


def open_unpacked(path: Path) -> io.BufferedIOBase | io.RawIOBase:
    """A plain or gzipped file, told by its first bytes and not by its name. Raises OSError."""
    with path.open("rb") as stream:
        gzipped = stream.read(2) == MAGIC
    return Gunzip(path) if gzipped else path.open("rb")


def read_up_to(stream: Any, buffer: Any) -> int:
    """Fill `buffer` as far as the stream reaches; how many bytes that is. Raises one of READ_ERRORS."""
    view = memoryview(buffer).cast("B")
    done = 0
    while done < len(view) and (count := stream.readinto(view[done : done + (1 << 24)])):
        done += count
    return done


def fill(stream: Any, buffer: Any) -> None:
    """Read exactly as many bytes as `buffer` has. Raises EOFError, and one of READ_ERRORS."""
    size = memoryview(buffer).nbytes
    done = read_up_to(stream, buffer)
    if done < size:
        raise EOFError(f"ends after {done} of {size} bytes")


def skip(stream: Any, size: int) -> None:
    """Read `size` bytes and forget them. Raises EOFError, and one of READ_ERRORS."""
    while size > 0:
        piece = bytearray(min(size, _UNPACK_BYTES))
        fill(stream, piece)
        size -= len(piece)
