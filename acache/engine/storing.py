"""From a result to an entry: whether it is stored, in which form, and what becomes of one that cannot be."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

from acache.codecs import is_used_once
from acache.config import settings
from acache.engine.background import Background
from acache.engine.call import Call, Failure
from acache.engine.deferred import Deferral, DeferredDropped, DeferredRecording
from acache.engine.determinism import Determinism
from acache.engine.freshness import begun
from acache.engine.groups import Origin
from acache.engine.options import said
from acache.engine.reporting import Reporter
from acache.engine.witness import Witness
from acache.exceptions import CustomResultEncoderRequiredError, DeferredRecordingDroppedError, ValueEncodingError
from acache.tiers.chain import ChainTier
from acache.types import Entry, Key, Written

__all__ = ("Storing", "maybe_await", "refuse_unrepeatable")

_log = logging.getLogger("acache")


@final
class Storing:
    """Stores results in one chain. ``invalidate`` takes the right to publish from the flight of a key."""

    def __init__(
        self,
        chain: ChainTier,
        invalidate: Callable[[Key], None],
        background: Background,
        determinism: Determinism | None,
        reporter: Reporter,
    ) -> None:
        self._reporter: Final = reporter
        self._chain: Final = chain
        self._clock: Final = chain.clock
        self._invalidate: Final = invalidate
        self._determinism: Final = determinism
        self._background: Final = background
        #: The functions whose users have been warned that no result can be stored.
        self._warned: set[str] = set()
        self.witness: Final = Witness()

    async def encode(self, call: Call, value: Any) -> Any:
        """Return a result in its stored form, or the promise of it."""
        encoder = call.options.encoder
        stored = value if encoder is None else await maybe_await(encoder(value))
        return stored if isinstance(stored, DeferredRecording) else self._private(call, stored)

    async def final(self, call: Call, deferral: Deferral) -> Any:
        """Wait for what a deferred recording comes to; raise what it failed with."""
        try:
            return self._private(call, await deferral.wait())
        except DeferredDropped:
            raise DeferredRecordingDroppedError(call.label, call.key) from None

    def _private(self, call: Call, stored: Any) -> Any:
        refuse_unrepeatable(call.label, stored)
        return call.private(stored)

    def handed(self, call: Call, value: Any) -> Any:
        """Return what a caller gets of a result that others get too; what cannot be copied is shared, if that is no error."""
        try:
            return call.private(value)
        except CustomResultEncoderRequiredError:
            self.excuse(call)
            return value

    def entry(self, call: Call, value: Any, stored: Any, cost: float, origin: Origin) -> Entry | None:
        """Stamp a result in its stored form with the time; ``None``, and an event, if a callable ``ttl=`` fails."""
        try:
            ttl = call.options.ttl_of(value)
        except Exception as error:  # noqa: BLE001 - the caller has computed a result, and gets it
            self._reporter.not_stored(call, "ttl", error)
            return None
        return self.stamped(call, stored, ttl, cost, origin)

    def stamped(self, call: Call, stored: Any, ttl: float | None, cost: float, origin: Origin) -> Entry:
        """Make an entry that is good for ``ttl`` seconds, as far as the other options let it."""
        now, anchor = self._clock.wall(), self._clock.monotonic()
        if ttl is not None and call.options.jitter:
            # By the key, not by chance: calls that were cached together do not expire together, and a test sees the same.
            ttl += call.options.jitter * int(call.key[-8:], 16) / 0xFFFF_FFFF
        expires, stale_at, sliding = begun(call.options.timing, now=now, ttl=ttl)
        return Entry(
            stored, now, expires, cost, origin.tags, origin.factors, stale_at, origin.born, sliding, anchor=anchor
        )

    async def restamped(self, call: Call, entry: Entry) -> Entry:
        """Return ``entry`` as if it had been made now. Raises what a callable ``ttl=`` or a decoder raises."""
        options, value = call.options, entry.value
        if isinstance(value, Failure):
            ttl = options.exception_ttl(value.error)[1]
        else:
            ttl = options.ttl_of(value if options.decoder is None else await maybe_await(options.decoder(value)))
        return self.stamped(call, value, ttl, entry.cost, Origin(entry.factors, entry.tags, entry.born))

    async def publish(self, call: Call, entry: Entry | None, still: Callable[[], bool], *, replace: bool) -> Written:
        """Write an entry, if there is one, to the tiers, if ``still()`` holds then.

        Raises :class:`~acache.exceptions.CustomResultEncoderRequiredError` for a value no tier can encode.
        """
        if entry is None:
            return Written.FAILED
        try:
            written = await self._chain.publish(call.key, entry, replace=replace, codec=call.options.codec, still=still)
        except ValueEncodingError as error:
            raise CustomResultEncoderRequiredError(call.label, str(error)) from error
        if written is Written.NEW:
            if self._determinism is not None:
                self._determinism.usage.note(call.key, call.options.codec, entry)
            if settings().debug_mutation and call.options.shares:
                self.witness.look(call.label, call.key, entry)
        return written

    async def store_over(self, call: Call, value: Any, cost: float, origin: Origin) -> bool | None:
        """Store a result over what is there; tell whether it was, or ``None`` if that will be later."""
        try:
            stored = await self.encode(call, value)
            if isinstance(stored, DeferredRecording):
                deferral = Deferral.of(stored)
                later = partial(self._store_later, call, value, deferral, cost, origin)
                self._background.start(later, f"acache:{call.label}")
                return None
            self._invalidate(call.key)
            entry = self.entry(call, value, stored, cost, origin)
            return await self.publish(call, entry, lambda: True, replace=True) is Written.NEW
        except CustomResultEncoderRequiredError:
            self.excuse(call)
            return False

    async def _store_later(self, call: Call, value: Any, deferral: Deferral, cost: float, origin: Origin) -> None:
        try:
            entry = self.entry(call, value, await self.final(call, deferral), cost, origin)
            self._invalidate(call.key)
            await self.publish(call, entry, lambda: True, replace=True)
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            _log.warning("a deferred result of %s was not stored: %s", call.label, type(error).__name__)

    def wants(self, call: Call, value: Any) -> bool:
        """Tell whether a result is to be stored at all."""
        store_if = call.options.store_if
        if not call.stores:
            return False
        if store_if is None:
            return True
        try:
            return bool(said(store_if(value)))
        except Exception as error:  # noqa: BLE001 - the caller has computed a result, and gets it
            self._reporter.not_stored(call, "store_if", error)
            return False

    def excuse(self, call: Call) -> None:
        """Warn, once for each function, of results that cannot be stored; raise what is being handled if that is an error."""
        label = call.label
        if call.options.on_unencodable == "raise":
            raise  # noqa: PLE0704 - called in an except block only
        if label not in self._warned:
            self._warned.add(label)
            warnings.warn(f"results of {label} cannot be stored, and are computed for every call", stacklevel=2)


async def maybe_await(value: Any) -> Any:
    """Return ``value``, or what it comes to if it can be awaited."""
    return await value if inspect.isawaitable(value) else value


def refuse_unrepeatable(label: str, value: Any) -> None:
    """Refuse a result that only its first user could use."""
    if is_used_once(value):
        raise CustomResultEncoderRequiredError(label, f"a {type(value).__name__} can be used only once")
