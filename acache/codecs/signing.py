"""Vouch for bytes with keys that never lie beside them.

A checksum finds accidents; a signature keeps out whoever can write the storage but has no key. Who holds a key that is
verified can still store anything: give readers only the keys of writers they trust. A key kept in the cache directory itself
proves nothing. The algorithm is HMAC-SHA256 (RFC 2104), by decision of this module and never of an entry.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, final

from acache.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acache.codecs.values import BytesLike

__all__ = ("KEY_ID_SIZE", "MAC_SIZE", "MIN_KEY_SIZE", "Signer")

#: Bytes of a key id, of a signature, and of the shortest key that is accepted.
KEY_ID_SIZE: Final = 8
MAC_SIZE: Final = 32
MIN_KEY_SIZE: Final = 16


@final
class Signer:
    """Signs with ``key``; verifies with it and with every key of ``verify``. Safe to use from any thread.

    To rotate keys, make the new one ``key`` and keep the old one in ``verify`` until its entries have expired. A text is
    used as UTF-8. ``key_id`` names the signing key and does not reveal it; nor does ``repr``, and a signer cannot be pickled.
    Raises :class:`~acache.exceptions.ConfigurationError` for a key shorter than 16 bytes.
    """

    __slots__ = ("_macs", "key_id")

    def __init__(self, key: bytes | str, *, verify: Iterable[bytes | str] = ()) -> None:
        secrets = [_secret(key), *map(_secret, verify)]
        self.key_id: Final = _key_id(secrets[0])
        # Keyed once: copying a keyed MAC costs half of making one.
        self._macs: Final = {_key_id(secret): hmac.new(secret, digestmod="sha256") for secret in secrets}

    def __repr__(self) -> str:
        return f"Signer(key_id={self.key_id.hex()}, verifies={len(self._macs)})"

    def sign(self, parts: Iterable[BytesLike]) -> bytes:
        """Return the signature of all ``parts`` in their order; where one ends and the next begins is not signed."""
        return self._mac(self.key_id, parts)

    def verify(self, key_id: bytes, parts: Iterable[BytesLike], mac: BytesLike) -> bool:
        """Tell whether ``mac`` is the signature of ``parts`` by the key named; a key that is not known vouches for nothing."""
        return key_id in self._macs and hmac.compare_digest(self._mac(key_id, parts), mac)

    def _mac(self, key_id: bytes, parts: Iterable[BytesLike]) -> bytes:
        mac = self._macs[key_id].copy()
        for part in parts:
            mac.update(part)
        return mac.digest()


def _secret(key: object) -> bytes:
    # object, because verify=b"..." iterates over integers, and bytes(48) would be a key of zeros.
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")  # an encoding error would carry the key
    if not isinstance(key, bytes) or len(key) < MIN_KEY_SIZE:
        raise ConfigurationError("signing key", f"expected bytes or a text of at least {MIN_KEY_SIZE} bytes")
    return key


def _key_id(secret: bytes) -> bytes:
    return hashlib.sha256(b"acache key id" + secret).digest()[:KEY_ID_SIZE]
