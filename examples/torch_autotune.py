"""Measure once which way to multiply two matrices is the fastest, and know it from then on.

    python -m examples.torch_autotune

The answer depends on more than the arguments: on torch's settings, on its version, on the machine. With torch's forms in
the key, a setting that is changed leads to new measurements, and one that is changed back leads to the old ones. The last
round knows the disk only, as another process would. The exit code is 0 only if every round measured what it should. Needs
``acache[torch]``.
"""

# Torch is an extra: type checkers do without it.
# pyright: basic, reportMissingImports=false

import asyncio
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from acache import FastCache, isolate
from acache.contrib.torch import register_torch_forms, torch_schema

#: Size of the matrices, and what they are made of. Names of types: they are part of the key.
CASES = ((256, "float32"), (384, "float32"), (256, "bfloat16"))
REPEATS = 10


def blocked(a: Any, b: Any) -> Any:
    """Multiply by four bands of columns, one after the other."""
    return torch.cat([a @ band for band in b.chunk(4, dim=1)], dim=1)


def transposed(a: Any, b: Any) -> Any:
    """Lay out the second matrix by columns first."""
    return a @ b.t().contiguous().t()


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "matmul": torch.matmul,
    "einsum": lambda a, b: torch.einsum("ij,jk->ik", a, b),
    "bmm": lambda a, b: torch.bmm(a[None], b[None])[0],
    "transposed": transposed,
    "blocked": blocked,
}


def measure(size: int, dtype: str) -> dict[str, float]:
    """Return the best time of each way, in milliseconds."""
    a, b = (torch.rand(size, size).to(getattr(torch, dtype)) for _ in range(2))
    times: dict[str, float] = {}
    for name, way in WAYS.items():
        way(a, b)  # the first run of each pays for what it sets up
        times[name] = min(milliseconds(way, a, b) for _ in range(REPEATS))
    return times


def milliseconds(way: Callable[[Any, Any], Any], a: Any, b: Any) -> float:
    """Return how long one product takes."""
    start = perf_counter()
    way(a, b)
    return (perf_counter() - start) * 1000


async def play(cache: FastCache, name: str, *, expected: int) -> bool:
    """Ask for the fastest way in each case, print what was found, and tell whether that took so many measurements."""
    times = cache.memoize(ischema=torch_schema())(measure)
    before = times.cache_info().misses
    cells: list[str] = []
    with isolate(threads=torch.get_num_threads()):
        for case in CASES:
            found = await times.aio(*case)
            best = min(found, key=found.__getitem__)
            cells.append(f"{best} {found[best]:.2f} ms")
    measured = times.cache_info().misses - before
    print(f"{name:20}", *(f"{cell:20}" for cell in cells), f"{measured} measured")
    return measured == expected


async def main(directory: str) -> bool:
    """Play five rounds, and tell whether each measured what it should."""
    urls = "memory://", f"disk://{directory}"
    print(f"{'':20}", *(f"{f'{size} {dtype}':20}" for size, dtype in CASES))
    torch.set_float32_matmul_precision("highest")
    async with FastCache.from_url(*urls) as cache:
        good = [await play(cache, "at first", expected=len(CASES))]
        good += [await play(cache, "once more", expected=0)]
        torch.set_float32_matmul_precision("medium")
        good += [await play(cache, "medium precision", expected=len(CASES))]
        torch.set_float32_matmul_precision("highest")
        good += [await play(cache, "highest again", expected=0)]
    async with FastCache.from_url(*urls) as cache:
        good += [await play(cache, "from disk", expected=0)]
    return all(good)


if __name__ == "__main__":
    register_torch_forms()
    with tempfile.TemporaryDirectory() as cache_directory:
        sys.exit(0 if asyncio.run(main(cache_directory)) else "a round measured more or less than it should")
