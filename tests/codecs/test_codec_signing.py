"""Signers vouch, rotate, and keep their keys to themselves."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
from typing import Any

import pytest

from acache.codecs import Signer
from acache.exceptions import ConfigurationError

OLD = b"old-key-old-key-"
NEW = b"new-key-new-key-"


def test_it_is_hmac_sha256() -> None:
    """The signature is the standard's, whole, and the key id is a hash that others can compute."""
    signer = Signer(NEW)
    assert signer.sign([b"ab", b"c"]) == hmac.digest(NEW, b"abc", "sha256")
    assert signer.key_id == hashlib.sha256(b"acache key id" + NEW).digest()[:8]


def test_signing_is_repeatable() -> None:
    """A signature does not depend on what was signed before."""
    signer = Signer(NEW)
    first = signer.sign([b"x"])
    signer.sign([b"y"])
    assert signer.sign([memoryview(b"x")]) == first


def test_text_is_utf8() -> None:
    """A key may be a text, whatever is in it."""
    assert Signer("schlüssel-schlüssel").key_id == Signer("schlüssel-schlüssel".encode()).key_id
    assert len(Signer("\udcff" * 16).key_id) == 8


def test_rotation() -> None:
    """After a rotation old signatures verify as long as the old key is listed, and new ones carry the new key (T3)."""
    before, during, after = Signer(OLD), Signer(NEW, verify=[OLD]), Signer(NEW)
    parts = [b"payload"]
    old_mac, new_mac = before.sign(parts), during.sign(parts)
    assert during.key_id == after.key_id != before.key_id
    assert during.verify(before.key_id, parts, old_mac)
    assert during.verify(after.key_id, parts, new_mac)
    assert after.verify(after.key_id, parts, new_mac)
    assert not after.verify(before.key_id, parts, old_mac)
    assert not before.verify(after.key_id, parts, new_mac)


@pytest.mark.parametrize("mac", [b"", bytes(32), b"short", Signer(OLD).sign([b"m"]), Signer(NEW).sign([b"m"])[:31]])
def test_wrong_signatures(mac: bytes) -> None:
    """Nothing but the whole signature by the named key verifies."""
    signer = Signer(NEW, verify=[OLD])
    assert signer.verify(signer.key_id, [b"m"], signer.sign([b"m"]))
    assert not signer.verify(signer.key_id, [b"m"], mac)


@pytest.mark.parametrize("key_id", [b"", bytes(8), NEW[:8], Signer(NEW).key_id[:7], Signer(NEW).key_id + b"\x00"])
def test_unknown_keys(key_id: bytes) -> None:
    """A key id that is not known verifies nothing."""
    signer = Signer(NEW)
    assert not signer.verify(key_id, [b"m"], signer.sign([b"m"]))


@pytest.mark.parametrize("key", [b"", b"fifteen-bytes--", "", "ü" * 7, None, 16, bytearray(16)])
def test_weak_keys(key: Any) -> None:
    """A short key, or no key at all, is refused wherever it is given."""
    with pytest.raises(ConfigurationError, match="signing key"):
        Signer(key)
    with pytest.raises(ConfigurationError, match="signing key"):
        Signer(NEW, verify=[key])


@pytest.mark.parametrize("keys", [OLD, OLD.decode()])
def test_one_key_for_many(keys: Any) -> None:
    """A key given where a list of keys belongs is refused, not read as a list of tiny ones."""
    with pytest.raises(ConfigurationError):
        Signer(NEW, verify=keys)


def test_keys_stay_secret() -> None:
    """Neither repr, attributes, copies nor errors give a key away (T12)."""
    signer = Signer(NEW, verify=[OLD])
    with pytest.raises(ConfigurationError) as caught:
        Signer("secret")
    texts = [repr(signer), str(signer), str(caught.value), *(repr(getattr(signer, name)) for name in signer.__slots__)]
    assert not any(secret in text for text in texts for secret in ("new-key", "old-key", "'secret"))
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(signer)
