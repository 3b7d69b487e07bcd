"""The cache whose workers all use the same results: the first one that any of them stored.

A worker computes, inserts its result where all of them look if nothing is there yet and, when another was faster, takes
that one's. What cannot be stored there is not used: :class:`~acache.exceptions.DeterminismLostError`. A strict cache
computes nothing at all; it replays what is cached, or only what was loaded from a bundle.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, final, get_args
from weakref import WeakSet

from acache import config
from acache.bridge import run_sync
from acache.caches.base import Cache
from acache.codecs import Codec, Signer, chosen_signer
from acache.engine import Determinism, Strictness
from acache.engine.bundles import dump_bundle
from acache.engine.bundles.place import absolute
from acache.engine.bundles.tier import BundleTier
from acache.exceptions import (
    CacheError,
    ConfigurationError,
    DeterministicCachingInvalidConfigurationError,
    DeterministicCachingRequiresStrongConsistencyError,
)
from acache.files import in_thread
from acache.files.directory import open_private
from acache.files.system import REAL_FILES
from acache.locks import DEFAULT_TIMEOUT
from acache.tiers import ChainTier, DiskTier, MemoryTier, Tier
from acache.tiers.base import check_tiers
from acache.types import Entry, Key

__all__ = ("Consistency", "DeterministicCache")

_log = logging.getLogger("acache")

#: Who agrees: all processes of this host, or all machines.
Consistency: TypeAlias = Literal["local", "global"]

#: Where a dump goes if no path is given, below the directory of the disk tier.
_DUMP: Final = ("dcache_dump", "imc.save")
_UNREAD: Final = "no bundle is loaded: load() one, or name it in ACACHE_PRE_POPULATE_DETERMINISTIC_CACHE"


@final
class DeterministicCache(Cache):
    """Keep results in ``tiers`` and agree on those of the widest one; memory and the user's cache directory by default.

    ``consistency="local"``: all processes that share the disk tier agree; ``"global"``: all machines do, which needs a
    tier with strong consistency. ``strict="cached"`` serves only what is stored, ``strict="pre_populated"`` only what
    was loaded from bundles. What is not given is what the settings say: strictness at each call, the rest now. ``signer`` signs and
    verifies bundles. With ``dump_on_close``, :meth:`aclose` and the end of the process :meth:`dump` what was used.
    The other options are those of :class:`~acache.FastCache`.

    Raises :class:`~acache.exceptions.DeterministicCachingRequiresStrongConsistencyError`, and
    :class:`~acache.exceptions.DeterministicCachingInvalidConfigurationError` for tiers that cannot give what is asked. While deterministic caching is
    switched off, every use raises :class:`~acache.exceptions.DeterministicCachingDisabledError`.
    """

    def __init__(
        self,
        *tiers: Tier,
        strict: Strictness | None = None,
        consistency: Consistency | None = None,
        namespace: str = "",
        host_timeout: float = DEFAULT_TIMEOUT,
        signer: Signer | None = None,
        dump_on_close: bool = True,
    ) -> None:
        _require_choice("strict", strict, Strictness)
        _require_choice("consistency", consistency, Consistency)
        given = check_tiers(tiers) or _default_tiers()
        self._dump_path = _dump_path(given)
        self._signer = chosen_signer(signer)
        self._dump_on_close = dump_on_close
        self._bundles = BundleTier(signer=self._signer, clock=given[0].clock)
        if strict == "pre_populated":
            given = tuple(tier for tier in given if tier.reach == 0)
        elif not config.settings().strictly_pre_populated_determinism:
            _require_agreement(given, consistency or _consistency(config.settings()))
        chain = ChainTier(*(tier for tier in given if tier.reach == 0), self._bundles, *given, agrees=True)
        depth = 1 + chain.tiers.index(self._bundles)
        self._determinism = Determinism(strict, depth, lambda: "" if self._bundles else _UNREAD)
        self._dumped = 0
        super().__init__(chain, namespace=namespace, host_timeout=host_timeout, determinism=self._determinism)
        _caches.add(self)

    async def load(self, path: str | os.PathLike[str]) -> None:
        """Serve what the bundle ``path`` holds; what was loaded earlier, and what this process used already, goes before it.

        Raises as :meth:`acache.engine.bundles.Bundle.open`, having loaded nothing.
        """
        await self._bundles.load(path)

    async def dump(self, path: str | os.PathLike[str] | None = None) -> Path | None:
        """Write every result that this process has used into the bundle ``path``, and return the path.

        By default it is ``dcache_dump/imc.save`` below the directory of the disk tier. A bundle that is there is added to. ``None`` if
        there is nothing to write. Atomic, for the functions of each codec. Raises
        :class:`~acache.exceptions.DeterministicCachingIMCDumpConflictError` if the bundle holds another result for a key, and as
        :func:`acache.engine.bundles.dump_bundle`.
        """
        return await self._dump(path, at_exit=False)

    async def _dump(self, path: str | os.PathLike[str] | None, *, at_exit: bool) -> Path | None:
        used = dict(self._determinism.used)
        groups = await self._by_codec(used)
        if not groups:
            return None
        if path is None:
            await in_thread(_make_private, str(self._dump_path.parent))
        target = absolute(self._dump_path if path is None else path)
        for codec, entries in groups.items():
            chosen = "pickle" if codec is None else codec
            await dump_bundle(target, entries, signer=self._signer, codec=chosen, at_exit=at_exit)
        self._dumped = len(used)
        return Path(target)

    async def aclose(self) -> None:
        """Dump what was used, unless that is switched off, and let go of what the tiers hold open. Idempotent.

        A dump that fails is logged: :meth:`dump` raises.
        """
        await self.dump_quietly(at_exit=False)
        await super().aclose()

    async def _by_codec(self, used: Mapping[Key, Codec | None]) -> dict[Codec | None, dict[Key, Entry]]:
        """Return what there still is of the keys that were used, by the codec of their functions."""
        groups: dict[Codec | None, dict[Key, Entry]] = {}
        for key, codec in used.items():
            found = await self.tier.find(key, codec)
            if found is not None:
                groups.setdefault(codec, {})[key] = found[0]
        return groups

    async def dump_quietly(self, *, at_exit: bool) -> None:
        """Dump what was used since the last time, if this cache is to; log what fails. For its end."""
        if not self._dump_on_close or self._dumped == len(self._determinism.used):
            return
        try:
            if self._determinism.mode() == "deterministic":
                await self._dump(None, at_exit=at_exit)
        except (CacheError, OSError) as error:
            _log.warning("what a deterministic cache has used was not dumped: %s", type(error).__name__)

    def _is_plain(self, settings: config.Settings) -> bool:
        return super()._is_plain(settings) and settings.enable_deterministic_caching is not False


def _default_tiers() -> tuple[Tier, ...]:
    """Return memory, and the user's cache directory or ``ACACHE_DIR``."""
    return MemoryTier(), DiskTier(config.cache_directory(config.settings()), sub_dir="deterministic")


def _require_agreement(tiers: Sequence[Tier], consistency: Consistency) -> None:
    """Raise unless whoever shares the widest of ``tiers`` agrees on what it holds."""
    widest = max(tiers, key=lambda tier: tier.reach)
    if consistency == "global":
        if not widest.has_strong_consistency:
            raise DeterministicCachingRequiresStrongConsistencyError(widest.name)
    elif widest.reach == 0:
        raise DeterministicCachingInvalidConfigurationError(
            "local determinism needs a tier that all processes of the host share: add a DiskTier"
        )
    elif widest.reach > 1 and not widest.has_strong_consistency:
        raise DeterministicCachingInvalidConfigurationError(
            f"{widest.name} reaches beyond this host without strong consistency: leave it out"
        )


def _consistency(settings: config.Settings) -> Consistency:
    if settings.global_determinism:
        return "global"
    if settings.local_determinism:
        return "local"
    raise DeterministicCachingInvalidConfigurationError(
        "local and global determinism are both switched off: set ACACHE_LOCAL_DETERMINISM=1, or give consistency="
    )


def _dump_path(tiers: Sequence[Tier]) -> Path:
    disk = next((tier for tier in tiers if isinstance(tier, DiskTier)), None)
    base = config.cache_directory(config.settings()) if disk is None else disk.path
    return base.joinpath(*_DUMP)


def _make_private(directory: str) -> None:
    open_private(REAL_FILES, directory)[0].close()


def _require_choice(option: str, value: object, choices: object) -> None:
    known = cast("tuple[str, ...]", get_args(choices))
    if value is not None and value not in known:
        raise ConfigurationError(option, f"choose one of {', '.join(known)}, or None")


#: Those that may have something to dump when the process ends.
_caches: Final[WeakSet[DeterministicCache]] = WeakSet()


def _dump_at_exit() -> None:
    for cache in list(_caches):
        try:
            run_sync(partial(cache.dump_quietly, at_exit=True))
        except Exception as error:  # noqa: BLE001 - nobody is left to handle it
            _log.warning("a deterministic cache was not dumped at exit: %s", type(error).__name__)


atexit.register(_dump_at_exit)
