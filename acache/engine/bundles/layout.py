"""From entries to the bytes of a bundle, piece by piece: neither all entries nor the file are ever in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import count, groupby
from typing import NamedTuple

from acache.codecs import BytesLike, Codec, Signer, encode_frame
from acache.engine.bundles.format import (
    DIGEST_SIZE,
    FOOTER_SIZE,
    PAGE_FRAMES,
    PAGE_REF,
    PROLOGUE,
    RECORD,
    VERSION,
    Footer,
    pack_footer,
)
from acache.exceptions import KeyEncodingError
from acache.keys import canonical_result
from acache.types import Entry, Key

__all__ = ("Frame", "frame_of", "lay_out", "value_digest")


class Frame(NamedTuple):
    """One frame to be written. ``value`` is the digest of its value; ``pieces`` are made when they are written."""

    key: bytes
    value: bytes
    seal: bytes
    size: int
    pieces: Iterable[BytesLike]


def value_digest(value: object, codec: Codec) -> bytes:
    """Return the digest that says whether two values are the same result.

    Values that consist of the same have one digest (:func:`~acache.keys.canonical_result`). A value of which that cannot be
    said, because it cannot be taken apart, counts as what ``codec`` makes of it. Raises
    :class:`~acache.exceptions.ValueEncodingError` if it has neither.
    """
    try:
        return sha256(canonical_result(value)).digest()
    except KeyEncodingError:
        return sha256(codec.encode(value)).digest()


def frame_of(key: Key, entry: Entry, value: bytes, codec: Codec) -> Frame:
    """Encode an entry; ``value`` is the digest of its value. Raises :class:`~acache.exceptions.ValueEncodingError`."""
    pieces = encode_frame(entry, key, codec=codec, version_digest=VERSION)
    size = sum(memoryview(piece).nbytes for piece in pieces)
    return Frame(bytes.fromhex(key), value, bytes(pieces[-1]), size, pieces)


def lay_out(frames: Iterable[Frame], signer: Signer | None) -> Iterator[BytesLike]:
    """Make the pieces of a bundle with ``frames``, which come in the order of their keys, each key once."""
    offset, entries, results, root = len(PROLOGUE), 0, sha256(), bytearray()
    yield PROLOGUE
    for _, group in groupby(zip(count(), frames, strict=False), lambda numbered: numbered[0] // PAGE_FRAMES):
        page = bytearray()
        for _, frame in group:
            yield from frame.pieces
            page += RECORD.pack(frame.key, frame.value, frame.seal, offset, frame.size)
            offset += frame.size
            results.update(frame.key + frame.value)
        yield page
        on_page = len(page) // RECORD.size
        root += PAGE_REF.pack(page[:DIGEST_SIZE], sha256(page).digest(), offset, on_page)
        offset += len(page)
        entries += on_page
    yield root
    size, pages = offset + len(root) + FOOTER_SIZE, len(root) // PAGE_REF.size
    yield pack_footer(Footer(size, entries, pages, results.digest(), sha256(root).digest()), signer)
