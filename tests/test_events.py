"""Events and their sinks."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from acache.events import CallEvent, Event, Events, TierEvent
from acache.types import Key

if TYPE_CHECKING:
    from collections.abc import Generator

KEY = Key("ab" * 32)
HIT = TierEvent("memory", "read", "hit", KEY)
MISS = TierEvent("memory", "read", "miss", KEY)


def test_events_are_frozen() -> None:
    """An event can be kept, compared and shared: nobody changes it."""
    event = CallEvent("m.f", KEY, "hit", tier="memory", age=1.0)
    assert event == CallEvent("m.f", KEY, "hit", tier="memory", age=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.outcome = "failed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] - the rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        HIT.reason = "none"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] - the rule


def test_nobody_listens() -> None:
    """Without a sink nothing is active, and emitting is harmless."""
    events = Events()
    assert not events.active
    events.emit(HIT)


def test_subscribe_and_unsubscribe() -> None:
    """A sink hears what is emitted between its subscription and its end; ending twice is fine."""
    events, heard = Events(), list[Event]()
    unsubscribe = events.subscribe(heard.append)
    assert events.active
    events.emit(HIT)
    unsubscribe()
    unsubscribe()
    events.emit(MISS)
    assert heard == [HIT]
    assert not events.active


def test_every_sink_hears() -> None:
    """Each sink hears each event, in the order of subscription."""
    events, heard = Events(), list[str]()
    events.subscribe(lambda _: heard.append("first"))
    events.subscribe(lambda _: heard.append("second"))
    events.emit(HIT)
    assert heard == ["first", "second"]


def test_a_failing_sink_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """A sink that raises stops neither the caller nor the next sink; the log has its type and not its text."""
    events, heard = Events(), list[Event]()

    def fail(event: Event) -> None:
        raise LookupError("s3cret")

    events.subscribe(fail)
    events.subscribe(heard.append)
    with caplog.at_level(logging.DEBUG, logger="acache"):
        events.emit(HIT)
    assert heard == [HIT]
    assert "LookupError" in caplog.text
    assert "s3cret" not in caplog.text


def test_an_interrupt_is_not_a_failing_sink() -> None:
    """KeyboardInterrupt and its kin pass through."""
    events = Events()

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    events.subscribe(interrupt)
    with pytest.raises(KeyboardInterrupt):
        events.emit(HIT)


def test_a_sink_may_leave_while_it_is_called() -> None:
    """A sink that unsubscribes itself, or subscribes another, disturbs nobody in that round."""
    events, heard = Events(), list[str]()

    def once(event: Event) -> None:
        heard.append("once")
        leave()
        events.subscribe(lambda _: heard.append("new"))

    leave = events.subscribe(once)
    events.subscribe(lambda _: heard.append("always"))
    events.emit(HIT)
    events.emit(HIT)
    assert heard == ["once", "always", "always", "new"]


def test_parents_hear_their_children() -> None:
    """A parent hears each event of a child once, however often it was added; a child hears nothing of its parent."""
    tier, cache = Events(), Events()
    tier.add_parent(cache)
    tier.add_parent(cache)
    tier.add_parent(tier)
    with cache.capture() as above, tier.capture() as below:
        tier.emit(HIT)
        cache.emit(MISS)
    assert above == [HIT, MISS]
    assert below == [HIT]


def test_a_listening_parent_makes_a_child_active() -> None:
    """A child with no sink of its own builds events when somebody above listens."""
    tier, chain, cache = Events(), Events(), Events()
    tier.add_parent(chain)
    chain.add_parent(cache)
    with cache.capture():
        assert tier.active
    assert not tier.active


def test_captures_nest() -> None:
    """Two captures at once are two lists; the end of one leaves the other listening, also after an error."""
    events = Events()
    with events.capture() as outer:
        with pytest.raises(LookupError), events.capture() as inner:
            events.emit(HIT)
            raise LookupError
        events.emit(MISS)
    assert (inner, outer) == ([HIT], [HIT, MISS])
    assert not events.active


def test_changes_are_told() -> None:
    """Whoever owns the place is told when somebody comes or goes, so that hot paths can look at one flag."""
    states: list[bool] = []
    events = Events(lambda: states.append(events.active))
    with events.capture():
        assert states == [True]
    assert states == [True, False]


@pytest.fixture
def eager_threads() -> Generator[None]:
    """Switch threads as often as the interpreter can: a race shows at once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_come_and_go(eager_threads: None) -> None:
    """Sinks that subscribe and leave from several threads at once are neither lost nor left."""
    events, heard = Events(), list[Event]()
    start = threading.Barrier(4)

    def visit() -> None:
        start.wait()
        for _ in range(2_000):
            events.subscribe(lambda _: None)()
        events.subscribe(heard.append)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.emit(HIT)
    assert heard == [HIT] * 4
    assert len(events._sinks) == 4
