r"""The stored form of a bundle, and what vouches for what in it.

All numbers are little-endian::

    size  part
      12  prologue
       …  for each page: up to 256 frames, and the page that lists them
       …  root
     128  footer

    prologue: 6  magic            b"\xacbndl\x00", in every format
              2  format           1
              4  CRC-32 of these  in every format; see :mod:`acache.codecs.frame` for what it is good for

    frame:    …  an entry, as :mod:`acache.codecs.frame` describes it: bound to its key, of version 0, not signed

    page:        for each frame, in the order of the keys of the whole bundle:
             32  key
             32  digest of the value
             32  seal             with which the frame ends
              8  offset, 8  size  of the frame

    root:        for each page, in the same order:
             32  first key
             32  SHA-256          of the page
              8  offset           of the page
              4  frames           in the page

    footer:   8  size             of the whole file, so that no bundle is found at the end of a cut one
              8  entries
              8  pages
             32  results          SHA-256 of key and value digest of every entry, in order
             32  SHA-256          of the root
              8  key id           of the signing key; zeros: not signed
             32  seal             SHA-256 of prologue and footer before it; HMAC-SHA256 of them when signed

The seal vouches for the root, the root for the pages, a page for its frames: what is read is verified on the way to it, the
rest need not be read. One signature therefore covers all, also entries that older dumps left, and the absence of entries.
Frames come first and are written as they come; only the root has to be kept in memory, 76 bytes for each 256 entries.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from acache.codecs import version_digest
from acache.exceptions import EntryRejectedError

if TYPE_CHECKING:
    from acache.codecs import Signer

__all__ = (
    "DIGEST_SIZE",
    "FOOTER_SIZE",
    "NO_RESULTS",
    "PAGE_FRAMES",
    "PAGE_REF",
    "PROLOGUE",
    "RECORD",
    "VERSION",
    "Footer",
    "PageRef",
    "Record",
    "check_prologue",
    "pack_footer",
    "unpack_footer",
)

#: The version in every frame: a bundle is read as a whole or not at all, so its entries need none of their own.
VERSION: Final = version_digest(0)
#: Bytes of keys, of all digests, and of seals.
DIGEST_SIZE: Final = 32
#: Frames on a page: what is read and hashed to find one entry, against what is read to open a bundle.
PAGE_FRAMES: Final = 256

_FORMAT: Final = 1
_UNSIGNED: Final = bytes(8)


def _prologue(number: int) -> bytes:
    start = b"\xacbndl\x00" + number.to_bytes(2, "little")
    return start + zlib.crc32(start).to_bytes(4, "little")


PROLOGUE: Final = _prologue(_FORMAT)
RECORD: Final = Struct("<32s32s32sQQ")
PAGE_REF: Final = Struct("<32s32sQI")
_FOOTER: Final = Struct("<QQQ32s32s8s")
FOOTER_SIZE: Final = _FOOTER.size + DIGEST_SIZE
#: The digest of no results.
NO_RESULTS: Final = sha256().hexdigest()


class Record(NamedTuple):
    """One entry on a page; ``value`` is the digest of its value."""

    key: bytes
    value: bytes
    seal: bytes
    offset: int
    size: int


class PageRef(NamedTuple):
    """One page in the root."""

    first: bytes
    digest: bytes
    offset: int
    frames: int


class Footer(NamedTuple):
    """What the seal vouches for. ``results`` and ``root`` are digests."""

    size: int
    entries: int
    pages: int
    results: bytes
    root: bytes

    @property
    def root_offset(self) -> int:
        """Where the root begins, which ends at the footer; negative in a footer that is none."""
        return self.size - FOOTER_SIZE - self.pages * PAGE_REF.size


def check_prologue(start: bytes) -> None:
    """Raise :class:`~acache.exceptions.EntryRejectedError`: ``format`` for a bundle of another format, else ``corrupt``."""
    if start != PROLOGUE:
        number = int.from_bytes(start[6:8], "little")
        raise EntryRejectedError("format" if start == _prologue(number) else "corrupt")


def pack_footer(footer: Footer, signer: Signer | None) -> bytes:
    """Return the footer with its seal."""
    body = _FOOTER.pack(*footer, _UNSIGNED if signer is None else signer.key_id)
    return body + (sha256(PROLOGUE + body).digest() if signer is None else signer.sign((PROLOGUE, body)))


def unpack_footer(data: bytes, size: int, signer: Signer | None) -> Footer:
    """Verify the footer of a file of ``size`` bytes and return it. ``signer`` alone says whether it has to be signed.

    Raises :class:`~acache.exceptions.EntryRejectedError`: ``corrupt``; ``unsigned`` though there is a signer; ``signature``
    that is wrong, by a key that is not verified, or that cannot be checked for lack of a signer.
    """
    body, seal = data[: _FOOTER.size], data[_FOOTER.size :]
    *fields, key_id = _FOOTER.unpack(body)
    if fields[0] != size:
        raise EntryRejectedError("corrupt")  # cut, or grown: what stands where the key id should is none
    if signer is None:
        if key_id != _UNSIGNED:
            raise EntryRejectedError("signature")
        if sha256(PROLOGUE + body).digest() != seal:
            raise EntryRejectedError("corrupt")
    elif key_id == _UNSIGNED:
        raise EntryRejectedError("unsigned")
    elif not signer.verify(key_id, (PROLOGUE, body), seal):
        raise EntryRejectedError("signature")
    return Footer(*fields)
