"""Work that nobody waits for: once at a time for each key, and never in the way of later work."""

from __future__ import annotations

import asyncio

import pytest

from acache.engine.background import Background
from acache.exceptions import BridgeError
from acache.testing import settle
from acache.types import Key

KEY = Key("0" * 64)


class Work:
    """What is done behind callers, until it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        await self.go.wait()


async def test_a_key_is_refreshed_once_at_a_time() -> None:
    """A second refresh of a key begins only when the first is over."""
    background, work = Background(), Work()
    for _ in range(3):
        background.refresh(KEY, work, "refresh")
    await settle()
    assert (work.begun, len(background), background.is_refreshing(KEY)) == (1, 1, True)
    work.go.set()
    await settle()
    assert (len(background), background.is_refreshing(KEY)) == (0, False)
    background.refresh(KEY, work, "refresh")
    await settle()
    assert work.begun == 2


async def test_a_refresh_that_is_cancelled_before_it_begins() -> None:
    """It is over, and the next one begins."""
    background, work = Background(), Work()
    background.refresh(KEY, work, "refresh")
    (task,) = background._tasks
    task.cancel()
    await settle()
    assert (work.begun, background.is_refreshing(KEY)) == (0, False)
    background.refresh(KEY, work, "refresh")
    await settle()
    assert work.begun == 1
    work.go.set()
    await settle()
    assert not background.is_refreshing(KEY)


def test_a_refresh_whose_loop_is_closed() -> None:
    """A loop that was closed with a refresh on it keeps no other loop from refreshing the key."""
    background, loop = Background(), asyncio.new_event_loop()

    async def begin() -> None:
        background.refresh(KEY, Work(), "refresh")

    loop.run_until_complete(begin())
    (task,) = background._tasks
    assert background.is_refreshing(KEY)
    loop.close()
    assert not background.is_refreshing(KEY)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was left on purpose


def test_a_refresh_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no loop can be had, the error says so, and the key is not held for a refresh that never was."""

    def refuse(_function: object) -> None:
        raise BridgeError("no loop")

    monkeypatch.setattr("acache.engine.background.run_soon", refuse)
    background = Background()
    with pytest.raises(BridgeError):
        background.refresh(KEY, lambda: asyncio.sleep(0), "refresh")
    assert not background.is_refreshing(KEY)


async def test_what_a_parent_was_doing_is_forgotten() -> None:
    """After forget_all(), as in a forked child, nothing is under way; what was does no harm when it ends."""
    background, old, new = Background(), Work(), Work()
    background.refresh(KEY, old, "old")
    await settle()
    background.forget_all()
    assert (len(background), background.is_refreshing(KEY)) == (0, False)
    background.refresh(KEY, new, "new")
    old.go.set()
    await settle()
    assert (new.begun, background.is_refreshing(KEY)) == (1, True)
    new.go.set()
    await settle()
