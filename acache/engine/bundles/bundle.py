"""Load: an open bundle, from which single entries are read when they are wanted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, Self, final

from acache.codecs import Codec, Signer, get_codec
from acache.engine.bundles.place import absolute
from acache.engine.bundles.reading import Reader, open_reader
from acache.exceptions import BundleError
from acache.files import FileSystem, in_thread
from acache.files.system import REAL_FILES
from acache.types import Entry, Key

__all__ = ("Bundle",)


@final
class Bundle:
    """An open bundle, made by :meth:`open`; read-only, for any task, event loop and thread.

    A dump meanwhile puts a new file in its place, and this one goes on to be read as it was. ``digest`` (64 hex digits) says
    what the results are: two runs that came to the same results have the same, whatever the times, costs and signatures.
    """

    def __init__(self, path: str, reader: Reader, codec: Codec) -> None:
        self.path: Final = Path(path)
        self.digest: Final = reader.digest
        self._entries: Final = reader.entries
        self._codec: Final = codec
        self._reader: Reader | None = reader

    def __len__(self) -> int:
        return self._entries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, entries={self._entries})"

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        signer: Signer | None = None,
        codec: str | Codec = "pickle",
        files: FileSystem | None = None,
    ) -> Self:
        """Open the bundle ``path``, reading its ends only, whatever its size.

        With a ``signer`` it must be signed by a key that this verifies. Without one it must not be signed, and be a file that
        this user owns and others cannot write, because values may be pickles. ``codec`` is what it was dumped with;
        ``files`` is the file system, for tests.

        Raises :class:`~acache.exceptions.BundleError`, which says what to do, for a bundle that is refused; and
        :class:`OSError` for a file that cannot be opened.
        """
        chosen, place = get_codec(codec), absolute(path)
        reader = await in_thread(open_reader, REAL_FILES if files is None else files, place, signer)
        return cls(place, reader, chosen)

    async def read(self, key: Key, codec: Codec | None = None) -> Entry | None:
        """Return the entry under ``key``, expired or not, or ``None`` if there is none.

        ``codec`` is what this entry was dumped with (default: the bundle's).

        Raises :class:`~acache.exceptions.EntryRejectedError`, before anything is decoded, if what was stored is damaged or
        of another codec; and :class:`~acache.exceptions.ValueDecodingError` if it cannot be decoded.
        """
        return await in_thread(self._opened().read, key, self._codec if codec is None else codec)

    async def factors(self, key: Key) -> Mapping[str, str] | None:
        """Return what the key of an entry was made of, by whatever codec it was dumped; ``None`` if there is no such entry.

        Raises :class:`~acache.exceptions.EntryRejectedError` for damage.
        """
        return await in_thread(self._opened().factors, key)

    async def keys(self) -> AsyncIterator[Key]:
        """Iterate over the keys, in order. Raises :class:`~acache.exceptions.EntryRejectedError` for damage."""
        reader = self._opened()
        for page in range(reader.pages):
            for key in await in_thread(reader.keys, page):
                yield key

    async def aclose(self) -> None:
        """Close the file. Idempotent; what threads have begun they finish."""
        # Not closed here but by its last user, which may be a thread that reads.
        self._reader = None

    def _opened(self) -> Reader:
        if self._reader is None:
            raise BundleError(str(self.path), "closed")
        return self._reader
