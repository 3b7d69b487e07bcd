r"""The stored form of an entry, and the one place that decides whether stored bytes can be believed.

All numbers are little-endian::

    size  field
       6  magic                b"\xacache\x00", in every format
       2  format               1
       4  CRC-32 of the above  in every format
       8  version digest       of the cache
      32  key digest           so that an entry moved to another key is worth nothing
       8  key id               of the signing key; zeros: not signed
       8  created              float, seconds of the wall clock
       8  expires              the same; NaN: never
       8  stale at             the same; negative: the same, and it and the end move with each use
       8  cost                 float, seconds of the computation
       4  meta size
       8  payload size
       …  meta                 JSON: [codec, [born, tag, …], {factor: digest, …}]
       …  payload              what the codec made of the value
      32  seal                 SHA-256 of everything before; HMAC-SHA256 of it when signed

A future format is a miss that must never be deleted: after a downgrade, or while a fleet is upgraded, its writer still wants it.
So a damaged format number must not pass for a future one, or a corrupt entry would stay for ever. That is what the CRC is
for: it covers the first 8 bytes, is found at the same place in every format to come, and makes any damage to the number
("corrupt") distinguishable from another number ("format").

A signature says who wrote an entry, for which key, and until when it is valid. It does not say that it is the newest: an older
entry of the same key, put back, is believed until its own time is up.
"""

from __future__ import annotations

import math
import zlib
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from acache.codecs.meta import MAX_META, Meta, pack_meta, unpack_meta
from acache.codecs.signing import KEY_ID_SIZE, MAC_SIZE, Signer
from acache.exceptions import ConfigurationError, EntryRejectedError
from acache.types import Entry

if TYPE_CHECKING:
    from acache.codecs.values import BytesLike, Codec
    from acache.types import Key

__all__ = (
    "FORMAT",
    "HEADER_SIZE",
    "FrameHeader",
    "decode_frame",
    "encode_frame",
    "read_header",
    "verify_frame",
    "version_digest",
)

#: The format that is written, and the only one that is read.
FORMAT: Final = 1

_VERSION_SIZE: Final = 8
_SEAL_SIZE: Final = MAC_SIZE
_UNSIGNED: Final = bytes(KEY_ID_SIZE)
_NEVER: Final = math.nan


def _prologue(number: int) -> bytes:
    start = b"\xacache\x00" + number.to_bytes(2, "little")
    return start + zlib.crc32(start).to_bytes(4, "little")


_PROLOGUE: Final = _prologue(FORMAT)
_HEADER: Final = Struct(f"<{len(_PROLOGUE)}s{_VERSION_SIZE}s32s{KEY_ID_SIZE}sddddIQ")
#: Bytes that :func:`read_header` needs.
HEADER_SIZE: Final = _HEADER.size


class FrameHeader(NamedTuple):
    """The fixed part of a frame. ``expires`` and ``stale_at`` are NaN for an entry that never does, or is.

    ``stale_at`` is negative for one that slides.
    """

    prologue: bytes
    version: bytes
    key: bytes
    key_id: bytes
    created: float
    expires: float
    stale_at: float
    cost: float
    meta_size: int
    payload_size: int

    @property
    def frame_size(self) -> int:
        """Bytes of the whole frame."""
        return HEADER_SIZE + self.meta_size + self.payload_size + _SEAL_SIZE

    def is_expired(self, wall: float) -> bool:
        """Tell whether the entry is past its time at ``wall`` seconds."""
        return wall >= self.expires  # never true for NaN


def version_digest(version: int | str) -> bytes:
    """Return the 8 bytes that stand for a cache's version in its entries; ``3`` and ``"3"`` are one version.

    Raises :class:`~acache.exceptions.ConfigurationError` for other types, whose text need not be stable.
    """
    if not _is_stable(version):
        raise ConfigurationError("version", "expected an integer or a text")
    return sha256(str(version).encode("utf-8", "surrogatepass")).digest()[:_VERSION_SIZE]


def _is_stable(version: object) -> bool:
    return isinstance(version, (int, str))


def encode_frame(
    entry: Entry, key: Key, *, codec: Codec, version_digest: bytes, signer: Signer | None = None
) -> list[BytesLike]:
    """Return the frame in pieces, for ``os.writev``; the codec's bytes are one of them, as they are.

    Raises :class:`~acache.exceptions.ValueEncodingError` if the codec refuses the value, or if tags and factors are not
    texts or take more than :data:`~acache.codecs.MAX_META` bytes.
    """
    payload = memoryview(codec.encode(entry.value))
    meta = pack_meta(entry, codec.name)
    header = _HEADER.pack(
        _PROLOGUE,
        version_digest,
        bytes.fromhex(key),
        _UNSIGNED if signer is None else signer.key_id,
        entry.created,
        _NEVER if entry.expires is None else entry.expires,
        _NEVER if entry.stale_at is None else -entry.stale_at if entry.sliding else entry.stale_at,
        entry.cost,
        len(meta),
        payload.nbytes,
    )
    head = header + meta
    if signer is not None:
        return [head, payload, signer.sign((head, payload))]
    checksum = sha256(head)
    checksum.update(payload)
    return [head, payload, checksum.digest()]


def decode_frame(
    data: BytesLike, key: Key, *, codec: Codec, version_digest: bytes, signer: Signer | None = None
) -> Entry:
    """Verify a whole frame and return its entry.

    Raises :class:`~acache.exceptions.EntryRejectedError` as :func:`verify_frame` does, before anything is decoded; and
    :class:`~acache.exceptions.ValueDecodingError` if the codec cannot read a payload that is what was stored.
    """
    view = memoryview(data)
    header, meta = _verify(view, key, codec, version_digest, signer)
    *_, created, expires, stale_at, cost, meta_size, payload_size = header
    start = HEADER_SIZE + meta_size
    value = codec.decode(view[start : start + payload_size])
    # What is not equal to itself is NaN: never.
    expires_at = expires if expires == expires else None  # noqa: PLR0124 - as above
    if stale_at != stale_at:  # noqa: PLR0124 - as above
        return Entry(value, created, expires_at, cost, meta.tags, meta.factors, None, meta.born)
    return Entry(value, created, expires_at, cost, meta.tags, meta.factors, abs(stale_at), meta.born, stale_at < 0)


def verify_frame(
    data: BytesLike, key: Key, *, codec: Codec, version_digest: bytes, signer: Signer | None = None
) -> FrameHeader:
    """Tell what :func:`decode_frame` would, without decoding: return the header of a frame that can be believed.

    Raises :class:`~acache.exceptions.EntryRejectedError`; its ``reason``, in the order of the checks:

    - ``format``: an entry of another format, which is not ours to judge, nor to delete;
    - ``corrupt``: no entry, not all of one, more than one, or a damaged one;
    - ``unsigned``: there is a signer, but no signature;
    - ``signature``: a signature that is wrong, by a key that is not verified, or that cannot be checked for lack of a signer;
    - ``foreign``: an entry of another key; ``version``: of another version; ``foreign`` again: of another codec.
    """
    return FrameHeader._make(_verify(memoryview(data), key, codec, version_digest, signer)[0])


def read_header(data: BytesLike) -> FrameHeader:
    """Return what the first :data:`HEADER_SIZE` bytes say, unverified: good enough to sweep and to weigh, never to serve.

    Raises :class:`~acache.exceptions.EntryRejectedError` with reason ``format`` or ``corrupt``.
    """
    if len(data) >= HEADER_SIZE:
        header = FrameHeader._make(_HEADER.unpack_from(data))
        if header.prologue == _PROLOGUE:
            return header
    start = bytes(data[: len(_PROLOGUE)])
    number = int.from_bytes(start[6:8], "little")
    raise EntryRejectedError("format" if start == _prologue(number) and start != _PROLOGUE else "corrupt")


_Fields: TypeAlias = tuple[bytes, bytes, bytes, bytes, float, float, float, float, int, int]


def _verify(view: memoryview, key: Key, codec: Codec, version: bytes, signer: Signer | None) -> tuple[_Fields, Meta]:
    """Check everything, in the only order that is safe: size, seal, identity. No byte is interpreted before the seal.

    The fields are those of :class:`FrameHeader`, in a plain tuple: this is the path of every hit on disk.
    """
    if len(view) < HEADER_SIZE:
        read_header(view)  # raises
    fields: _Fields = _HEADER.unpack_from(view)
    prologue, owner_version, owner, key_id, _, _, _, _, meta_size, payload_size = fields
    if prologue != _PROLOGUE:
        read_header(view)  # raises
    if meta_size > MAX_META or HEADER_SIZE + meta_size + payload_size + _SEAL_SIZE != len(view):
        raise EntryRejectedError("corrupt")
    _check_seal(key_id, view[:-_SEAL_SIZE], view[-_SEAL_SIZE:], signer)
    if owner != bytes.fromhex(key):
        raise EntryRejectedError("foreign")
    if owner_version != version:
        raise EntryRejectedError("version")
    meta = unpack_meta(bytes(view[HEADER_SIZE : HEADER_SIZE + meta_size]), codec.name)
    if meta.codec != codec.name:
        raise EntryRejectedError("foreign")
    return fields, meta


def _check_seal(key_id: bytes, body: memoryview, seal: memoryview, signer: Signer | None) -> None:
    """Let configuration alone say what the seal must be; the entry only says which key it was."""
    if signer is None:
        if key_id != _UNSIGNED:
            raise EntryRejectedError("signature")
        if sha256(body).digest() != bytes(seal):
            raise EntryRejectedError("corrupt")
    elif key_id == _UNSIGNED:
        raise EntryRejectedError("unsigned")
    elif not signer.verify(key_id, (body,), bytes(seal)):
        raise EntryRejectedError("signature")
