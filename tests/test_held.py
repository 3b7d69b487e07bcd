"""What every test is asked for at its end: that it holds nothing any more."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from acache.flight import Flight, FlightTable
from acache.locks import KeyedLock, Lock
from acache.types import Key
from tests.conftest import held_now, left_held


@contextmanager
def a_flight() -> Generator[object]:
    """Leave a flight in its table."""
    table: FlightTable = FlightTable()
    loop = asyncio.new_event_loop()
    key = Key("a" * 64)
    table._flights[key] = flight = Flight[Any](key, "f", loop)
    yield table
    table.ground(flight)
    loop.close()


@contextmanager
def a_key() -> Generator[object]:
    """Leave a key in a table of locks."""
    table: KeyedLock[str] = KeyedLock()
    holding = asyncio.run(table.acquire("key"))
    yield table
    table.release("key", holding)


@contextmanager
def a_lock() -> Generator[object]:
    """Leave a lock."""
    lock = Lock()
    assert lock.acquire_nowait()
    yield lock
    lock.release()


@pytest.mark.parametrize("left", [a_flight, a_key, a_lock])
def test_what_is_held_is_found(left: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: a flight under way, a key of a table and a lock are found as long as they are held."""
    monkeypatch.setattr("tests.conftest.GRACE", 0.0)
    before = held_now()
    with left():
        assert left_held(before) != []
    assert left_held(before) == []


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells which files are locked")
def test_a_held_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: a lock on a file is found as long as it is held."""
    monkeypatch.setattr("tests.conftest.GRACE", 0.0)
    before = held_now()
    with ExitStack() as stack:
        file = stack.enter_context((tmp_path / "lock").open("w"))
        fcntl.flock(file, fcntl.LOCK_EX)
        (found,) = left_held(before)
        assert f":{(tmp_path / 'lock').stat().st_ino}" in found
    assert left_held(before) == []
