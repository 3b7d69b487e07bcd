"""Listeners: told of every change, kept alive by nobody, and unable to break what they listen to."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from acache.listeners import Listeners


class Listener:
    """An object that listens with a method."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self) -> None:
        """Count one change."""
        self.heard += 1


def test_all_hear_in_the_order_they_came_until_they_leave() -> None:
    """Each listener hears of every change, in the order they came; who left, even twice, hears nothing."""
    listeners = Listeners("things")
    heard: list[int] = []
    leave = [listeners.add(lambda n=n: heard.append(n)) for n in range(3)]  # type: ignore[misc]
    listeners.tell()
    leave[1]()
    leave[1]()
    listeners.tell()
    assert heard == [0, 1, 2, 0, 2]


@pytest.mark.parametrize("way", ["told", "joined"])
def test_an_object_that_listens_may_go(way: str) -> None:
    """A bound method does not keep its object alive; what is left of it goes when others are told, or come."""
    listeners = Listeners("things")
    listener = Listener()
    listeners.add(listener.hear)
    listeners.tell()
    assert listener.heard == 1
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None
    other = Listener()
    if way == "joined":
        listeners.add(other.hear)
    listeners.tell()
    assert len(listeners) == other.heard == (way == "joined")


def test_a_listener_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The others hear all the same; the log tells the subject and the type of the error, and not its text."""
    listeners, listener = Listeners("things"), Listener()

    def fail() -> None:
        raise ValueError("secret")

    listeners.add(fail)
    listeners.add(listener.hear)
    with caplog.at_level(logging.WARNING, logger="acache"):
        listeners.tell()
    assert listener.heard == 1
    assert [record.getMessage() for record in caplog.records] == ["a listener for things failed with ValueError"]


def test_one_at_a_time() -> None:
    """Who hears of a change is through with it before another thread's change is told."""
    listeners = Listeners("things")
    inside, most = 0, 0
    together = threading.Barrier(4)

    def hear() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(100):
            time.sleep(0)  # the others may go on
        inside -= 1

    def tell() -> None:
        together.wait(10)
        listeners.tell()

    listeners.add(hear)
    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(tell) for _ in range(4)]
    assert [each.result() for each in told] == [None] * 4
    assert most == 1


def test_who_listens_may_change_who_listens() -> None:
    """A listener may leave and let others in while it is called: those hear of the next change."""
    listeners, listener = Listeners("things"), Listener()

    def once() -> None:
        leave()
        listeners.add(listener.hear)

    leave = listeners.add(once)
    listeners.tell()
    assert (listener.heard, len(listeners)) == (0, 1)
    listeners.tell()
    assert listener.heard == 1
