"""What a deterministic cache demands of each call, by its own options and the switches of the moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, final

from acache.config import settings
from acache.engine.plan import Mode
from acache.engine.usage import Usage
from acache.exceptions import DeterministicCachingDisabledError

__all__ = ("Determinism", "Strictness")

#: ``cached``: serve only what is cached; ``pre_populated``: only what was loaded from a bundle.
Strictness: TypeAlias = Literal["cached", "pre_populated"]


@final
class Determinism:
    """The rules of one deterministic cache. ``strict=None`` leaves strictness to the settings.

    ``usage`` is what this process has used; ``depth`` the number of tiers, from the narrowest, that hold only what was loaded or
    used before; ``why_missing`` says what a strict miss may come from. ``require`` raises unless the tiers let workers agree, and
    is asked before the first call that needs more than what was loaded.
    """

    def __init__(
        self,
        strict: Strictness | None,
        usage: Usage,
        depth: int,
        why_missing: Callable[[], str],
        require: Callable[[], None],
    ) -> None:
        self._strict = strict
        self.usage = usage
        self._depth = depth
        self.why_missing = why_missing
        self._require: Callable[[], None] | None = require
        if self._strictness() != "pre_populated":
            self._check()

    def mode(self) -> Mode:
        """Return the mode of this moment.

        Raises :class:`~acache.exceptions.DeterministicCachingDisabledError` while deterministic caching is switched off, and
        what ``require`` raises.
        """
        if settings().enable_deterministic_caching is False:
            raise DeterministicCachingDisabledError
        strict = self._strictness()
        if strict != "pre_populated":
            self._check()
        return strict or "deterministic"

    def depth(self) -> int | None:
        """Return how many tiers may be read, from the narrowest; ``None``: all. Raises as :meth:`mode`."""
        return self._depth if self.mode() == "pre_populated" else None

    def _strictness(self) -> Strictness | None:
        config = settings()
        if self._strict == "pre_populated" or (self._strict is None and config.strictly_pre_populated_determinism):
            return "pre_populated"
        return "cached" if self._strict == "cached" or config.strictly_cached_determinism else None

    def _check(self) -> None:
        if self._require is not None:
            self._require()
            self._require = None
