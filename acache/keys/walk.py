"""The walk over one object: how deep it is, how much it may still spend, and where it is when it has to refuse.

An encoder is a function of an object and the walk that returns the object's encoding. Encodings are prefix-free (a tag, then
a length or a terminator), so any sequence of them can be joined without two different sequences giving the same bytes.
Payloads beyond :data:`~acache.keys.limits.INLINE_SIZE` stand as length and SHA-256: a large argument is hashed where it
lies and never copied, and the encoding is injective as far as SHA-256 is, which is as far as keys are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any, ClassVar, Final, TypeAlias

from acache.exceptions import KeyEncodingError, KeyPicklingError
from acache.keys.limits import INLINE_SIZE, ITEM_SIZE, MAX_DEPTH, MAX_SIZE

__all__ = ("Encoder", "Refusal", "Walk", "payload", "text")

#: Steps of a path that an error shows; a cycle has as many as the depth allows.
_STEPS_SHOWN: Final = 6


class Refusal(Exception):  # noqa: N818 - never leaves the package: it becomes a KeyEncodingError
    """Why an object cannot be encoded; each container it passes through adds its step of the path."""

    def __init__(
        self, subject: object, reason: str, *, cause: BaseException | None = None, pickling: bool = False
    ) -> None:
        super().__init__(reason)
        # The object itself is not kept: an error that is stored or sent must not carry an argument.
        self.subject = subject if isinstance(subject, type) else type(subject)
        self.reason = reason
        self.cause = cause
        self.pickling = pickling
        self.steps: list[str] = []

    @property
    def where(self) -> str:
        """The path from the outermost object, as positions, declared names and types."""
        steps = self.steps[::-1]
        return ", ".join(steps if len(steps) <= _STEPS_SHOWN else [*steps[:_STEPS_SHOWN], "..."])

    @property
    def summary(self) -> str:
        """Place, type and reason, for an error that names the function too."""
        return f"{self.where}, of type {self.subject.__module__}.{self.subject.__qualname__}: {self.reason}"

    def error(self) -> KeyEncodingError:
        """Make the public error, with its cause."""
        cls = KeyPicklingError if self.pickling else KeyEncodingError
        error = cls(self.subject, self.reason, self.where)
        error.__cause__ = self.cause
        return error


class Walk:
    """The state of one encoding. Subclasses say with which table of encoders.

    The defaults are class attributes because a walk starts with every key: an ``__init__`` costs half as much again.
    """

    table: ClassVar[Mapping[type, Encoder]]
    typed: ClassVar[bool] = True
    depth: int = 0
    left: int = MAX_SIZE

    def encode(self, value: object) -> bytes:
        """Encode ``value`` at the present depth."""
        return self.table[type(value)](value, self)

    def parts(self, values: Collection[object], place: str | tuple[str, ...]) -> list[bytes]:
        """Encode each of ``values``, one level deeper.

        ``place`` says where a refused value stands: one text for each, or one with ``{}`` for the position.
        """
        depth = self.depth = self.depth + 1
        left = self.left = self.left - ITEM_SIZE * len(values)
        if depth > MAX_DEPTH:
            raise Refusal(values, f"it is nested deeper than {MAX_DEPTH} levels, or contains itself")
        if left < 0:
            raise Refusal(values, f"the arguments are larger than {MAX_SIZE} bytes")
        table = self.table
        parts: list[bytes] = []
        try:
            for value in values:
                parts.append(table[type(value)](value, self))  # noqa: PERF401 - parts tells where a refusal was
        except Refusal as refusal:
            position = len(parts)
            refusal.steps.append(place[position] if isinstance(place, tuple) else place.replace("{}", str(position)))
            raise
        self.depth = depth - 1
        return parts

    def record(self, kind: str, values: Collection[object]) -> bytes:
        """Encode an object of a known ``kind`` by its parts."""
        data = b"".join(self.parts(values, f"part {{}} of {kind}"))
        return b"!%b;%x:%b" % (kind.encode(), len(values), data)

    def spend(self, owner: object, size: int) -> None:
        """Count ``size`` bytes more; refuse when they are too many."""
        self.left -= size
        if self.left < 0:
            raise Refusal(owner, f"the arguments are larger than {MAX_SIZE} bytes")

    def payload(self, tag: bytes, data: bytes | bytearray | memoryview, owner: object) -> bytes:
        """Encode bytes of any length; a memoryview must be one-dimensional, of single bytes."""
        self.spend(owner, len(data))
        return payload(tag, data)


Encoder: TypeAlias = Callable[[Any, Walk], bytes]


def payload(tag: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """Encode ``data`` in full or, when it is long, by length and digest."""
    if len(data) > INLINE_SIZE:
        return b"%b%x#%b" % (tag, len(data), sha256(data).digest())
    return b"%b%x:%b" % (tag, len(data), bytes(data))


def text(value: str) -> bytes:
    """Encode a text that is part of an encoding: a name, a label. Lone surrogates are welcome."""
    return payload(b"s", value.encode("utf-8", "surrogatepass"))
