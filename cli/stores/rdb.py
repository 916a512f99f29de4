"""Counts the entities of an RDB file, which Redis and Valkey write, by walking through it to its end."""

from __future__ import annotations

import struct
from typing import IO

from cli.errors import CliError

STRING = 0
AUX, RESIZE, MILLISECONDS, SECONDS, SELECT, END = 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
IDLE, FREQUENCY, FUNCTION, SLOT = 0xF8, 0xF9, 0xF5, 0xF4
CHECKSUM = 8  # bytes behind the end
BLOCK = 1 << 20


class Reader:
    """Bytes one after another; what is skipped is not kept."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._kept, self._at = file, b"", 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._kept):
            more = self._file.read(max(BLOCK, count))
            self._kept, self._at = self._kept[self._at :] + more, 0
            if len(self._kept) < count:
                raise CliError("the RDB file is cut off: it ends in the middle of an entry")
        found = self._kept[self._at : self._at + count]
        self._at += count
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def length(self) -> tuple[int, bool]:
        """A length, or with True the kind of a specially encoded string."""
        first = self.byte()
        form = first >> 6
        if form == 0:
            return first & 63, False
        if form == 1:
            return (first & 63) << 8 | self.byte(), False
        if form == 2:
            wide = first == 0x81
            return struct.unpack(">Q" if wide else ">I", self.take(8 if wide else 4))[0], False
        return first & 63, True

    def string(self) -> int:
        """Skips a string; its bytes as stored."""
        size, special = self.length()
        if special and size == 3:  # compressed
            packed = self.length()[0]
            self.length()
            size = packed
        elif special:
            size = {0: 1, 1: 2, 2: 4}[size]
        for start in range(0, size, BLOCK):
            self.take(min(BLOCK, size - start))
        return size


def count(file: IO[bytes]) -> int:
    """Keys of every database. Values other than strings are none of Slipway's: they are refused by name."""
    reader = Reader(file)
    head = reader.take(9)
    if head[:5] not in (b"REDIS", b"VALKE") or not head[-3:].isdigit():
        raise CliError(f"no RDB file: it begins with {head!r}")
    found = 0
    while (kind := reader.byte()) != END:
        if not _skipped(reader, kind):
            if kind != STRING:
                raise CliError(f"an entry of type {kind} is no entity of Slipway's: its features are plain strings")
            reader.string()
            reader.string()
            found += 1
    reader.take(CHECKSUM)
    return found


def _skipped(reader: Reader, kind: int) -> bool:
    """What stands between the entries."""
    if kind == AUX:
        reader.string()
        reader.string()
    elif kind == RESIZE:
        reader.length()
        reader.length()
    elif kind in (SELECT, IDLE):
        reader.length()
    elif kind == MILLISECONDS:
        reader.take(8)
    elif kind == SECONDS:
        reader.take(4)
    elif kind == FREQUENCY:
        reader.byte()
    elif kind == FUNCTION:
        reader.string()
    elif kind == SLOT:
        for _ in range(3):
            reader.length()
    else:
        return False
    return True
