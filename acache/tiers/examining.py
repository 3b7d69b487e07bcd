"""What a stored file is to one disk tier: an entry, or a reason why not, and what becomes of it then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, final

from acache.clock import Clock
from acache.codecs import (
    HEADER_SIZE,
    MAX_META,
    Codec,
    FrameHeader,
    Meta,
    Signer,
    decode_frame,
    read_header,
    unpack_meta,
    version_digest,
)
from acache.events import RemovalCause
from acache.exceptions import EntryRejectedError, ValueDecodingError
from acache.files import WARM_LIMIT, Blob, Judge, Verdict
from acache.types import Entry, Key

__all__ = ("CAUSES", "Examiner")

#: What most headers and what follows them fit into.
_GLANCE: Final = 2048

#: Why a file went that there was a verdict on.
CAUSES: Final[Mapping[Verdict, RemovalCause]] = MappingProxyType(
    {
        Verdict.STAYS: "replaced",
        Verdict.YIELDS: "replaced",
        Verdict.EXPIRED: "expired",
        Verdict.INVALID: "invalidated",
        Verdict.GOES: "invalidated",
        Verdict.SUSPECT: "corrupt",
    }
)


@final
class Examiner:
    """Examines files for one tier. ``is_live`` judges the times of an entry, ``is_dead`` its tags; both may block."""

    def __init__(
        self,
        *,
        version: int | str,
        signer: Signer | None,
        max_age: float | None,
        clock: Clock,
        is_live: Callable[[Entry], bool],
        is_dead: Callable[[Key, Entry], bool],
    ) -> None:
        self.version: Final = version_digest(version)
        self.signer: Final = signer
        self._max_age: Final = max_age
        self._clock: Final = clock
        self._is_live: Final = is_live
        self._is_dead: Final = is_dead

    def decode(self, blob: Blob, key: Key, codec: Codec) -> Entry:
        """Verify and decode a file. Raises as :func:`~acache.codecs.decode_frame` does."""
        # A file that is not as large as it says it is need not be read to the end, nor into memory.
        if blob.size > WARM_LIMIT and read_header(blob.read(HEADER_SIZE)).frame_size != blob.size:
            raise EntryRejectedError("corrupt")
        entry = decode_frame(blob.read(), key, codec=codec, version_digest=self.version, signer=self.signer)
        self.age(entry)
        return entry

    def age(self, entry: Entry) -> None:
        """Let an entry end at its age: tiers above that keep a copy, and callers, see one time."""
        if self._max_age is not None:
            end = entry.created + self._max_age
            if entry.expires is None or (entry.sliding and not entry.is_expired(self._clock.wall())):
                entry.expires, entry.sliding = end, False  # no use moves that end
            else:
                entry.expires = min(end, entry.expires)

    def judge(self, key: Key, codec: Codec) -> Judge:
        """Return what judges whether a file may stay in the way of an insert."""

        def judge(blob: Blob) -> Verdict:
            try:
                entry = self.decode(blob, key, codec)
            except EntryRejectedError as error:
                return self._sentence(error.reason, blob, key)
            except ValueDecodingError:
                return Verdict.YIELDS
            return self._verdict(key, entry)

        return judge

    def glance(self, key: Key, codec: Codec) -> Judge:
        """Return what judges what a file was that is replaced in any case, by what it says of itself; nothing is verified."""

        def judge(blob: Blob) -> Verdict:
            try:
                header, meta = self.look(blob, codec)
            except EntryRejectedError as error:
                return Verdict.STAYS if error.reason == "format" else Verdict.SUSPECT
            if header.key != bytes.fromhex(key):
                return Verdict.SUSPECT
            if header.version != self.version:
                return Verdict.GOES
            expires = None if header.expires != header.expires else header.expires
            sliding = header.stale_at < 0
            entry = Entry(None, header.created, expires, tags=meta.tags, born=meta.born, sliding=sliding)
            self.age(entry)
            # Past its idle time it is no hit either, though a function with other options might still want it.
            is_idle = self._clock.wall() >= abs(header.stale_at)
            return Verdict.EXPIRED if is_idle else self._verdict(key, entry)

        return judge

    def look(self, blob: Blob, codec: Codec) -> tuple[FrameHeader, Meta]:
        """Read what a file says of itself. Raises :class:`~acache.exceptions.EntryRejectedError` if it says nothing."""
        start = blob.read(_GLANCE)
        header = read_header(start)
        end = HEADER_SIZE + min(header.meta_size, MAX_META)
        if end > len(start):
            start = blob.read(end)
        return header, unpack_meta(start[HEADER_SIZE:end], codec.name)

    def _verdict(self, key: Key, entry: Entry) -> Verdict:
        if not self._is_live(entry):
            return Verdict.EXPIRED
        return Verdict.INVALID if entry.tags and self._is_dead(key, entry) else Verdict.STAYS

    def _sentence(self, reason: str, blob: Blob, key: Key) -> Verdict:
        match reason:
            case "format":
                return Verdict.STAYS
            case "version":
                return Verdict.GOES
            case "signature" if self.signer is None:
                return Verdict.YIELDS
            case "foreign" if read_header(blob.read(HEADER_SIZE)).key == bytes.fromhex(key):
                return Verdict.YIELDS
            case _:
                return Verdict.SUSPECT
