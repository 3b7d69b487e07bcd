"""Several processes on one bundle, and processes that die: D1, D15, D20, V7."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from acache.codecs import get_codec
from acache.engine.bundles.layout import Frame, frame_of, lay_out
from acache.types import Entry
from tests.bundles.children import NEW, OLD
from tests.bundles.helpers import dump, entries, key, load, values

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def run_together(*commands: tuple[object, ...]) -> list[Any]:
    """Start a child for each command, let them go at once when all are ready, and return what they found."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bundles.children", *map(str, command)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for command in commands
    ]
    try:
        assert [child.stdout and child.stdout.readline() for child in children] == ["ready\n"] * len(children)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        results = [(*child.communicate(timeout=90), child.returncode) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [(errors, code) for _, errors, code in results] == [("", 0)] * len(children)
    return [json.loads(output) for output, _, _ in results]


def test_killed_at_every_system_call(path: Path) -> None:
    """A process killed at any system call of a dump leaves the old bundle or the new one, and its rubbish goes (D1, P16)."""
    root = path.parent
    (endings,) = run_together(("kill_at_every_call", root))
    assert endings[-1] == 0
    assert set(endings[:-1]) == {-signal.SIGKILL}
    assert len(endings) > 20
    seen: list[bool] = []
    for number in range(len(endings)):
        bundle = root / f"n{number}" / "results"
        found = load(bundle)
        seen.append(found == values(OLD | NEW))
        assert seen[-1] or found == values(OLD)
        for left in bundle.parent.glob(".tmp-*"):
            os.utime(left, (0, 0))
        dump(bundle, entries("later"))
        assert load(bundle) == found | values(entries("later"))
        assert {each.name for each in bundle.parent.iterdir()} <= {"results", "results.lock"}
    # Old up to some call, new from there on.
    assert seen == sorted(seen)
    assert {False, True} == set(seen)


def test_processes_that_dump_at_once(path: Path) -> None:
    """Processes that dump into one bundle at the same time lose nothing, and none ever reads half of it (D15)."""
    processes, rounds = range(4), range(20)
    results = run_together(*(("dump_often", path, f"p{process}", len(rounds)) for process in processes))
    assert results == [0] * 4
    names = [f"p{process} {number}" for process in processes for number in rounds]
    assert load(path) == values(entries(*names, *(f"all {number}" for number in rounds)))
    assert sorted(each.name for each in path.parent.iterdir()) == ["results", "results.lock"]


@pytest.mark.parametrize(("count", "size"), [(1_000, 1 << 20), (200_000, 5_000)], ids=["large values", "many values"])
def test_opening_a_large_bundle(path: Path, count: int, size: int) -> None:
    """A bundle of 1 GB, of large values or of many, opens in a tenth of a second and takes next to no memory."""
    _lay_out_sparsely(path, count, size)
    assert path.stat().st_size > 1_000_000_000
    _lay_out_sparsely(Path(f"{path}.small"), 2, size)
    (cost,) = run_together(("open_large", path, 0))
    assert cost["seconds"] < 0.1
    assert cost["grown"] < 10 << 20  # a fifth of what the issue allows, and a hundredth of the bundle


def _lay_out_sparsely(path: Path, count: int, size: int) -> None:
    """Write a bundle as a dump does, but for all frames after the first two: they are holes, which cost no time and no disk."""
    hole, codec = bytes(size), get_codec("raw")
    frames = [frame_of(key(number), Entry(hole, 1.0), bytes(32), codec) for number in range(2)]
    frames += [Frame(bytes.fromhex(key(number)), bytes(32), bytes(32), size, (hole,)) for number in range(2, count)]
    with path.open("wb") as file:
        for piece in lay_out(sorted(frames, key=attrgetter("key")), None):
            if piece is hole:
                file.seek(size, os.SEEK_CUR)
            else:
                file.write(piece)
    path.chmod(0o600)
