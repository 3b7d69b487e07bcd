"""A tier that breaks on demand: errors, corruption and silence, at the operation a test chooses."""

# ruff: noqa: SLF001 - a wrapper of a tier speaks to its primitives, as the template does

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, final

from acache.exceptions import EntryRejectedError
from acache.testing.gate import Gate
from acache.tiers.base import Tier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from acache.codecs import Codec
    from acache.events import RemovalCause
    from acache.locks import Lockable, LockRank
    from acache.types import Entry, Key, Written
from acache.mutexes import make_mutex

__all__ = ("Call", "FaultyTier", "Hang", "Operation")

Operation: TypeAlias = Literal["read", "write", "remove", "scan", "*"]


class Call(NamedTuple):
    """One operation that reached a :class:`FaultyTier`; a scan has no key."""

    operation: Operation
    key: Key | None


@final
class Hang:
    """Operations that do not answer: wait for :attr:`reached`, look around, then :meth:`release` them."""

    __slots__ = ("reached", "released")

    def __init__(self, operation: Operation) -> None:
        #: Opens when the first operation hangs.
        self.reached = Gate(f"a hanging {operation}")
        self.released = Gate(f"the release of a hanging {operation}")

    def release(self) -> None:
        """Let the hanging operations go on, and later ones through. Idempotent."""
        self.released.open()


@dataclass(slots=True)
class _Fault:
    """One planned fault: it lets ``after`` operations pass, then strikes ``times`` times (``None``: for ever)."""

    operation: Operation
    effect: BaseException | type[BaseException] | Hang
    after: int
    times: int | None

    def strikes(self, operation: Operation) -> bool:
        if self.operation not in {operation, "*"} or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@final
class FaultyTier(Tier):
    """Wraps any tier and does what it does, except for the faults a test asked for. The latest fault wins.

    It has the wrapped tier's name, reach, clock and lock, and statistics and events of its own. ``calls`` lists the
    operations that reached it, broken ones too.
    """

    def __init__(self, tier: Tier) -> None:
        super().__init__(name=tier.name, clock=tier.clock)
        self.tier = tier
        self.on_corrupt = tier.on_corrupt
        self.has_strong_consistency = tier.has_strong_consistency
        self.reach = tier.reach
        self.stamps = tier.stamps
        self.calls: list[Call] = []
        self._faults: list[_Fault] = []
        self._planning = make_mutex()
        tier.events.add_parent(self.events)

    def fail(
        self,
        operation: Operation = "*",
        *,
        error: BaseException | type[BaseException] = OSError,
        times: int | None = None,
        after: int = 0,
    ) -> None:
        """Raise ``error`` in the ``operation``: in the next ``times`` ones (``None``: all), once ``after`` have passed."""
        self._plan(_Fault(operation, error, after, times))

    def corrupt(self, *, times: int | None = None, after: int = 0) -> None:
        """Let stored entries fail verification when they are read."""
        self.fail("read", error=EntryRejectedError("corrupt"), times=times, after=after)

    def hang(self, operation: Operation = "*", *, times: int | None = None, after: int = 0) -> Hang:
        """Let the ``operation`` wait until the handle that is returned is released. A hanging one can be cancelled."""
        hang = Hang(operation)
        self._plan(_Fault(operation, hang, after, times))
        return hang

    def heal(self) -> None:
        """Forget every fault, and release what hangs."""
        with self._planning:
            faults, self._faults = self._faults, []
        for fault in faults:
            if isinstance(fault.effect, Hang):
                fault.effect.release()

    async def aclose(self) -> None:
        """Close the wrapped tier; nothing breaks here."""
        await self.tier.aclose()

    def lock(self, timeout: float | None = None) -> AbstractAsyncContextManager[object]:
        """Hold the wrapped tier's lock."""
        return self.tier.lock(timeout)

    async def ranked_locks(self) -> Mapping[LockRank, Lockable]:
        """Say what the wrapped tier locks."""
        return await self.tier.ranked_locks()

    def removals(self, prefix: str) -> Mapping[RemovalCause, int]:
        """Return what the wrapped tier counted."""
        return self.tier.removals(prefix)

    async def _read(self, key: Key, codec: Codec | None) -> Entry | None:
        await self._meet("read", key)
        return await self.tier._read(key, codec)

    async def _write(self, key: Key, entry: Entry, codec: Codec | None, *, replace: bool) -> Written:
        await self._meet("write", key)
        return await self.tier._write(key, entry, codec, replace=replace)

    async def _remove(self, key: Key) -> bool:
        await self._meet("remove", key)
        return await self.tier._remove(key)

    async def _scan(self) -> AsyncGenerator[Key]:
        await self._meet("scan", None)
        async with aclosing(self.tier._scan()) as keys:
            async for key in keys:
                yield key

    async def _clear(self, prefix: str) -> None:
        await self._meet("scan", None)
        await self.tier._clear(prefix)

    def _is_live(self, entry: Entry) -> bool:
        return self.tier._is_live(entry)

    def _plan(self, fault: _Fault) -> None:
        with self._planning:
            self._faults.insert(0, fault)

    async def _meet(self, operation: Operation, key: Key | None) -> None:
        self.calls.append(Call(operation, key))
        with self._planning:
            effect = next((fault.effect for fault in self._faults if fault.strikes(operation)), None)
        if effect is None:
            return
        if isinstance(effect, Hang):
            effect.reached.open()
            await effect.released.wait()
        else:
            raise effect
