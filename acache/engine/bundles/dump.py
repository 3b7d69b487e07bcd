"""Dump: entries into a bundle, beside those that other runs have dumped there."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import cast

import anyio

from acache.clock import SYSTEM_CLOCK, Clock
from acache.codecs import Codec, Signer, get_codec
from acache.engine.bundles.merging import Job, merge
from acache.engine.bundles.place import absolute, check_home
from acache.files import FileSystem, in_thread, long_in_thread_to_the_end
from acache.files.system import REAL_FILES
from acache.locks import acquire_flock, file_lock
from acache.types import Entry, Key

__all__ = ("dump_bundle",)


async def dump_bundle(
    path: str | os.PathLike[str],
    entries: Mapping[Key, Entry] | Iterable[tuple[Key, Entry]],
    *,
    signer: Signer | None = None,
    codec: str | Codec = "pickle",
    codecs: Mapping[Key, Codec] = MappingProxyType({}),
    timeout: float | None = None,
    files: FileSystem | None = None,
    clock: Clock = SYSTEM_CLOCK,
    at_exit: bool = False,
) -> str:
    """Merge ``entries`` into the bundle ``path``, made if there is none, and return the digest of what it holds then.

    Of two entries with one key and the same value the one that expires later stays, or else the older; one that has expired gives
    way to any. Nothing new leaves the file as it is. Old entries are kept and signed anew with ``signer``, which must be one that can
    open the bundle. Entries are encoded with ``codec``, but for those whose keys ``codecs`` names. ``timeout`` is how many seconds to
    wait for others who dump there, as :func:`~acache.locks.acquire_flock` takes it; ``files`` is the file system, for tests;
    ``clock`` says what has expired; ``at_exit`` says that the interpreter is ending, and executors are over.

    Atomic: a reader, or a crash at any time, finds the old bundle or the new one, which is on the disk when this returns.
    Cancelled, it is done completely or not at all before the cancellation goes on.

    Raises :class:`~acache.exceptions.DeterministicCachingIMCDumpConflictError` for a key that is there with another value;
    :class:`~acache.exceptions.BundleError` for a bundle that cannot be read;
    :class:`~acache.exceptions.ConfigurationError` for a directory that is missing, and
    :class:`~acache.exceptions.UnsafeDirectoryError` for one that others can write;
    :class:`~acache.exceptions.ValueEncodingError`, :class:`~acache.exceptions.FileLockTimeoutError`, and :class:`OSError`. Then
    the bundle is what it was, but for one case: the disk did not confirm that it has the new one, which is in place.
    """
    place = absolute(path)
    # Taken at once: the caller may add to them while this waits.
    pairs = cast("Iterable[tuple[Key, Entry]]", entries.items() if isinstance(entries, Mapping) else entries)
    chosen, now = get_codec(codec), clock.wall()
    job = Job(REAL_FILES if files is None else files, place, list(pairs), chosen, signer, now, dict(codecs))
    await in_thread(check_home, job.files, place)
    async with acquire_flock(file_lock(f"{place}.lock", in_executor=not at_exit), timeout):
        with _shield():
            return await long_in_thread_to_the_end(merge, job)


@contextmanager
def _shield() -> Generator[None]:
    # A scope cancels again and again, and the lock must not be given back before the end.
    with anyio.CancelScope(shield=True):
        yield
