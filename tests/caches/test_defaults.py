"""The default cache: memory and disk where the settings say, made when it is first asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.remarks import without_remarks

CODE = """
import asyncio, sys
from pathlib import Path
import acache
home = Path(sys.argv[1])
runs = []

@acache.memoize
async def f(x):
    runs.append(x)
    return x * 2

@acache.memoize(ttl="1h")
def g(x):
    runs.append(x)
    return x * 3

before = list(home.rglob("*"))
assert asyncio.run(f(1)) == 2
assert g(1) == 3
assert asyncio.run(f(1)) == 2
assert acache.fcache is acache.fcache
print(len(before) > 0, len(runs), acache.fcache.statistics().total.hits)
"""


@pytest.mark.integration
@pytest.mark.parametrize("variable", ["ACACHE_DIR", "XDG_CACHE_HOME"])
def test_results_survive_the_process(tmp_path: Path, variable: str) -> None:
    """The first process computes; the next one, in the same directory, finds everything; nothing is printed but that."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), variable: str(home / "here"), "PYTHONPATH": ":".join(sys.path)}
    script = tmp_path / "program.py"
    script.write_text(CODE)
    command = [sys.executable, "-X", "dev", "-W", "error", str(script), str(home)]
    for expected in ("False 2 1", "True 0 3"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip(), without_remarks(done.stderr.encode())) == (0, expected, b"")
    assert list((home / "here").rglob("??/*"))
