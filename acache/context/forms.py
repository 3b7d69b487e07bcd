"""The nouns of isolation: a form of the environment, the question it is asked, and the answer.

A *form* is one thing about the environment that a result may depend on. Its *probe* looks it up. Most forms are fixed for
the life of the process, and asked once; a *volatile* one is asked for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

from acache.exceptions import ConfigurationError

__all__ = ("Answer", "Form", "Kind", "Names", "Question")

#: Whether a form is about how code was built, or about how it runs.
Kind: TypeAlias = Literal["compile", "runtime"]
#: The names a user wants to hear about, of forms that are asked by name; sorted, each once.
Names: TypeAlias = tuple[str, ...]


@final
class Answer:
    """What one probe has found, as JSON in ``text``; while it is under way, ``finished`` tells when it has an end."""

    __slots__ = ("error", "finished", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.error: ConfigurationError | None = None
        self.finished: Future[None] = Future()
        # A running future cannot be cancelled: a waiter that is cancelled leaves the probe to the others.
        self.finished.set_running_or_notify_cancel()


@final
@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """One thing about the environment, and what is known of it.

    ``inline`` forms are acache's own, whose probes never block; ``takes_names`` forms hold what the user names, and nothing
    by default.
    """

    kind: Kind
    name: str
    probe: Callable[..., object]
    volatile: bool = False
    inline: bool = False
    takes_names: bool = False
    #: Whether calling the probe only makes a coroutine.
    is_async: bool = False
    answers: dict[Names, Answer] = field(default_factory=dict[Names, Answer], repr=False)

    @property
    def label(self) -> str:
        """The form's name in messages."""
        return f"{self.kind} form {self.name!r}"


@final
@dataclass(frozen=True, slots=True)
class Question:
    """A form as one schema selects it."""

    form: Form
    names: Names = ()

    @property
    def is_constant(self) -> bool:
        """Whether it holds nothing, because it holds what is named and nothing is."""
        return self.form.takes_names and not self.names

    @property
    def is_volatile(self) -> bool:
        """Whether the answer may be another one for the next key."""
        return self.form.volatile and not self.is_constant

    def ask(self) -> object:
        """Call the probe."""
        return self.form.probe(self.names) if self.form.takes_names else self.form.probe()
