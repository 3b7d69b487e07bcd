"""What a deterministic cache demands of each call, by its own options and the switches of the moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, final

from acache.codecs import Codec
from acache.config import settings
from acache.engine.plan import Mode
from acache.exceptions import DeterministicCachingDisabledError
from acache.types import Key

__all__ = ("Determinism", "Strictness")

#: ``cached``: serve only what is cached; ``pre_populated``: only what was loaded from a bundle.
Strictness: TypeAlias = Literal["cached", "pre_populated"]


@final
class Determinism:
    """The rules of one deterministic cache. ``strict=None`` leaves strictness to the settings.

    ``depth`` is the number of tiers, from the narrowest, that hold only what was loaded or used before;
    ``why_missing`` says what a strict miss may come from.
    """

    def __init__(self, strict: Strictness | None, depth: int, why_missing: Callable[[], str]) -> None:
        self._strict = strict
        self._depth = depth
        self.why_missing = why_missing
        #: The keys this process has used, in order, and their codecs: what a dump contains.
        self.used: dict[Key, Codec | None] = {}

    def mode(self) -> Mode:
        """Return the mode of this moment.

        Raises :class:`~acache.exceptions.DeterministicCachingDisabledError` while deterministic caching is switched off.
        """
        config = settings()
        if config.enable_deterministic_caching is False:
            raise DeterministicCachingDisabledError
        strict = self._strict
        if strict == "pre_populated" or (strict is None and config.strictly_pre_populated_determinism):
            return "pre_populated"
        if strict == "cached" or config.strictly_cached_determinism:
            return "cached"
        return "deterministic"

    def depth(self) -> int | None:
        """Return how many tiers may be read, from the narrowest; ``None``: all."""
        return self._depth if self.mode() == "pre_populated" else None
