"""The signer that the settings ask for: with ``ACACHE_SIGNING_KEY`` every disk tier and every bundle is signed."""

from __future__ import annotations

from functools import lru_cache

from acache.codecs.signing import Signer
from acache.config import settings

__all__ = ("configured_signer",)


def configured_signer() -> Signer | None:
    """Return the signer of this moment's ``signing_key``. Raises :class:`~acache.exceptions.ConfigurationError` for a short one."""
    key = settings().signing_key
    return None if key is None else _signer(key)


@lru_cache(maxsize=4)
def _signer(key: str | bytes) -> Signer:
    return Signer(key)
