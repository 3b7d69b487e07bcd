"""A result whose stored form comes later: a tuning job still runs, an upload is under way.

A result encoder that cannot say yet what is to be stored returns a :class:`DeferredRecording`. The caller has its result
at once; the flight of the key stays open, so that nobody computes it anew, until the recording is finalized, fails,
or is dropped.

It may be finalized from any thread, and dropped by the garbage collector in the middle of anything. So its outcome is
settled without a lock: one atomic operation of a dictionary decides who was first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, final

from acache.exceptions import UserError
from acache.types import MISSING

__all__ = ("Deferral", "DeferredDropped", "DeferredRecording")


class DeferredDropped(Exception):  # noqa: N818 - a signal to the engine, which knows the function's name
    """Raised when a recording was dropped by whoever was to finalize it."""


@final
class DeferredRecording:
    """Return one from a ``custom_result_encoder=``, keep it, and finalize it when the result's stored form is known.

    ``interim`` is what calls in between are served, in stored form: they get what the decoder makes of it. Without
    one they wait. In a deterministic cache everybody waits, since all have to agree on the final form. Dropping the recording without :meth:`finalize` or :meth:`fail` is an error to those who wait, and
    frees the key.
    """

    __slots__ = ("__weakref__", "_deferral")

    def __init__(self, interim: Any = MISSING) -> None:
        self._deferral: Final = Deferral(interim)

    def finalize(self, encoded: Any) -> None:
        """Store ``encoded``, as the encoder would have returned it. From any thread; does not wait.

        Raises :class:`~acache.exceptions.UserError` if the recording has been finalized or has failed.
        """
        self._settle(encoded, None)

    def fail(self, error: Exception) -> None:
        """Store nothing; who waits for the result gets ``error``. Else as :meth:`finalize`.

        Raises :class:`~acache.exceptions.UserError` also for what is no :class:`Exception`; the recording is open then as before.
        """
        if not _is_exception(error):
            raise UserError(f"fail() takes an exception for those who wait, not {type(error).__name__}")
        self._settle(None, error)

    def _settle(self, value: Any, error: Exception | None) -> None:
        if not self._deferral.settle(value, error):
            raise UserError("a deferred recording is finalized, or fails, once; this one has been already")

    def __del__(self) -> None:
        self._deferral.settle(None, DeferredDropped())


@final
class Deferral:
    """What the engine holds of a recording: not the recording, or it would never be dropped."""

    __slots__ = ("_outcome", "_wakers", "interim")

    def __init__(self, interim: Any) -> None:
        self.interim: Final = interim
        self._outcome: dict[str, tuple[Any, Exception | None]] = {}
        self._wakers: list[Callable[[], object]] = []

    @staticmethod
    def of(recording: DeferredRecording) -> Deferral:
        """Return what may be kept while ``recording`` is dropped."""
        return recording._deferral  # noqa: SLF001 - two halves of one thing

    def settle(self, value: Any, error: Exception | None) -> bool:
        """Decide the outcome unless that has been done; tell whether this did. Never blocks."""
        outcome = (value, error)
        if self._outcome.setdefault("", outcome) is not outcome:
            return False
        self._wake()
        return True

    async def wait(self) -> Any:
        """Return what was finalized, or raise what it failed with. Cancelled, it leaves the recording as it is."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self._wakers.append(partial(loop.call_soon_threadsafe, event.set))
        if self._outcome:  # settled before, or between: somebody looked at the list too early
            self._wake()
        await event.wait()
        value, error = self._outcome[""]
        if error is not None:
            raise error
        return value

    def _wake(self) -> None:
        while self._wakers:
            with suppress(IndexError, RuntimeError):  # another thread took the last; a loop was closed
                self._wakers.pop()()


def _is_exception(given: object) -> bool:
    return isinstance(given, Exception)
