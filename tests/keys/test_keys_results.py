"""Whether two results are the same: by what they consist of, however they came to be, and not by what they say they are."""

from __future__ import annotations

import copyreg
import enum
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import pytest

from acache.exceptions import KeyEncodingError
from acache.keys import canonical, canonical_result

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


class Config:
    """What two workers agreed on, and one of them unpickled: its texts are interned in one of them only."""

    def __init__(self, name: str = "opt") -> None:
        self.opt = name
        self.flags = {f"flag{number}" for number in range(8)}
        self.table = {"opt": [1, 2.0, None], "b": (True, b"x")}


class Lossy:
    """Says less of itself than it is."""

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b

    def __cache_key__(self) -> int:
        return self.a


class Node:
    """Refers to its parent, and to its children."""

    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name, self.parent = name, parent
        self.children: list[Node] = []

    def add(self, name: str) -> Self:
        self.children.append(Node(name, self))
        return self


@dataclass
class Owner:
    """A dataclass that may own itself, with a field that makes no difference."""

    name: str
    owned: list[Owner] = field(default_factory=list["Owner"])
    seconds: float = field(default=0.0, compare=False)


class Lazy:
    """Remembers what it has computed."""

    def __init__(self, n: int) -> None:
        self.n = n

    @cached_property
    def square(self) -> int:
        return self.n**2


class Slotted:
    """Has no dictionary."""

    __slots__ = ("left", "right")

    def __init__(self, left: object, right: object) -> None:
        self.left, self.right = left, right


class LazySlotted:
    """Has slots, and a dictionary for what it has computed."""

    __slots__ = ("__dict__", "n")

    def __init__(self, n: int) -> None:
        self.n = n

    @cached_property
    def square(self) -> int:
        return self.n**2


class Box(Generic[T]):
    """Remembers the type it was made for, if it was."""

    def __init__(self, item: T) -> None:
        self.item = item


class Text(str):  # noqa: SLOT000 - as below says
    """A text that may have attributes."""


class Tags(set[str]):
    """A set with a name of its own."""


class Table(dict[str, int]):
    """A dict with a name of its own."""


class Ordered(OrderedDict[str, int]):
    """A dict in which the order counts."""


class Pair(NamedTuple):
    """A tuple with names."""

    first: object
    second: object


class Foreign:
    """Another library's class, which is pickled as that library registered."""

    def __init__(self, n: int) -> None:
        self.n, self.address = n, id(self)


class Singleton:
    """Is pickled as the name under which its module has it."""

    def __reduce__(self) -> str:
        return "SINGLETON"


SINGLETON = Singleton()

copyreg.pickle(Foreign, lambda foreign: (Foreign, (foreign.n,)))


def named(text: str) -> Text:
    result = Text(text)
    result.__dict__["language"] = "en"
    return result


def tree() -> Node:
    return Node("root").add("left").add("right")


def own() -> Owner:
    owner = Owner("self")
    owner.owned.append(owner)
    return owner


VALUES: tuple[Any, ...] = (
    *(
        Config(),
        [Config(), {"c": Config("x")}],
        Lossy(1, 2),
        tree(),
        own(),
        Lazy(3),
        Slotted("a", [Config()]),
        Slotted(1, 2),
    ),
    *(Text("t"), named("t"), Tags(map(str, range(9))), Table(a=1, b=2), Ordered(a=1, b=2), Pair(Config(), 1)),
    *(Foreign(1), Counter("aab"), range, len, "".join, Path("a"), ValueError("x"), {Slotted}, SINGLETON),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_round_trip_changes_nothing(value: object) -> None:
    """What was pickled and read again, any number of times and by any protocol, is the same result."""
    first = canonical_result(value)
    for protocol in (2, 4, 5):
        copied = pickle.loads(pickle.dumps(value, protocol))
        assert canonical_result(copied) == first
        assert canonical_result(pickle.loads(pickle.dumps(copied, protocol))) == first


def test_every_process_says_the_same() -> None:
    """The hash seed of a process does not show in what a result is."""
    code = (
        "from tests.keys.test_keys_results import VALUES\nfrom acache.keys import canonical_result\n"
        "from hashlib import sha256\nprint(sha256(b''.join(map(canonical_result, VALUES))).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_different_results_differ() -> None:
    """No two of these are one result: other attributes, other classes, another order, other references back."""
    left, right = Node("x"), Node("x")
    left.parent, right.parent = left, Node("x", right)
    pairs: tuple[Any, ...] = (
        *(
            Lossy(1, 1),
            Config("y"),
            Slotted("a", None),
            Table(a=1),
            Ordered(b=2, a=1),
            Pair(1, 2),
            Text("u"),
            Tags("ab"),
        ),
        *((1, 2), ["a"], {"a": 1}, "u", {"a", "b"}, Owner("other"), left, right, Node("x"), Node("x", left)),
    )
    encoded = [canonical_result(value) for value in (*VALUES, *pairs)]
    assert len(set(encoded)) == len(encoded)


def test_a_cache_key_does_not_count() -> None:
    """Two objects of one ``__cache_key__()`` are one key and two results, at any depth."""
    assert canonical(Lossy(1, 1)) == canonical(Lossy(1, 2))
    assert canonical_result(Lossy(1, 1)) != canonical_result(Lossy(1, 2))
    assert canonical_result([{"x": Lossy(1, 1)}]) != canonical_result([{"x": Lossy(1, 2)}])


def test_known_types_are_what_they_are_in_keys() -> None:
    """What consists of known types has its canonical encoding; fields that are not compared make no difference."""
    for value in (1, "a", [1, {"x": (2.5, None)}], {1, 2}, Path("a"), Owner("o"), Counter("ab")):
        assert canonical_result(value) == canonical(value)
    assert canonical_result(Owner("o", seconds=1.0)) == canonical_result(Owner("o", seconds=2.0))


def test_what_is_shared_does_not_show() -> None:
    """One object twice and two equal ones are the same result, and many references cost one encoding."""
    one = Config()
    assert canonical_result([one, one]) == canonical_result([Config(), Config()])
    doubled: Any = Slotted(1, 2)
    for _ in range(60):
        doubled = Slotted(doubled, doubled)
    assert canonical_result(doubled) == canonical_result(pickle.loads(pickle.dumps(doubled)))


def test_what_was_remembered_or_set_in_another_order_does_not_show() -> None:
    """A cached property that was read, and the order of attributes, make no other result."""
    read, other = Lazy(3), Config()
    assert read.square == 9
    assert canonical_result(read) == canonical_result(Lazy(3))
    other.__dict__.update({"opt": other.__dict__.pop("opt")})
    assert canonical_result(other) == canonical_result(Config())


class Rubbish:
    """Is reduced to what no pickle could be made of."""

    def __init__(self, given: object) -> None:
        self.given = given

    def __reduce_ex__(self, protocol: object) -> Any:
        return self.given


def test_what_cannot_be_taken_apart() -> None:
    """What has no parts that could be told is refused: functions without a name, cycles of containers, and tangles."""
    loop: list[object] = []
    loop.append(loop)
    tangle = [Slotted(None, None) for _ in range(14)]
    for node in tangle:
        node.left = tangle
    for value in (lambda: None, loop, iter([lambda: None]), *map(Rubbish, (1, (int,) * 7, (int, (), None, 5))), tangle):
        with pytest.raises(KeyEncodingError):
            canonical_result(value)


def test_what_can_be_made_again_is_no_part_of_a_result() -> None:
    """What a cached property left beside slots, and the parameter of a type, do not tell results apart; their state does."""
    used = LazySlotted(2)
    assert used.square == 4
    assert canonical_result(used) == canonical_result(LazySlotted(2)) != canonical_result(LazySlotted(3))
    assert canonical_result(Box[int](1)) == canonical_result(Box(1)) != canonical_result(Box(2))


def test_a_result_may_be_of_a_local_class() -> None:
    """Whether two results are the same is no matter of keys: an enum or a dataclass that no module holds is one by its name."""

    class Mode(enum.Enum):
        FAST = 1
        SLOW = 2

    @dataclass
    class Local:
        mode: Mode

    assert canonical_result(Local(Mode.FAST)) == canonical_result(Local(Mode.FAST))
    assert canonical_result(Local(Mode.FAST)) != canonical_result(Local(Mode.SLOW))
