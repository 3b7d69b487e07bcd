"""Probes: once per process, shared by all callers, and honest about their failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from acache.context import (
    DEFAULT_SCHEMA,
    PLAIN,
    IsolationSchema,
    current_scope,
    isolate,
    isolation,
    isolation_context,
    isolation_key,
    isolation_key_now,
    isolation_now,
    reprobe,
)
from acache.exceptions import BridgeError, ConfigurationError
from acache.testing import Gate, cancel_sweep, settle
from tests.context.helpers import Register

#: A schema with the form ``slow`` of the compile half only.
SLOW = {"slow": True}

Probe = Callable[[], object]


class SlowProbe:
    """A probe of either kind that answers with the number of the call, when its gate opens."""

    def __init__(self, *, is_async: bool) -> None:
        self.started, self.gate = Gate("the probe's start"), Gate("the probe's end")
        self.calls = 0
        self.threads: list[str] = []
        self.probe: Probe = self.look_async if is_async else self.look

    def enter(self) -> None:
        self.calls += 1
        self.threads.append(threading.current_thread().name)
        self.started.open()

    async def look_async(self) -> object:
        self.enter()
        await self.gate.wait()
        return self.calls

    def look(self) -> object:
        self.enter()
        self.gate.wait_blocking()
        return self.calls


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def slow(request: pytest.FixtureRequest, register: Register) -> SlowProbe:
    """Register a form ``slow`` whose probe is slow."""
    probe = SlowProbe(is_async=request.param)
    register("compile", "slow", probe.probe)
    return probe


class TestSharing:
    """One probe for everybody."""

    async def test_tasks_threads_and_loops_share_one(self, slow: SlowProbe) -> None:
        """Fifty tasks, plain threads, worker threads and another loop ask; the probe runs once, and all have one key."""
        keys: list[str] = []

        def ask_on_another_loop() -> None:
            keys.append(asyncio.run(isolation_key()))

        def ask_plainly() -> None:
            keys.append(isolation_key_now(DEFAULT_SCHEMA, PLAIN))

        threads = [threading.Thread(target=ask) for ask in (ask_on_another_loop, ask_plainly, ask_plainly)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(isolation_key()) for _ in range(50)]
            workers = [
                group.create_task(anyio.to_thread.run_sync(isolation_key_now, DEFAULT_SCHEMA, PLAIN)) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            await slow.started.wait()
            await settle()
            assert [task for task in tasks if task.done()] == []
            assert isolation_now(DEFAULT_SCHEMA, PLAIN) is None
            slow.gate.open()
        for thread in threads:
            thread.join()
        assert slow.calls == 1
        assert len({task.result() for task in (*tasks, *workers)} | set(keys)) == 1
        assert len(keys) == 3
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is isolation_now(DEFAULT_SCHEMA, PLAIN) is not None

    async def test_a_probe_blocks_no_loop(self, slow: SlowProbe) -> None:
        """A user's probe never runs on the caller's loop, and an async one is on acache's."""
        slow.gate.open()
        await isolation_key()
        portal = slow.probe == slow.look_async
        assert [name.startswith("acache-portal") for name in slow.threads] == [portal]
        assert threading.current_thread().name not in slow.threads

    async def test_probes_of_one_key_run_side_by_side(self, register: Register) -> None:
        """Forms that have to be waited for are all started before the first is waited for."""
        probes = [SlowProbe(is_async=True), SlowProbe(is_async=False), SlowProbe(is_async=True)]
        for number, probe in enumerate(probes):
            register("compile", f"slow{number}", probe.probe)
        task = asyncio.create_task(isolation_key())
        for probe in reversed(probes):
            await probe.started.wait()
        for probe in probes:
            probe.gate.open()
        assert await task == await isolation_key()

    async def test_a_probe_sees_no_scope(self, register: Register) -> None:
        """What all share does not depend on who happens to ask first."""
        seen: list[object] = []

        async def look_async() -> None:
            seen.append(current_scope())

        register("compile", "one", lambda: seen.append(current_scope()))
        register("compile", "two", look_async)
        with isolate(target="sm90"):
            await isolation_key()
        assert seen == [PLAIN, PLAIN]

    async def test_a_plain_function_may_return_an_awaitable(self, register: Register) -> None:
        """What a lambda makes of a coroutine function is awaited too, and leaves nothing behind."""

        async def look(value: str) -> str:
            return value

        register("compile", "shared", lambda: look("a"))
        register("runtime", "volatile", lambda: look("b"), volatile=True)
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is None
        context = await isolation_context(IsolationSchema({"volatile": True}, {"shared": True}))
        assert context == {"runtime_context": {"volatile": "b"}, "compile_context": {"shared": "a"}}
        assert isolation_now(IsolationSchema({"volatile": True}, False), PLAIN) is None

    async def test_an_object_with_an_async_call(self, register: Register) -> None:
        """What is called as a coroutine function is one."""

        class Probing:
            async def __call__(self) -> str:
                await asyncio.sleep(0)
                return threading.current_thread().name

        register("compile", "shared", Probing())
        context = await isolation_context(IsolationSchema(False, {"shared": True}))
        assert (context["compile_context"] or {})["shared"].startswith("acache-portal")


class TestCancellation:
    """Waiters may go."""

    async def test_a_cancelled_waiter_leaves_the_probe_to_the_others(self, slow: SlowProbe) -> None:
        """One of two waiters is cancelled; the other has the key, of the same probe."""
        leaving, staying = (asyncio.create_task(isolation_key()) for _ in range(2))
        await slow.started.wait()
        await settle()
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        assert not staying.done()
        slow.gate.open()
        assert await staying == await isolation_key()
        assert slow.calls == 1

    async def test_with_all_waiters_gone_the_answer_is_kept(self, slow: SlowProbe) -> None:
        """A probe goes on alone: the next key has its answer."""
        with anyio.move_on_after(0) as scope:
            await isolation_key()
        assert scope.cancelled_caught
        await slow.started.wait()
        slow.gate.open()
        assert (await isolation_context(IsolationSchema(False, SLOW)))["compile_context"] == {"slow": 1}

    async def test_cancelled_at_every_point(self, register: Register) -> None:
        """Wherever a waiter is cancelled, the probe runs once and the key is right."""
        asked: list[int] = []
        register("compile", "slow", lambda: asked.append(1))
        keys: set[str] = set()
        async for step in cancel_sweep(isolation_key):
            assert step.was_cancelled or step.value is not None
            keys.add(await isolation_key())
        assert (len(asked), len(keys)) == (1, 1)

    def test_a_loop_may_end_first(self, slow: SlowProbe) -> None:
        """A probe outlives the loop that asked for it, and serves the next one."""

        async def ask_and_leave() -> None:
            task = asyncio.create_task(isolation_key())
            await slow.started.wait()
            await settle()
            assert not task.done()

        asyncio.run(ask_and_leave())
        slow.gate.open()
        assert asyncio.run(isolation_key()) == isolation_key_now(DEFAULT_SCHEMA, PLAIN)
        assert slow.calls == 1


class Failing:
    """A probe of either kind that fails so many times, and then answers."""

    def __init__(self, error: BaseException, times: int, *, is_async: bool) -> None:
        self.error, self.times, self.calls = error, times, 0
        self.gate = Gate("the failing probe")
        self.probe: Probe = self.look_async if is_async else self.look

    async def look_async(self) -> object:
        await self.gate.wait()
        return self.answer()

    def look(self) -> object:
        self.gate.wait_blocking()
        return self.answer()

    def answer(self) -> object:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "well"


class TestFailure:
    """Probes that fail."""

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_all_who_wait_are_told(self, register: Register, is_async: bool) -> None:
        """Each has an error of its own that names the form, from the cause; the next call asks again."""
        failing = Failing(OSError("a secret"), 2, is_async=is_async)
        register("compile", "compiler", failing.probe)
        tasks = [asyncio.create_task(isolation_key()) for _ in range(5)]
        await settle()
        failing.gate.open()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(set(map(id, errors))) == 5
        for error in errors:
            assert isinstance(error, ConfigurationError)
            assert str(error) == "compile form 'compiler': its probe raised OSError"
            assert error.__cause__ is failing.error
        assert failing.calls == 1
        with pytest.raises(ConfigurationError, match="'compiler'"):
            await asyncio.to_thread(isolation_key_now, DEFAULT_SCHEMA, PLAIN)
        assert await isolation_key() == await isolation_key()
        assert failing.calls == 3

    @pytest.mark.parametrize("is_async", [True, False])
    @pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1), StopIteration(), KeyboardInterrupt()])
    async def test_errors_that_are_not_exceptions(
        self, register: Register, error: BaseException, is_async: bool
    ) -> None:
        """What would end a task, a loop or a thread ends the probe only."""
        failing = Failing(error, 1, is_async=is_async)
        failing.gate.open()
        register("compile", "compiler", failing.probe)
        with pytest.raises(ConfigurationError, match="compile form 'compiler'") as caught:
            await isolation_key()
        assert caught.value.__cause__ is not None
        await isolation_key()
        assert failing.calls == 2

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ({"deep": [object()]}, "object"),
            ({1, 2}, "set"),
            (b"a secret", "bytes"),
            (float("inf"), "float"),
            ({1: 1, "1": 1}, "dict"),
            ({1: 2}, "dict"),
            ({"deep": [{None: 1}]}, "dict"),
        ],
    )
    async def test_what_json_cannot_hold(self, register: Register, value: object, kind: str) -> None:
        """It is an error that names the form and the type, and shows nothing; the next call asks again."""
        answers = iter((value, "well"))
        register("runtime", "mode", lambda: next(answers))
        with pytest.raises(ConfigurationError, match=rf"runtime form 'mode'.*type {kind}$") as caught:
            await isolation_key()
        assert "secret" not in str(caught.value)
        await isolation_key()

    async def test_other_forms_are_not_asked_again(self, register: Register) -> None:
        """A failure is of one form; what others have found is kept."""
        asked: list[int] = []
        failing = Failing(OSError(), 1, is_async=False)
        failing.gate.open()
        register("compile", "bad", failing.probe)
        register("compile", "good", lambda: asked.append(1))
        with pytest.raises(ConfigurationError, match="'bad'"):
            await isolation_key()
        while not asked:
            await asyncio.sleep(0)
        await isolation_key()
        assert asked == [1]

    async def test_no_thread_can_be_started(self, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine without threads to spare is a failure of the probe, told like any other."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        register("compile", "compiler", lambda: "well")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ConfigurationError, match=r"'compiler'.*RuntimeError"):
                await isolation_key()
        await isolation_key()


class TestRecursion:
    """Probes that need keys themselves."""

    @pytest.mark.parametrize("volatile", [True, False])
    async def test_a_probe_that_asks_for_its_own_answer(self, register: Register, volatile: bool) -> None:
        """It is an error that says what to do, and does not wait for ever."""

        async def look_async() -> object:
            return await isolation_key()

        def look() -> object:
            return isolation_key_now(DEFAULT_SCHEMA, PLAIN)

        for probe in (look_async, look):
            unregister = register("compile", "compiler", probe, volatile)
            with anyio.fail_after(30), pytest.raises(ConfigurationError, match="'compiler'") as caught:
                await asyncio.create_task(isolation_key())
            causes = " ".join(text_of_causes(caught.value))
            assert "an IsolationSchema without this form" in causes or "running an event loop" in causes
            unregister()

    async def test_probes_that_ask_for_each_others_answers(self, register: Register) -> None:
        """A circle of several is found too, whoever starts first."""

        def asks_for(name: str) -> Callable[[], Awaitable[object]]:
            async def look() -> object:
                return await isolation_key(IsolationSchema(False, {name: True}))

            return look

        for name, other in (("one", "two"), ("two", "three"), ("three", "one")):
            register("compile", name, asks_for(other))
        for schema in (DEFAULT_SCHEMA, IsolationSchema(False, {"two": True})):
            with anyio.fail_after(30), pytest.raises(ConfigurationError) as caught:
                await isolation_key(schema)
            assert "waits for its own answer" in " ".join(text_of_causes(caught.value))

    async def test_a_probe_may_ask_for_others(self, register: Register) -> None:
        """A key that does not contain its own form is no circle, even when two ask for the same."""
        register("compile", "base", lambda: "base")
        narrow = IsolationSchema(False, {"base": True, "python": True})

        async def look_async() -> object:
            return await isolation_key(narrow)

        register("compile", "one", look_async)
        register("compile", "two", lambda: isolation_key_now(narrow, PLAIN))
        register("runtime", "three", look_async, volatile=True)
        context = await isolation_context(IsolationSchema({"three": True}, {"one": True, "two": True}))
        key = await isolation_key(narrow)
        assert context == {"runtime_context": {"three": key}, "compile_context": {"one": key, "two": key}}


def text_of_causes(error: BaseException | None) -> list[str]:
    """Return what an error and its causes say."""
    return [] if error is None else [str(error), *text_of_causes(error.__cause__)]


class TestSyncCallers:
    """Keys without await."""

    async def test_in_a_loop_what_must_be_waited_for_is_an_error(self, slow: SlowProbe) -> None:
        """The error says what to do; once that has been done, the sync way works."""
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is None
        with pytest.raises(BridgeError, match=r"`await isolation_context\(\)`"):
            isolation_key_now(DEFAULT_SCHEMA, PLAIN)
        assert slow.calls == 0
        slow.gate.open()
        await isolation_context()
        assert isolation_key_now(DEFAULT_SCHEMA, PLAIN) == await isolation_key()

    def test_in_a_plain_thread_it_waits(self, slow: SlowProbe) -> None:
        """Without a loop, the first key waits for the probe, and the second does not."""
        slow.gate.open()
        schema = IsolationSchema(False, SLOW)
        assert isolation_key_now(schema, PLAIN) == isolation_key_now(schema, PLAIN)
        assert slow.calls == 1

    def test_an_async_volatile_form(self, register: Register) -> None:
        """A plain thread waits for it each time."""
        answers = iter("aab")

        async def look() -> str:
            return next(answers)

        register("runtime", "mode", look, volatile=True)
        one, two, three = (isolation_key_now(DEFAULT_SCHEMA, PLAIN) for _ in range(3))
        assert one == two != three

    async def test_without_waiting_an_async_volatile_form_is_not_asked(self, register: Register) -> None:
        """What cannot be awaited is not begun."""
        asked: list[int] = []

        async def look() -> None:
            asked.append(1)

        register("runtime", "mode", look, volatile=True)
        register("runtime", "other", lambda: asked.append(2), volatile=True)
        assert isolation_now(DEFAULT_SCHEMA, PLAIN) is None
        assert asked == []

    async def test_the_scope_crosses(self, slow: SlowProbe) -> None:
        """A key that went over the bridge has the factors of its scope."""
        slow.gate.open()
        with isolate(target="sm90"):
            scope = current_scope()
        key = await asyncio.to_thread(isolation_key_now, DEFAULT_SCHEMA, scope)
        with isolate(target="sm90"):
            assert await isolation_key() == key


class TestForgetting:
    """A probe that is under way while everything is forgotten."""

    async def test_an_old_answer_is_not_kept(self, slow: SlowProbe) -> None:
        """Who waits is told what that probe finds; the next key has the answer of a new one."""
        schema: Any = IsolationSchema(False, SLOW)
        old = asyncio.create_task(isolation_context(schema))
        stale = asyncio.create_task(isolation(schema))
        await slow.started.wait()
        await settle()
        reprobe()
        slow.gate.open()
        assert (await old)["compile_context"] == {"slow": 1}
        first = await stale
        assert (await isolation_context(schema))["compile_context"] == {"slow": 2}
        assert await isolation(schema) != first
        assert slow.calls == 2
