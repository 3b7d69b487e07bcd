"""The cache whose workers all use the same results: the first one that any of them stored.

A worker computes, inserts its result where all of them look if nothing is there yet and, when another was faster, takes
that one's. What cannot be stored there is not used: :class:`~acache.exceptions.DeterminismLostError`. A strict cache
computes nothing at all; it replays what is cached, or only what was loaded from a bundle.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, final, get_args
from weakref import WeakSet

from acache import config
from acache.bridge import run_sync
from acache.caches.base import Cache
from acache.codecs import Signer, configured_signer
from acache.engine import Determinism, Strictness
from acache.engine.bundles import dump_bundle
from acache.engine.bundles.place import absolute
from acache.engine.bundles.tier import BundleTier
from acache.engine.usage import Usage
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
from acache.tiers.chain import in_order

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
    verifies bundles. With ``dump_on_close``, :meth:`aclose` and the end of the process :meth:`dump` what was used; not the end of a
    process by ``os._exit()``, as which children of :mod:`multiprocessing` end that were forked: they have to call either.
    The other options are those of :class:`~acache.FastCache`.

    Raises :class:`~acache.exceptions.DeterministicCachingRequiresStrongConsistencyError`, and
    :class:`~acache.exceptions.DeterministicCachingInvalidConfigurationError` for tiers that cannot give what is asked: at once or, where the
    settings ask for ``"pre_populated"`` now and later no more, at the call. While deterministic caching is switched off, whatever asks for
    results or gives some (calls, :meth:`get`, :meth:`insert`, explanations, :meth:`dump`) raises
    :class:`~acache.exceptions.DeterministicCachingDisabledError`; what removes results, loads, locks and closes does not.
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
        given = in_order(tiers or _default_tiers())
        self._dump_path = _dump_path(given)
        self._signer = configured_signer() if signer is None else signer
        self._dump_on_close = dump_on_close
        self._usage = Usage()
        self._bundles = BundleTier(self._usage, signer=self._signer, clock=given[0].clock)
        if strict == "pre_populated":
            given = tuple(tier for tier in given if tier.reach == 0)
        narrow = (*(tier for tier in given if tier.reach == 0), self._bundles)
        self._determinism = Determinism(
            strict,
            self._usage,
            len(narrow),
            lambda: "" if self._bundles else _UNREAD,
            lambda: _require_agreement(given[-1], consistency or _consistency(config.settings())),
        )
        chain = ChainTier(*narrow, *given, agrees=True, limit=self._determinism.depth)
        #: What had been used when it was dumped by default.
        self._dumped = 0
        super().__init__(chain, namespace=namespace, host_timeout=host_timeout, determinism=self._determinism)
        _caches.add(self)

    async def load(self, path: str | os.PathLike[str]) -> None:
        """Serve what the bundle ``path`` holds; what was loaded earlier, and what this process used already, goes before it.

        That holds also when memory forgets what was used: a strict cache refuses the call then. Raises as
        :meth:`acache.engine.bundles.Bundle.open`, having loaded nothing.
        """
        await self._bundles.load(path)

    async def dump(self, path: str | os.PathLike[str] | None = None) -> Path | None:
        """Write every result that this process has used into the bundle ``path``, and return the path.

        By default it is ``dcache_dump/imc.save`` below the directory of the disk tier. A bundle that is there is added to. ``None`` if
        there is nothing to write. What is written are the results as the workers share them, whatever callers did to those in memory.
        Atomic. Raises :class:`~acache.exceptions.DeterministicCachingDisabledError`,
        :class:`~acache.exceptions.DeterministicCachingIMCDumpConflictError` if the bundle holds another result for a key, and as
        :func:`acache.engine.bundles.dump_bundle`.
        """
        return await self._dump(path, at_exit=False)

    async def _dump(self, path: str | os.PathLike[str] | None, *, at_exit: bool) -> Path | None:
        self._determinism.mode()  # raises while it is switched off
        target = absolute(self._dump_path if path is None else path)
        changes, uses = self._usage.changes, self._usage.uses()
        agreed = {key: await self.tier.agreed(key, use.codec) for key, use in uses.items()}
        entries = {key: entry for key, entry in agreed.items() if entry is not None}
        if not entries:
            return None
        default = target == absolute(self._dump_path)
        if default:
            await in_thread(_make_private, str(self._dump_path.parent))
        codecs = {key: use.codec for key, use in uses.items() if use.codec is not None}
        clock = self.tier.clock
        await dump_bundle(target, entries, signer=self._signer, codecs=codecs, clock=clock, at_exit=at_exit)
        if default:
            self._dumped = changes
        return Path(target)

    async def aclose(self) -> None:
        """Dump what was used, unless that is switched off, and let go of what the tiers hold open. Idempotent.

        A dump that fails is logged: :meth:`dump` raises.
        """
        await self._dump_quietly(at_exit=False)
        await super().aclose()

    async def _dump_quietly(self, *, at_exit: bool) -> None:
        """Dump what was used since the last time, if this cache is to; log what fails. For its end."""
        if not self._dump_on_close or self._dumped == self._usage.changes:
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


def _require_agreement(arbiter: Tier, consistency: Consistency) -> None:
    """Raise unless whoever shares ``arbiter``, the widest tier, agrees on what it holds."""
    if consistency == "global":
        if not arbiter.has_strong_consistency:
            raise DeterministicCachingRequiresStrongConsistencyError(arbiter.name)
    elif arbiter.reach == 0:
        raise DeterministicCachingInvalidConfigurationError(
            "local determinism needs a tier that all processes of the host share: add a DiskTier"
        )
    elif arbiter.reach > 1 and not arbiter.has_strong_consistency:
        raise DeterministicCachingInvalidConfigurationError(
            f"{arbiter.name} reaches beyond this host without strong consistency: leave it out"
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
            run_sync(partial(cache._dump_quietly, at_exit=True))  # noqa: SLF001 - of this very module
        except Exception as error:  # noqa: BLE001 - nobody is left to handle it
            _log.warning("a deterministic cache was not dumped at exit: %s", type(error).__name__)


atexit.register(_dump_at_exit)
