"""Bundles as a tier that cannot be written: what was loaded is there, for good, before anything wider is asked."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import final

from acache.clock import SYSTEM_CLOCK, Clock
from acache.codecs import Codec, Signer
from acache.config import settings
from acache.engine.bundles import Bundle
from acache.engine.bundles.place import absolute
from acache.engine.usage import Usage
from acache.exceptions import ConfigurationError
from acache.locks import BLOCKING, Lock, acquire_lock
from acache.tiers import Tier
from acache.types import MISSING, Entry, Key, Missing, Written

__all__ = ("BundleTier",)


@final
class BundleTier(Tier):
    """Serve the entries of loaded bundles, in the order in which they were loaded.

    What this process has used by then, as ``usage`` says, and of no bundle, goes before what is loaded. The bundle that ``ACACHE_PRE_POPULATE_DETERMINISTIC_CACHE`` names is opened at the first use. A damaged entry is an error,
    never a miss: what was loaded must not be replaced by anything else.
    """

    is_read_only = True

    def __init__(
        self, usage: Usage, *, signer: Signer | None = None, name: str = "bundle", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        super().__init__(name=name, clock=clock, on_corrupt="raise")
        self._usage = usage
        #: What was found in a bundle, and what is not looked for in any.
        self._served: set[Key] = set()
        self._passed_over: set[Key] = set()
        self._signer = signer
        self._named: Path | None = None
        #: By the path they were loaded from; closed ones are opened again.
        self._bundles: dict[Path, Bundle | None] = {}
        self._opening = Lock()

    def __len__(self) -> int:
        return len(self._bundles)

    async def load(self, path: str | os.PathLike[str]) -> None:
        """Open the bundle ``path``. Raises as :meth:`Bundle.open`."""
        async with acquire_lock(self._opening, BLOCKING):
            await self._load(Path(absolute(path)))

    async def _load(self, place: Path) -> Bundle:
        bundle = await Bundle.open(place, signer=self._signer)
        self._passed_over |= self._usage.uses().keys() - self._served
        self._bundles[place] = bundle
        return bundle

    async def aclose(self) -> None:
        """Close the files; they are opened again at the next use."""
        for path, bundle in list(self._bundles.items()):
            self._bundles[path] = None
            if bundle is not None:
                await bundle.aclose()

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        for path in await self._paths():
            entry = None if key in self._passed_over else await (await self._bundle(path)).read(key, codec)
            if entry is not None and self._is_live(entry):
                self._served.add(key)
                return entry
        return None

    async def _factors(self, key: Key) -> Mapping[str, str] | None:
        for path in await self._paths():
            factors = await (await self._bundle(path)).factors(key)
            if factors is not None:
                return factors
        return None

    def _read_now(self, key: Key, codec: Codec | None) -> Entry | Missing | None:
        is_open = settings().pre_populate_deterministic_cache == self._named
        return MISSING if is_open and not self._bundles else None

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        return Written.FAILED

    async def _remove(self, key: Key) -> bool:
        return False

    async def _scan(self) -> AsyncGenerator[Key]:
        for path in await self._paths():
            async for key in (await self._bundle(path)).keys():
                yield key

    async def _paths(self) -> list[Path]:
        await self._open_named()
        return list(self._bundles)

    async def _bundle(self, path: Path) -> Bundle:
        bundle = self._bundles[path]
        if bundle is not None:
            return bundle
        async with acquire_lock(self._opening, BLOCKING):  # closed, and opened again by the first who comes
            bundle = self._bundles[path]
            return await self._load(path) if bundle is None else bundle

    async def _open_named(self) -> None:
        """Open what the settings of this moment name."""
        path = settings().pre_populate_deterministic_cache
        if path == self._named:
            return
        async with acquire_lock(self._opening, BLOCKING):
            if path == self._named:  # another was first
                return
            try:
                if path is not None:
                    await self._load(Path(absolute(path)))
            except OSError as error:
                raise ConfigurationError(
                    "ACACHE_PRE_POPULATE_DETERMINISTIC_CACHE", f"the bundle cannot be opened: {type(error).__name__}"
                ) from error
            self._named = path
