"""Asking forms: each probe once, for all tasks, loops and threads of the process.

A user's probe may take its time, so it runs in a thread of its own, from which an async one goes to acache's event loop:
neither blocks the caller's loop, and neither ends with it. A volatile one is asked in the caller's own task or thread.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Final, cast, final

from acache.bridge import run_sync
from acache.context.accelerator import ACCELERATOR_FORMS, TORCH
from acache.context.canonical import as_json
from acache.context.forms import Answer, Question
from acache.context.registry import REGISTRY, Era
from acache.exceptions import ConfigurationError
from acache.mutexes import make_mutex

__all__ = ("answer", "answer_now", "notice_torch", "reprobe", "start")

#: The probes that the running code is part of, outermost first.
_within: ContextVar[tuple[Question, ...]] = ContextVar("acache_probes", default=())


@final
class _Flights:
    """What changes together when probes start, end and are forgotten; under one lock."""

    __slots__ = ("lock", "waits")

    def __init__(self) -> None:
        self.lock = make_mutex()
        #: For each probe under way, the probes that it waits for.
        self.waits: dict[Question, set[Question]] = {}

    def leads(self, question: Question, asker: Question) -> bool:
        """Tell whether an answer to ``question`` waits, directly or over others, for ``asker``."""
        return question == asker or any(self.leads(each, asker) for each in self.waits.get(question, ()))

    def forget_unfinished(self) -> None:
        """In a child of ``os.fork()``: results stay, but the threads of the others do not exist."""
        self.waits.clear()
        for form in (*REGISTRY.era.runtime.values(), *REGISTRY.era.compile.values()):
            for names, found in tuple(form.answers.items()):
                if found.text is None:
                    del form.answers[names]


_flights: Final = _Flights()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_flights.forget_unfinished)


# --- without waiting --------------------------------------------------------------------------------------------------


def answer_now(question: Question, era: Era) -> str | None:
    """Return the answer as JSON, or ``None`` if it has to be waited for.

    Raises :class:`~acache.exceptions.ConfigurationError`, naming the form, for a probe that fails.
    """
    form = question.form
    if question.is_constant:
        return "{}"
    if not form.volatile:
        found = form.answers.get(question.names)
        known = None if found is None else found.text
        return _asked_inline(question, era) if known is None and form.inline else known
    if form.inline:
        return as_json(question.ask(), form.label)
    if form.is_async:
        return None
    with _asking(question):
        value = question.ask()
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # it is asked again where it can be awaited
        return None
    return as_json(value, form.label)


def _asked_inline(question: Question, era: Era) -> str:
    with _asking(question):
        value = question.ask()
    found = Answer()
    found.text = as_json(value, question.form.label)
    with _flights.lock:
        if REGISTRY.era is era:  # else it may have been forgotten after it was asked
            question.form.answers[question.names] = found
    return found.text


# --- with waiting -----------------------------------------------------------------------------------------------------


def start(question: Question) -> Answer | None:
    """Return the answer that all share, and begin to look it up if nobody has; ``None`` if the form has none to share."""
    is_shared = not (question.form.volatile or question.form.inline or question.is_constant)
    return _shared(question) if is_shared else None


async def answer(question: Question, shared: Answer | None, era: Era) -> str:
    """Return the answer as JSON when it is there; ``shared`` is what :func:`start` returned.

    A caller that is cancelled leaves a shared probe to the others. Raises as :func:`answer_now`.
    """
    if shared is not None:
        return await _answered(shared)
    known = answer_now(question, era)
    if known is not None:
        return known
    with _asking(question):
        value = question.ask()
        if inspect.isawaitable(value):
            value = await value
    return as_json(value, question.form.label)


async def _answered(shared: Answer) -> str:
    if shared.text is None:
        await asyncio.wrap_future(shared.finished)
    if shared.error is not None:
        # Each caller has an error of its own: tracebacks of one would run into each other.
        raise ConfigurationError(shared.error.subject, shared.error.detail) from shared.error.__cause__
    return cast("str", shared.text)


@contextmanager
def _asking(question: Question) -> Generator[None]:
    """Run a probe inside: its errors name the form, and it may not ask for its own answer."""
    within = _within.get()
    if question in within:
        raise _recursion(question)
    token = _within.set((*within, question))
    try:
        yield
    except Exception as error:
        raise ConfigurationError(question.form.label, f"its probe raised {type(error).__name__}") from error
    finally:
        _within.reset(token)


def _recursion(question: Question) -> ConfigurationError:
    detail = "its probe waits for its own answer: what it calls needs an IsolationSchema without this form"
    return ConfigurationError(question.form.label, detail)


def _shared(question: Question) -> Answer:
    """Return the answer that all wait for; begin to look it up if nobody has, or the last one failed."""
    with _flights.lock:
        found = question.form.answers.get(question.names)
        if found is not None and found.text is not None:
            return found
        for asker in _within.get():
            if _flights.leads(question, asker):
                raise _recursion(question)
            if not asker.form.volatile:
                _flights.waits.setdefault(asker, set()).add(question)
        if found is not None and found.error is None:
            return found
        found = question.form.answers[question.names] = Answer()
    try:
        # In a context of its own: what all share may not depend on who happens to ask first.
        look_up = partial(Context().run, _look_up, question, found)
        threading.Thread(target=look_up, name="acache-probe", daemon=True).start()
    except RuntimeError as error:
        _finish(question, found, error)
    return found


def _look_up(question: Question, found: Answer) -> None:
    try:
        with _asking(question):
            value = _value(question)
        found.text = as_json(value, question.form.label)
    except BaseException as error:  # noqa: BLE001 - told to all who wait
        _finish(question, found, error)
    else:
        _finish(question, found, None)


def _value(question: Question) -> object:
    if question.form.is_async:
        return run_sync(cast("Callable[[], Awaitable[object]]", question.ask))
    value = question.ask()
    return run_sync(_wait_for, value) if inspect.isawaitable(value) else value


async def _wait_for(value: Awaitable[Any]) -> object:
    return await value


def _finish(question: Question, found: Answer, error: BaseException | None) -> None:
    if error is not None and not isinstance(error, ConfigurationError):
        failed = ConfigurationError(question.form.label, f"its probe ended with {type(error).__name__}")
        failed.__cause__ = error
        error = failed
    with _flights.lock:
        found.error = error
        _flights.waits.pop(question, None)
    found.finished.set_result(None)


# --- once more --------------------------------------------------------------------------------------------------------


def reprobe(*names: str) -> None:
    """Forget what the forms of these ``names``, or all, were found to be: the next key asks anew.

    For a long-running service whose compiler was upgraded under it. Who waits for a probe at this moment is still told what
    that one finds. Raises :class:`~acache.exceptions.ConfigurationError` for a name that no form has.
    """
    era = REGISTRY.era
    forms = (*era.runtime.values(), *era.compile.values())
    known = {form.name for form in forms}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ConfigurationError("reprobe", f"unknown form {unknown[0]!r}; known forms: {', '.join(sorted(known))}")
    with _flights.lock:
        for form in forms:
            if not names or form.name in names:
                form.answers.clear()
        REGISTRY.begin_era()
    TORCH.stage = TORCH.look()
    REGISTRY.listeners.tell()


def notice_torch() -> None:
    """Ask the forms that are about torch anew once there is more of it to see."""
    if TORCH.has_moved():
        reprobe(*ACCELERATOR_FORMS)
