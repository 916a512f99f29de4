"""Counts the records of a file in LevelDB's log format, which Firestore's exports are written in."""

from __future__ import annotations

from typing import IO

from cli.errors import CliError

BLOCK = 32768
HEADER = 7  # checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def count(file: IO[bytes]) -> int:
    """Whole records: a record that is begun and not ended is a file that is cut off."""
    found, within = 0, False
    while block := file.read(BLOCK):
        at = 0
        while at + HEADER <= len(block):
            size, kind = int.from_bytes(block[at + 4 : at + 6], "little"), block[at + 6]
            if kind == 0 and size == 0:
                break  # the rest of the block is padding
            if at + HEADER + size > len(block) or kind not in (FULL, FIRST, MIDDLE, LAST):
                raise CliError("the export's file is cut off or is none: a record does not fit into its block")
            if within != (kind in (MIDDLE, LAST)):
                raise CliError("the export's file is damaged: the parts of a record do not follow each other")
            within = kind in (FIRST, MIDDLE)
            found += kind in (FULL, LAST)
            at += HEADER + size
    if within:
        raise CliError("the export's file is cut off: it ends in the middle of a record")
    return found
