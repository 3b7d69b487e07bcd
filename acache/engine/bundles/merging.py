"""A dump, as a thread does it: what is new is merged with the bundle that is there, and takes its place at once or not at all.

Old frames are copied as they are, each verified on the way: a bundle with damage is never replaced by one that hides it.
Only digests and times are compared, so nothing old is decoded.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import NamedTuple

from acache.codecs import Codec, Signer
from acache.engine.bundles.format import NO_RESULTS
from acache.engine.bundles.layout import Frame, frame_of, lay_out, value_digest
from acache.engine.bundles.place import open_home
from acache.engine.bundles.reading import Reader, open_reader_at
from acache.exceptions import BundleError, DeterministicCachingIMCDumpConflictError, EntryRejectedError
from acache.files import ABANDONED, TEMPORARY, FileSystem
from acache.files.directory import open_directory
from acache.files.handle import identity_of
from acache.files.temporary import discard, remove_unheld, write_temporary
from acache.types import Entry, Key

__all__ = ("Job", "merge")


class Job(NamedTuple):
    """What to dump, where, and how. ``path`` is absolute, ``now`` the wall clock; ``codecs`` are those that are not ``codec``."""

    files: FileSystem
    path: str
    pairs: list[tuple[Key, Entry]]
    codec: Codec
    signer: Signer | None
    now: float
    codecs: Mapping[Key, Codec] = MappingProxyType({})

    def codec_of(self, key: Key) -> Codec:
        """Return what the entry under ``key`` is encoded with."""
        return self.codecs.get(key, self.codec)

    @property
    def name(self) -> str:
        """The bundle's name in its directory."""
        return os.path.basename(self.path)  # noqa: PTH119 - paths are texts here


class _Fresh(NamedTuple):
    """An entry that the bundle does not have, or not any more; ``value`` is the digest of its value."""

    entry: Entry
    value: bytes

    @property
    def expires(self) -> float:
        """When it expires; infinity for never."""
        return math.inf if self.entry.expires is None else self.entry.expires


class _Stored(NamedTuple):
    """An entry that the bundle has; ``value`` is the digest of its value, and ``expires`` not verified yet."""

    value: bytes
    expires: float
    verify: Callable[[], None]


def merge(job: Job) -> str:
    """Merge entries into a bundle and return the digest of what it holds then. Only under the bundle's lock.

    Raises :class:`~acache.exceptions.BundleError` for a bundle that cannot be read,
    :class:`~acache.exceptions.DeterministicCachingIMCDumpConflictError`, and what encoding and writing raise.
    """
    with open_home(job.files, job.path) as home, _open_old(job, home.fd) as old:
        try:
            fresh = _choose(job, old)
            if fresh:
                return _publish(job, home.fd, old, fresh)
        except EntryRejectedError as error:
            raise BundleError(job.path, error.reason) from None
        return NO_RESULTS if old is None else old.digest


def _open_old(job: Job, home: int) -> AbstractContextManager[Reader | None]:
    try:
        return open_reader_at(job.files, job.name, home, job.path, job.signer)
    except FileNotFoundError:
        return nullcontext()


def _choose(job: Job, old: Reader | None) -> dict[Key, _Fresh]:
    """Return what is new, in the order of the keys.

    Of entries with one key and one value the one stays that expires later, or else the first. One that has expired is
    absent: it would contradict for ever what the workers have agreed on since.
    """
    fresh: dict[Key, _Fresh] = {}
    for key, entry in sorted(job.pairs, key=itemgetter(0)):
        new = _Fresh(entry, value_digest(entry.value, job.codec_of(key)))
        there = fresh.get(key) or (None if old is None else _stored(old, key))
        if there is None or there.expires <= job.now or (there.value == new.value and there.expires < new.expires):
            if isinstance(there, _Stored):
                there.verify()
            fresh[key] = new
        elif there.value != new.value:
            raise DeterministicCachingIMCDumpConflictError(key)
    return fresh


def _stored(old: Reader, key: Key) -> _Stored | None:
    record = old.find(key)
    return None if record is None else _Stored(record.value, old.expires(record), partial(old.verify, record))


def _frames(job: Job, old: Reader | None, fresh: dict[Key, _Fresh]) -> Iterator[Frame]:
    """Yield what the new bundle holds, in the order of the keys, each made when it is asked for."""
    replaced = {bytes.fromhex(key) for key in fresh}
    kept = () if old is None else (old.frame(record) for record in old.records() if record.key not in replaced)
    added = (frame_of(key, entry, value, job.codec_of(key)) for key, (entry, value) in fresh.items())
    return heapq.merge(kept, added, key=attrgetter("key"))


def _publish(job: Job, home: int, old: Reader | None, fresh: dict[Key, _Fresh]) -> str:
    pieces = lay_out(_frames(job, old, fresh), job.signer)
    temporary = write_temporary(job.files, home, pieces, durable=True)
    try:
        # Nothing takes the place of a bundle but one that opens.
        with open_reader_at(job.files, temporary, home, job.path, job.signer) as new:
            digest = new.digest
        _require_unchanged(job, home, old)
        job.files.rename(temporary, job.name, at=home)
    except BaseException:
        discard(job.files, temporary, home)
        raise
    job.files.fsync(home)
    with suppress(OSError):  # the next dump tries again
        _remove_abandoned(job, home)
    return digest


def _require_unchanged(job: Job, home: int, old: Reader | None) -> None:
    """Raise unless what is merged is still what is there: a dump that was given up twice may have lost its lock."""
    try:
        there = identity_of(job.files.stat(job.name, at=home))
    except FileNotFoundError:
        there = None
    if there != (None if old is None else old.identity):
        raise BundleError(job.path, "replaced")


def _remove_abandoned(job: Job, home: int) -> None:
    """Remove what killed dumps left beside the bundle: it may be as large as the bundle itself."""
    now = job.files.stat(job.name, at=home).st_mtime
    # A descriptor of its own: listing moves its position.
    with open_directory(job.files, ".", home, create=False) as listed:
        left = [name for name in job.files.listdir(listed.fd) if name.startswith(TEMPORARY)]
    for name in left:
        remove_unheld(job.files, name, home, before=now - ABANDONED)
