"""Copies of exceptions without the run they come from."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

import pytest

from acache.engine.bare import bare


class OddError(Exception):
    """Takes other arguments than it passes on."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{code} in {where}")
        self.code = code


class SlotError(Exception):
    """Keeps its fields in slots, one of them unset."""

    __slots__ = ("code", "unset")

    def __init__(self, code: int | None) -> None:
        self.code = code


class HostError(OSError):
    """Fills in the fields of the interpreter itself."""

    def __init__(self, host: str) -> None:
        super().__init__(111, "refused")
        self.host = host


class NewError(Exception):
    """Cannot be made without a keyword."""

    def __new__(cls, *, code: int) -> Self:
        return super().__new__(cls)

    def __init__(self, *, code: int) -> None:
        self.code = code


class GroupError(ExceptionGroup[Exception]):
    """A group with a constructor of its own."""

    def __new__(cls, errors: list[Exception]) -> Self:
        return super().__new__(cls, "several", errors)

    def __init__(self, errors: list[Exception]) -> None:
        self.count = len(errors)


ERRORS: list[Exception] = [
    ValueError("plain"),
    KeyError("k"),
    OddError(7, where="here"),
    SlotError(3),
    SlotError(None),
    HostError("h"),
    NewError(code=1),
    OSError(2, "no such file", "a file"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    SyntaxError("bad", ("file", 1, 2, "text")),
    ImportError("bad", name="n", path="p"),
    json.JSONDecodeError("bad", "doc", 0),
    subprocess.CalledProcessError(1, ["cmd"]),
]


def _shown(error: BaseException) -> dict[str, Any]:
    """Return everything that can be read of an exception."""
    names = [name for name in dir(error) if not name.startswith("__") or name in {"__notes__", "__dict__"}]
    values = {name: getattr(error, name, "unset") for name in names}
    return {name: value for name, value in values.items() if not callable(value)} | {"text": str(error)}


def _raised(error: Exception) -> Exception:
    try:
        raise error from LookupError("cause")
    except type(error):
        error.add_note("a note")
        return error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copy_is_like_the_original(error: Exception) -> None:
    """Type, text, arguments, fields and notes are the same; frames, cause and context are gone, and the original has its own."""
    original = _raised(error)
    copy = bare(original)
    assert copy is not original
    assert type(copy) is type(original)
    assert _shown(copy) == _shown(original)
    assert (copy.__traceback__, copy.__cause__, copy.__context__) == (None, None, None)
    assert original.__traceback__ is not None
    assert _shown(bare(copy)) == _shown(original)


def test_a_group_is_bare_to_the_leaves() -> None:
    """The exceptions in a group are copied too, and have no frames either."""
    inner = _raised(ValueError("one"))
    original = _raised(GroupError([inner, GroupError([KeyError("two")])]))
    copy: Any = bare(original)
    assert type(copy).__name__ == "GroupError"
    assert (copy.message, str(copy)) == ("several", str(original))
    assert [type(each) for each in copy.exceptions] == [ValueError, GroupError]
    assert [each.__traceback__ for each in copy.exceptions] == [None, None]
    deep: Any = copy.exceptions[1]
    assert deep.exceptions[0].args == ("two",)
    assert (copy.count, deep.count) == (2, 1)


def test_what_cannot_be_copied_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no copy can be made, the object itself is given without its frames, which therefore do not add up."""
    error = _raised(ValueError("x"))

    def refuse(_error: BaseException) -> tuple[Any, ...]:
        raise TypeError

    monkeypatch.setattr("acache.engine.bare._arguments", refuse)
    assert bare(error) is error
    assert error.__traceback__ is None
