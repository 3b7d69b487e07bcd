"""Streams: what an async generator yields, recorded while it is passed on, and replayed.

The generator runs in the flight of its key, and only as far as the foremost of those who follow wants to have it. They
take part in the flight for as long as they follow: when the last one leaves, the generator is closed, and nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final, final

from acache import exceptions
from acache.engine.call import Call, Found
from acache.engine.core import Engine
from acache.engine.deferred import Deferral, DeferredRecording
from acache.engine.groups import Origin
from acache.exceptions import CustomResultEncoderRequiredError
from acache.flight import Flight, LeaderLost, is_woken, wake
from acache.mutexes import make_mutex
from acache.tiers.sizing import estimate_size
from acache.types import MISSING, Missing, Written

__all__ = ("Recording", "Source", "follow", "record_alone")

Source = Callable[[], AsyncGenerator[Any, None]]


@final
class Recording:
    """What a stream has given so far, and where those who follow it are. Safe to use from any loop.

    Once it holds more than ``limit`` bytes, by estimate, it keeps only what somebody has still to be given.
    """

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._loop: Final = asyncio.get_running_loop()
        self._mutex: Final = make_mutex()
        self._chunks: dict[int, Any] = {}
        self._positions: dict[object, int] = {}
        self._waiting: set[asyncio.Future[Missing | None]] = set()
        self._demand: Final = asyncio.Event()
        self._wanted = 0
        self._bytes = 0
        self._ended = False
        self._error: BaseException | None = None
        self._traceback: Any = None
        #: How many chunks there were.
        self.count = 0
        #: Whether it still holds all of them.
        self.is_whole = True
        #: What the stream was or, at its end, has become.
        self.found: Found | None = None

    # --- for the generator ----------------------------------------------------------------------------------------

    async def wait_for_demand(self) -> None:
        """Wait until somebody wants one more chunk than there are."""
        while self._wanted <= self.count:
            self._demand.clear()
            if self._wanted <= self.count:
                await self._demand.wait()

    def add(self, chunk: Any) -> None:
        """Give one more chunk to those who follow."""
        size = estimate_size(chunk)
        with self._mutex:
            self._chunks[self.count] = chunk
            self.count += 1
            self._bytes += size
            self.is_whole = self.is_whole and self._bytes <= self._limit
            waiting, self._waiting = self._waiting, set()
        wake(waiting, MISSING)

    def chunks(self) -> list[Any]:
        """Return all there were; only of a recording that is whole."""
        return [self._chunks[number] for number in range(self.count)]

    def end(self, error: BaseException | None = None) -> None:
        """Let those who follow come to the end, or to the error, when they have been given what there is."""
        with self._mutex:
            self._ended = True
            self._error, self._traceback = error, None if error is None else error.__traceback__
            waiting, self._waiting = self._waiting, set()
        wake(waiting, MISSING)

    def replay(self, found: Found, chunks: list[Any]) -> None:
        """Give what was stored."""
        with self._mutex:
            self._chunks = dict(enumerate(chunks))
            self.count = len(chunks)
            self.found = found
        self.end()

    # --- for those who follow -------------------------------------------------------------------------------------

    async def follow(self, label: str) -> AsyncGenerator[Any, None]:
        """Yield every chunk from the first, as they come; raise what the stream came to.

        Raises :class:`~acache.flight.LeaderLost` if the first chunks are gone already.
        """
        me, position = object(), 0
        with self._mutex:
            if not self.is_whole and 0 not in self._chunks:
                raise LeaderLost
            self._positions[me] = 0
        try:
            while await self._has(position, label):
                chunk = self._chunks[position]
                position += 1
                self._positions[me] = position
                self._forget()
                yield chunk
        finally:
            with self._mutex:
                del self._positions[me]
            self._forget()

    async def _has(self, position: int, label: str) -> bool:
        """Wait for the chunk at ``position``; tell whether there is one."""
        while position >= self.count:
            if self._ended and position >= self.count:
                self._raise_error(label)
                return False
            await self._wait(position)
        return True

    async def _wait(self, position: int) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Missing | None] = loop.create_future()
        with self._mutex:
            if self._ended or position < self.count:
                return
            self._waiting.add(future)
            self._wanted = max(self._wanted, position + 1)
        try:
            if loop is self._loop:
                self._demand.set()
                await future
            else:
                await self._wait_for_other_loop(future)
        finally:
            with self._mutex:
                self._waiting.discard(future)

    async def _wait_for_other_loop(self, future: asyncio.Future[Missing | None]) -> None:
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._demand.set)
        if not await is_woken(future, self._loop):
            raise LeaderLost

    def _raise_error(self, label: str) -> None:
        error = self._error
        if isinstance(error, Exception):
            # One object for all who follow: see Flight.result().
            raise error.with_traceback(self._traceback)
        if error is not None:
            raise exceptions.SystemError(f"the stream of {label} was ended by {type(error).__name__}") from None

    def _forget(self) -> None:
        """Drop what all have been given, if it will not be stored anyway."""
        if self.is_whole:
            return
        gone: list[Any] = []  # dropped outside the mutex: a finalizer may do anything
        with self._mutex:
            first = min(self._positions.values(), default=self.count)
            gone.extend(self._chunks.pop(number) for number in [n for n in self._chunks if n < first])


async def follow(engine: Engine, call: Call, source: Source, limit: int) -> AsyncGenerator[Any, None]:
    """Yield what is stored of a stream or, in one flight for all who ask, what ``source()`` yields.

    Raises what the generator raises, :class:`~acache.exceptions.RecursiveCallError` for a stream that follows itself, and
    :class:`~acache.exceptions.SystemError` when the event loop that runs the generator ends.
    """
    given = 0
    while True:
        try:
            born = await engine.groups.board(call)
        except Exception:
            engine._report(call, "failed")
            raise
        with engine.flights.board(
            call.key,
            call.label,
            lambda flight: _produce(engine, call, flight, source),
            lambda: Recording(limit),
            born=born,
            stores=call.stores,
        ) as (flight, leads):
            recording: Recording = flight.progress
            try:
                async with aclosing(recording.follow(call.label)) as chunks:
                    async for chunk in chunks:
                        given += 1
                        yield engine._storing.handed(call, chunk)
            except LeaderLost:
                engine.flights.ground(flight)
                if given:  # the rest of another run need not fit what was given of this one
                    raise exceptions.SystemError(
                        f"the event loop that ran the stream of {call.label} has ended"
                    ) from None
                continue
            except Exception:
                engine._report(call, "failed")
                raise
            found = recording.found
            hit = found is not None and found.tier is not None
            engine._report(call, "hit" if hit else "computed" if leads else "joined", found)
            return


async def record_alone(engine: Engine, call: Call, source: Source, limit: int) -> AsyncGenerator[Any, None]:
    """Yield what ``source()`` yields, and store it over what is there when that has come to its end."""
    chunks: list[Any] = []
    size, cost = 0, 0.0
    try:
        origin = await engine.groups.begin(call)
        async with call.place(), aclosing(source()) as generator:
            while True:
                started = engine.clock.monotonic()
                chunk = await anext(generator, MISSING)
                cost += engine.clock.monotonic() - started
                if chunk is MISSING:
                    break
                size += estimate_size(chunk)
                if size <= limit:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                yield chunk
        complete = _completed(engine, call, chunks, origin) if size <= limit else None
        stored = complete is not None and await engine._storing.store_over(call, chunks, cost, complete)
    except Exception:
        engine._report(call, "failed")
        raise
    engine._report(call, "computed", Found(chunks, cost=cost, stored=stored))


async def _produce(engine: Engine, call: Call, flight: Flight[Found], source: Source) -> Found:
    recording: Recording = flight.progress
    try:
        found = await engine._find(call)
        if found is not None and found.freshness.is_served:
            recording.replay(found, await engine._decode(call, found.value))
            return found
        origin = await engine.groups.begin(call, flight)
        async with call.place():
            cost = await _run(engine, flight, recording, source)
        flight.landing = True
        stored = recording.is_whole and await _store(engine, call, flight, recording.chunks(), cost, origin)
        recording.found = Found(None, cost=cost, stored=stored)
        recording.end()
    except BaseException as error:
        recording.end(error)
        raise
    return recording.found


async def _run(engine: Engine, flight: Flight[Found], recording: Recording, source: Source) -> float:
    """Run the generator to its end, chunk by chunk as they are wanted; return the seconds that took."""
    cost = 0.0
    async with aclosing(source()) as generator:
        while True:
            await recording.wait_for_demand()
            started = engine.clock.monotonic()
            chunk = await anext(generator, MISSING)
            cost += engine.clock.monotonic() - started
            if chunk is MISSING:
                return cost
            recording.add(chunk)
            if flight.valid and not recording.is_whole:
                engine.flights.ground(flight)  # who comes later would miss the beginning


async def _store(
    engine: Engine, call: Call, flight: Flight[Found], chunks: list[Any], cost: float, origin: Origin
) -> bool:
    """Store a stream that has come to its end."""
    call = replace(call, stores=engine.flights.is_to_store(flight))
    complete = _completed(engine, call, chunks, origin)
    if complete is None:
        return False
    try:
        stored = await engine._storing.encode(call, chunks)
        if isinstance(stored, DeferredRecording):
            deferral = Deferral.of(stored)
            del stored
            stored = await engine._storing.final(call, deferral)
        entry = engine._storing.entry(call, chunks, stored, cost, complete)
        return await engine._storing.publish(call, entry, flight.holds, replace=True) is Written.NEW
    except CustomResultEncoderRequiredError:
        engine._storing.excuse(call)
        return False


def _completed(engine: Engine, call: Call, chunks: list[Any], origin: Origin) -> Origin | None:
    """Return with what a stream that has come to its end is stored; ``None``: it is not."""
    return engine.groups.complete(call, chunks, origin) if engine._storing.wants(call, chunks) else None
