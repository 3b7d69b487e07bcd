"""Memoize an async and a plain function, in memory and on disk.

    python -m examples.quickstart

The second start computes nothing: it finds both results on disk.
"""

import asyncio
import tempfile

from acache import FastCache


async def main(directory: str) -> None:
    """Ask a hundred times at once, compute once."""
    async with FastCache.from_url("memory://?max_entries=10000", f"disk://{directory}") as cache:

        @cache.memoize(ttl="10m")
        async def fetch(name: str) -> str:
            print("fetching", name)
            await asyncio.sleep(0.01)
            return f"hello, {name}"

        @cache.memoize
        def square(number: int) -> int:
            print("squaring", number)
            return number * number

        answers = await asyncio.gather(*(fetch("world") for _ in range(100)))
        print(set(answers), await square.aio(12))
        print(fetch.cache_info())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache_directory:
        for start in ("first", "second"):
            print(start, "start")
            asyncio.run(main(cache_directory))
