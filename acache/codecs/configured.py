"""Who signs: the signer that was given, or the one that the settings ask for: with ``ACACHE_SIGNING_KEY`` every disk tier and every bundle is signed."""

from __future__ import annotations

from functools import lru_cache

from acache.codecs.signing import Signer
from acache.config import settings
from acache.exceptions import ConfigurationError

__all__ = ("chosen_signer", "configured_signer")


def chosen_signer(signer: Signer | None) -> Signer | None:
    """Return ``signer`` or, if there is none, the configured one. Raises as that, and for what is no signer."""
    if signer is None:
        return configured_signer()
    if not isinstance(signer, Signer):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
        raise ConfigurationError("signer", f"expected a Signer, as in signer=Signer(key), not {type(signer).__name__}")
    return signer


def configured_signer() -> Signer | None:
    """Return the signer of this moment's ``signing_key``. Raises :class:`~acache.exceptions.ConfigurationError` for a short one."""
    key = settings().signing_key
    return None if key is None else _signer(key)


@lru_cache(maxsize=4)
def _signer(key: str | bytes) -> Signer:
    return Signer(key)
