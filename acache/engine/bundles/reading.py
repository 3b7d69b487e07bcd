"""An open bundle, as a thread sees it: every byte is verified before it is interpreted, and none is read in vain.

Nothing is read but what leads to an entry. The page read last is kept: who asks for keys in their order, as a dump does, reads
and verifies each page once.
"""

from __future__ import annotations

import math
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from hashlib import sha256
from types import TracebackType
from typing import Final, Self, final

from acache.codecs import (
    HEADER_SIZE,
    MAX_META,
    Codec,
    FrameHeader,
    Signer,
    decode_frame,
    read_header,
    unpack_meta,
)
from acache.engine.bundles.format import (
    DIGEST_SIZE,
    FOOTER_SIZE,
    PAGE_REF,
    PROLOGUE,
    RECORD,
    VERSION,
    PageRef,
    Record,
    check_prologue,
    unpack_footer,
)
from acache.engine.bundles.layout import Frame
from acache.exceptions import BundleError, EntryRejectedError
from acache.files import Blob, FileSystem
from acache.files.blob import open_blob
from acache.files.handle import Handle
from acache.types import Entry, Key

__all__ = ("Reader", "open_reader", "open_reader_at")

#: How a directory is opened to read in: it need be neither ours nor at the end of a path without symbolic links.
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS_CAN_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
#: Bytes that are read at a time.
_CHUNK: Final = 1 << 20


def open_reader(files: FileSystem, path: str, signer: Signer | None) -> Reader:
    """Open the bundle ``path``, which is absolute; otherwise as :func:`open_reader_at`."""
    directory, name = os.path.split(path)
    with Handle(files, files.open(directory, _DIRECTORY)) as home:
        return open_reader_at(files, name, home.fd, path, signer)


def open_reader_at(files: FileSystem, name: str, at: int, path: str, signer: Signer | None) -> Reader:
    """Open and verify the bundle ``name`` of the directory ``at``; ``path`` is what errors call it.

    Raises :class:`~acache.exceptions.BundleError`, and :class:`FileNotFoundError`.
    """
    try:
        blob = open_blob(files, name, at)
        try:
            if signer is None:
                _require_private(files.fstat(blob.fd), path)
            return Reader(files, blob, signer)
        except BaseException:
            blob.close()
            raise
    except EntryRejectedError as error:
        raise BundleError(path, error.reason) from None


def _require_private(status: os.stat_result, path: str) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_CAN_WRITE:
        raise BundleError(path, "unsafe")


@final
class Reader:
    """A bundle whose root was verified. All methods block; any number of threads may call them at once.

    What reads further raises :class:`~acache.exceptions.EntryRejectedError`, reason ``corrupt``, for what fails verification.
    """

    __slots__ = ("_blob", "_files", "_firsts", "_pages", "_recent", "digest", "entries")

    def __init__(self, files: FileSystem, blob: Blob, signer: Signer | None) -> None:
        self._files: Final = files
        self._blob: Final = blob
        check_prologue(blob.read(len(PROLOGUE)))
        footer = unpack_footer(self._read(blob.size - FOOTER_SIZE, FOOTER_SIZE), blob.size, signer)
        root = self._read(footer.root_offset, footer.pages * PAGE_REF.size)
        if sha256(root).digest() != footer.root:
            raise EntryRejectedError("corrupt")
        self.digest: Final = footer.results.hex()
        self.entries: Final = footer.entries
        self._pages: Final = [PageRef._make(fields) for fields in PAGE_REF.iter_unpack(root)]
        self._firsts: Final = [page.first for page in self._pages]
        self._recent: tuple[int, bytes] = (-1, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blob.close()

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is, for as long as it is open."""
        return self._blob.identity

    @property
    def pages(self) -> int:
        """How many pages of keys there are."""
        return len(self._pages)

    def keys(self, page: int) -> list[Key]:
        """Return the keys on one page, in order."""
        return [Key(fields[0].hex()) for fields in RECORD.iter_unpack(self._page(page))]

    def read(self, key: Key, codec: Codec) -> Entry | None:
        """Return the entry under ``key``; raise also what :func:`~acache.codecs.decode_frame` raises."""
        record = self.find(key)
        if record is None:
            return None
        frame = self._read(record.offset, record.size)
        # That the frame ends with its true seal is checked with the frame.
        if frame[-DIGEST_SIZE:] != record.seal:
            raise EntryRejectedError("corrupt")
        return decode_frame(frame, key, codec=codec, version_digest=VERSION)

    def factors(self, key: Key) -> Mapping[str, str] | None:
        """Return what the entry under ``key`` says its key was made of. Not verified: enough to explain with."""
        record = self.find(key)
        if record is None:
            return None
        size = self._header(record).meta_size
        return unpack_meta(self._read(record.offset + HEADER_SIZE, min(size, MAX_META)), "pickle").factors

    def expires(self, record: Record) -> float:
        """Return when an entry expires; infinity for never. Not verified: :meth:`verify` before it gives way to another."""
        expires = self._header(record).expires
        return math.inf if math.isnan(expires) else expires

    def verify(self, record: Record) -> None:
        """Raise for an entry that is not what was stored."""
        for _ in self._copy(record):
            pass

    def _header(self, record: Record) -> FrameHeader:
        return read_header(self._read(record.offset, min(record.size, HEADER_SIZE)))

    def find(self, key: Key) -> Record | None:
        """Return where the entry under ``key`` is, if there is one."""
        wanted = bytes.fromhex(key)
        number = bisect_right(self._firsts, wanted) - 1
        if number < 0:
            return None
        page = self._page(number)

        def key_at(place: int) -> bytes:
            return page[place * RECORD.size :][:DIGEST_SIZE]

        place = bisect_left(range(self._pages[number].frames), wanted, key=key_at)
        if place == self._pages[number].frames or key_at(place) != wanted:
            return None
        return Record._make(RECORD.unpack_from(page, place * RECORD.size))

    def records(self) -> Iterator[Record]:
        """Yield where all entries are, in the order of their keys."""
        for number in range(self.pages):
            yield from map(Record._make, RECORD.iter_unpack(self._page(number)))

    def frame(self, record: Record) -> Frame:
        """Return a frame to be written again as it is; its last piece raises if it is not what was stored."""
        return Frame(record.key, record.value, record.seal, record.size, self._copy(record))

    def _copy(self, record: Record) -> Iterator[bytes]:
        body, size = sha256(), record.size - DIGEST_SIZE
        for piece in self._pieces(record.offset, size):
            body.update(piece)
            yield piece
        seal = self._read(record.offset + size, DIGEST_SIZE)
        if not seal == record.seal == body.digest():
            raise EntryRejectedError("corrupt")
        yield seal

    def _page(self, number: int) -> bytes:
        recent, page = self._recent
        if recent != number:
            ref = self._pages[number]
            page = self._read(ref.offset, ref.frames * RECORD.size)
            if sha256(page).digest() != ref.digest:
                raise EntryRejectedError("corrupt")
            self._recent = number, page
        return page

    def _read(self, offset: int, size: int) -> bytes:
        return b"".join(self._pieces(offset, size))

    def _pieces(self, offset: int, size: int) -> Iterator[bytes]:
        end = offset + size
        if not 0 <= offset <= end <= self._blob.size:
            raise EntryRejectedError("corrupt")
        while offset < end:
            piece = self._files.pread(self._blob.fd, min(end - offset, _CHUNK), offset)
            if not piece:  # truncated since it was opened
                raise EntryRejectedError("corrupt")
            offset += len(piece)
            yield piece
