"""T12: whatever goes wrong, nothing that was cached, asked for or configured shows in what acache says.

Each scenario puts the canary into arguments, results, keys, tags, factors, exceptions or URLs, and lets something fail.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest

from acache import (
    Cache,
    DeferredRecording,
    DeterministicCache,
    DiskTier,
    FastCache,
    JsonCodec,
    MemoryTier,
    Signer,
    SyncCache,
    config,
    exceptions,
    isolate,
    run_sync,
)
from acache.exceptions import CacheError
from acache.testing import FaultyTier
from tests.acceptance.support import RegisterForm

CANARY: Final = "hunter2-canary"
KEY: Final = "the first key of this signer"


class CanaryError(Exception):
    """What the user's code raises: its text is the user's."""

    def __init__(self) -> None:
        super().__init__(CANARY)


class Secret:
    """Has no key and no pickle, and shows what it holds to whoever prints it."""

    def __repr__(self) -> str:
        return CANARY

    def __reduce_ex__(self, protocol: object) -> str:
        raise CanaryError


class Broken(Secret):
    """Fails to say what its key is."""

    def __cache_key__(self) -> object:
        raise CanaryError


def fail(*_args: object, **_kwargs: object) -> Any:
    raise CanaryError


class Witness:
    """Collects all that is said while a scenario runs."""

    def __init__(self, tmp_path: Path, register: RegisterForm) -> None:
        self.path = tmp_path
        self.register = register
        self.said: list[str] = []
        self.errors: list[BaseException] = []
        self._caches: list[Cache] = []

    def watch(self, cache: Cache) -> Any:
        """Listen to ``cache``, also with a sink that fails."""
        self._caches.append(cache)
        cache.events.subscribe(lambda event: self.said.append(repr(event)))
        cache.events.subscribe(fail)
        return cache

    @property
    def cache(self) -> Any:
        """A new cache of memory and disk, for options that no type checker would let pass."""
        return self.watch(FastCache(MemoryTier(), DiskTier(self.path / f"cache{len(self._caches)}")))

    @contextmanager
    def raises(self, *kinds: type[BaseException]) -> Generator[None]:
        """Expect an error and hear what it says."""
        with pytest.raises(kinds or CacheError) as caught:
            yield
        self.errors.append(caught.value)

    async def finish(self) -> str:
        """Return all that was said by the caches, their functions and the errors."""
        for cache in self._caches:
            self.said += [repr(cache), repr(cache.tier), *map(repr, cache.tier.tiers), repr(cache.statistics())]
            for memoized in cache.studio.registry.alive():
                self.said += [repr(memoized.aio), repr(memoized.counters)]
            await cache.aclose()
        for error in self.errors:
            self.said += _texts(error)
        return "\n".join(self.said)


def _texts(error: BaseException) -> list[str]:
    """Return what an error says: its own text and those of our errors it came of; all, where user code raised none."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    texts = [
        text for each in chain if isinstance(each, CacheError) for text in (str(each), repr(each), repr(vars(each)))
    ]
    if not any(isinstance(each, CanaryError) for each in chain):
        texts += traceback.format_exception(error)
    return texts


async def bad_arguments(to: Witness) -> None:
    """Arguments that cannot be part of a key, by every way to a key."""
    cache = to.cache

    async def raw(x: object, **more: object) -> object:
        return x

    f = cache.memoize(raw)

    deep: Any = CANARY
    for _ in range(1000):
        deep = (deep,)
    for argument in (
        Secret(),
        [CANARY, Secret()],
        {CANARY: Secret()},
        Broken(),
        deep,
        lambda: CANARY,
        (CANARY for _ in "a"),
    ):
        for ask in (f, f.cache_get, f.cache_contains, f.cache_invalidate, f.cache_explain):
            with to.raises():
                await ask(argument)
        with to.raises():
            f.cache_key(argument, more=CANARY)
        with to.raises():
            await cache.get_or_set(argument, lambda: CANARY)
        with to.raises():
            await cache.insert(f, ((argument,), {}), CANARY)
    templated = cache.memoize(key="{x.secret}", version=CANARY)(f.__wrapped__)
    with to.raises():
        await templated(CANARY)
    with to.raises(CanaryError):
        await cache.memoize(key=fail)(f.__wrapped__)(CANARY)


async def bad_results(to: Witness) -> None:
    """Results that no tier can encode, that can be used once, or that an option fails on."""
    cache = to.cache

    async def raw(x: str) -> object:
        return [x, Secret()]

    f = cache.memoize(raw)

    with to.raises():
        await f(CANARY)
    with to.raises():
        await f.cache_set(Secret(), CANARY)
    with to.raises():
        await f.cache_set(iter([CANARY]), CANARY)
    with to.raises():
        await cache.set_many({CANARY: Secret()})
    with to.raises():
        await cache.memoize(codec=JsonCodec(), version=1)(f.__wrapped__)(CANARY)
    await cache.memoize(on_unencodable="warn", version=2)(f.__wrapped__)(CANARY)
    await cache.memoize(store_if=fail, version=3)(f.__wrapped__)(CANARY)
    for version, odd in enumerate((CANARY, Secret(), -1), start=10):

        def ttl(_result: str, odd: object = odd) -> object:
            return odd

        await cache.memoize(ttl=ttl, version=version)(text)(CANARY)
    await cache.memoize(ttl=fail, version=4)(text)(CANARY)


async def text(x: str) -> str:
    """Return the canary twice."""
    return x + x


def no_key(_x: str) -> object:
    """Return what no key can be made of."""
    return Secret()


def no_tags(_result: str, x: str) -> list[object]:
    """Return what is partly no tag."""
    return [x, Secret()]


async def custom_coders(to: Witness) -> None:
    """Coders that fail, now, later, and in reading."""
    cache = to.cache
    encoded = {"custom_result_encoder": fail, "custom_result_decoder": fail}
    with to.raises(CanaryError):
        await cache.memoize(version=1, **encoded)(text)(CANARY)
    with to.raises(CanaryError):
        await cache.memoize(version=2, custom_params_encoder=fail)(text)(CANARY)
    with to.raises():
        await cache.memoize(version=3, custom_params_encoder=no_key)(text)(CANARY)

    def later(_value: object) -> DeferredRecording:
        recording = DeferredRecording()
        recording.fail(CanaryError())
        return recording

    def dropped(_value: object) -> DeferredRecording:
        return DeferredRecording()

    for version, encoder in enumerate((later, dropped), start=4):
        f = cache.record(version=version, custom_result_encoder=encoder, custom_result_decoder=str)(text)
        await f(CANARY)
        with to.raises(CanaryError, CacheError):
            await f.cache_set(CANARY, CANARY)


async def functions_that_fail(to: Witness) -> None:
    """Failures that are raised, kept, hidden behind something stale, met behind the caller, or in time."""
    cache = to.cache

    async def failing(x: str) -> str:
        raise CanaryError

    with to.raises(CanaryError):
        await cache.memoize(failing)(CANARY)
    kept = cache.memoize(version=1, cache_exceptions=CanaryError)(failing)
    for _ in range(2):
        with to.raises(CanaryError):
            await kept(CANARY)
    stale = cache.memoize(version=2, ttl=0, stale_ttl="1h")(failing)
    await stale.cache_set(CANARY, CANARY)
    assert await stale(CANARY) == CANARY

    async def endless(x: str) -> str:
        await asyncio.Event().wait()
        return x

    with to.raises(exceptions.ComputeTimeoutError):
        await cache.memoize(timeout=0)(endless)(CANARY)

    async def recursive(x: str) -> str:
        return str(await asks_itself(x))

    asks_itself = cache.memoize(recursive)
    with to.raises(exceptions.RecursiveCallError):
        await asks_itself(CANARY)
    with to.raises(exceptions.ReplayMissError):
        await cache.replay(text)(CANARY)

    async def stream(x: str) -> AsyncIterator[str]:
        yield x
        raise CanaryError

    with to.raises(CanaryError):
        _ = [each async for each in cache.memoize(stream)(CANARY)]


async def many_keys(to: Witness) -> None:
    """Functions over many keys that return what does not fit."""
    cache = to.cache
    answers: tuple[Any, ...] = ({}, {CANARY: Secret()}, [CANARY, CANARY], fail, {CANARY: iter([CANARY])})
    for version, answer in enumerate(answers):

        async def load(keys: list[str], answer: Any = answer) -> Any:
            return answer() if answer is fail else answer

        many = cache.memoize_many(version=version)(load)
        for ask in (partial(many, [CANARY]), partial(many.one, CANARY)):
            try:
                await ask()
            except (CacheError, CanaryError) as error:
                to.errors.append(error)


async def groups(to: Witness) -> None:
    """Tags that hold the canary, that fail, and that are no tags."""
    cache = to.cache
    choices: tuple[Any, ...] = (f"user:{CANARY}", "user:{x}", no_tags, fail)
    for version, tags in enumerate(choices):
        f = cache.memoize(version=version, tags=tags)(text)
        try:
            await f(CANARY)
            await f.cache_get(CANARY)
        except (CacheError, CanaryError) as error:
            to.errors.append(error)
    await cache.invalidate_tags(f"user:{CANARY}", CANARY)
    odd: Any = Secret()
    with to.raises():
        await cache.invalidate_tags(odd)
    with to.raises():
        cache.memoize(version=9, tags="{nothing}")(text)


async def broken_tiers(to: Witness) -> None:
    """Tiers that break at every operation, with errors that say what they saw."""
    disk = FaultyTier(DiskTier(to.path / "faulty"))
    cache = to.watch(FastCache(MemoryTier(), disk))
    f = cache.memoize(text)
    operations: list[Any] = ["read", "write", "remove", "scan", "*"]
    for operation in operations:
        disk.heal()
        disk.fail(operation, error=CanaryError())
        assert await f(CANARY) == CANARY + CANARY
        await f.cache_set(CANARY, CANARY)
        await f.cache_explain(CANARY)
        await f.cache_invalidate(CANARY)
        await cache.clear()
        await cache.set_many({CANARY: CANARY})
        await cache.get_many([CANARY])


async def damaged_files(to: Witness) -> None:
    """Files that are damaged, unsigned, or signed with another key, read kindly and strictly."""
    path = to.path / "files"

    async def ask(signer: Signer | None, on_corrupt: Any = "miss") -> None:
        cache = to.watch(FastCache(DiskTier(path, signer=signer, on_corrupt=on_corrupt)))
        try:
            await cache.memoize(text)(CANARY)
        except CacheError as error:
            to.errors.append(error)
        await cache.aclose()

    signers = (None, Signer(KEY), Signer(KEY[::-1]))
    for on_corrupt in ("miss", "raise"):
        for signer in (*signers, *signers):
            await ask(signer, on_corrupt)
        for size in (0, 10, 100, -1):
            for file in path.rglob("??/*"):
                if file.is_file():
                    file.write_bytes(file.read_bytes()[:size] + b"\xff" * (size == -1))
            await ask(None, on_corrupt)


async def locks_and_threads(to: Witness) -> None:
    """Locks that are not had in time, and sync calls that cannot be."""
    cache = to.cache
    async with cache.lock():
        for tier in cache.tier.tiers:
            with to.raises(TimeoutError):
                async with tier.lock(0):
                    pass
    f = cache.memoize(text)
    with to.raises(exceptions.BridgeError):
        f.sync(CANARY)

    async def never() -> str:
        await anyio.sleep_forever()
        return CANARY

    def in_thread() -> None:
        with to.raises(exceptions.BridgeTimeoutError):
            run_sync(never, timeout=0)
        with to.raises(exceptions.BridgeTimeoutError):
            SyncCache(cache, timeout=0).get_or_set(CANARY, never)

    await anyio.to_thread.run_sync(in_thread)


async def configuration(to: Witness) -> None:
    """URLs with passwords, keys that are none, and settings that cannot be."""
    for url in (
        *(f"redis://user:{CANARY}@host/0", f"disk://user:{CANARY}@host/x", f"disk://user:{CANARY}@[host/x"),
        *(f"memory://?max_entries={CANARY}", f"disk:///x?max_bytes={CANARY}", f"disk:///x?codec={CANARY}"),
        *(f"memory://{CANARY}", f"disk:///x#{CANARY}", f"disk:///x?max_age={CANARY}", f"disk:///x?sub_dir=../{CANARY}"),
    ):
        with to.raises(exceptions.ConfigurationError):
            FastCache.from_url(url)
    odd: Any = CANARY * 10
    with to.raises(exceptions.ConfigurationError):
        FastCache(DiskTier(to.path, signer=odd))
    with to.raises(exceptions.ConfigurationError):
        FastCache(odd)
    with to.raises(exceptions.ConfigurationError):
        Signer(CANARY[:5])
    cache = to.cache
    for options in ({"ttl": CANARY}, {"key": lambda: CANARY, "ignore": CANARY}, {"ischema": CANARY}, {"codec": CANARY}):
        with to.raises():
            cache.memoize(**options)(text)
    with config.override(debug_mutation=True):
        shared = cache.memoize(version=5)(listed)
        (await shared(CANARY)).append(CANARY)
        await shared(CANARY)


async def listed(x: str) -> list[str]:
    """Return the canary in something that can change."""
    return [x]


async def isolation(to: Witness) -> None:
    """Factors that hold the canary, and probes that fail or say what JSON cannot hold."""
    cache = to.cache
    f = cache.memoize(text)
    with isolate(target=CANARY):
        await f(CANARY)
        to.said.append(repr(await f.cache_explain(CANARY)))
    to.said.append(repr(await f.cache_explain(CANARY)))
    with to.raises(), isolate(target=Secret()):
        await f(CANARY)
    probes: tuple[Callable[[], object], ...] = (fail, Secret, lambda: {"x": CANARY + "\ud800", "y": float("nan")})
    for number, probe in enumerate(probes):
        end = to.register("runtime", f"canary{number}", probe, True)
        with suppress(CanaryError), to.raises():
            await f(CANARY)
        end()


async def determinism(to: Witness) -> None:
    """Strict caches that miss, insertions they refuse, and bundles that contradict each other or are damaged."""
    bundle = to.path / "results.bundle"
    for result in (CANARY, CANARY * 2):
        worker = DeterministicCache(MemoryTier(), DiskTier(to.path / str(len(result))), dump_on_close=False)
        async with to.watch(worker) as cache:

            async def f(x: str, result: str = result) -> str:
                return result

            await cache.memoize(key="{x}")(f)(CANARY)
            try:
                await cache.dump(bundle)
            except CacheError as error:
                to.errors.append(error)
    strict = to.watch(DeterministicCache(MemoryTier(), DiskTier(to.path / "s"), strict="cached", dump_on_close=False))
    with to.raises(exceptions.StrictDeterministicCachingKeyNotFoundError):
        await strict.memoize(text)(CANARY)
    with to.raises(exceptions.StrictDeterministicCachingInsertionError):
        await strict.insert(text, ((CANARY,), {}), CANARY)
    bundle.write_bytes(bundle.read_bytes()[:-5])
    with to.raises(exceptions.BundleError):
        await strict.load(bundle)


SCENARIOS: tuple[Callable[[Witness], Awaitable[None]], ...] = (
    *(bad_arguments, bad_results, custom_coders, functions_that_fail, many_keys, groups, broken_tiers, damaged_files),
    *(locks_and_threads, configuration, isolation, determinism),
)


@pytest.mark.integration
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_t12_no_canary_shows(
    tmp_path: Path, register: RegisterForm, caplog: pytest.LogCaptureFixture, scenario: Any
) -> None:
    """T12: no log record, warning, event, statistics, repr or text of an error of acache's holds the canary."""
    caplog.set_level(logging.DEBUG)
    witness = Witness(tmp_path, register)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        await scenario(witness)
        said = await witness.finish()
        gc.collect()
    records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
    assert witness.errors or records
    for each in (said, *records, *(str(warning.message) for warning in warned)):
        assert CANARY not in each
