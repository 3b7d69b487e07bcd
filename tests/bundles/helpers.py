"""What the tests of bundles share: keys, entries, sync ways to dump and load, file systems that lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

from acache.codecs import Signer, get_codec
from acache.engine.bundles.merging import Job, merge
from acache.engine.bundles.reading import Reader, open_reader
from acache.files import FileSystem
from acache.files.system import REAL_FILES
from acache.types import Entry, Key

PICKLE: Final = get_codec("pickle")
SIGNER: Final = Signer(b"the-key-of-the-bundle")
STRANGER: Final = Signer(b"the-key-of-a-stranger")


def key(name: object) -> Key:
    """Return a key that looks like a real one."""
    return Key(hashlib.sha256(str(name).encode()).hexdigest())


def entries(*names: object) -> dict[Key, Entry]:
    """Return an entry for each name, whose value tells which it is."""
    return {key(name): Entry({"name": name}, 1.7e9) for name in names}


def dump(
    path: Path,
    pairs: Mapping[Key, Entry],
    signer: Signer | None = None,
    files: FileSystem = REAL_FILES,
    codec: str = "",
) -> str:
    """Dump without a lock, in this thread."""
    return merge(Job(files, str(path), list(pairs.items()), get_codec(codec or "pickle"), signer, 0.0))


def load(path: Path, signer: Signer | None = None, files: FileSystem = REAL_FILES) -> dict[Key, Any]:
    """Return all values."""
    with open_reader(files, str(path), signer) as reader:
        return {key: value_of(reader, key) for page in range(reader.pages) for key in reader.keys(page)}


def value_of(reader: Reader, key: Key) -> Any:
    """Return the value of an entry that is there."""
    entry = reader.read(key, PICKLE)
    assert entry is not None
    return entry.value


def values(pairs: Mapping[Key, Entry]) -> dict[Key, Any]:
    """Return what :func:`load` finds after ``pairs`` were dumped."""
    return {key: entry.value for key, entry in sorted(pairs.items())}


@final
class FlippedFiles(FileSystem):
    """Reads every file with one bit wrong; ``bit`` is its number, -1 for none."""

    __slots__ = ("bit",)

    def __init__(self) -> None:
        self.bit = -1

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read, and flip the bit if it is among what is read."""
        data = super().pread(fd, size, offset)
        place = self.bit // 8 - offset
        if self.bit < 0 or not 0 <= place < len(data):
            return data
        return data[:place] + bytes([data[place] ^ 1 << self.bit % 8]) + data[place + 1 :]


@final
class CountedFiles(FileSystem):
    """Notes the size of every read, in the order of the reads."""

    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads: list[int] = []

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read."""
        data = super().pread(fd, size, offset)
        self.reads.append(len(data))
        return data


@final
class ForeignFiles(FileSystem):
    """Says of everything that is open that another user owns it."""

    __slots__ = ()

    def fstat(self, fd: int) -> os.stat_result:
        """Change the owner."""
        fields = list(super().fstat(fd))
        fields[4] = os.geteuid() + 1
        return os.stat_result(fields)
