"""Keep results of one toolchain from being served under another, and see which part of the environment made a miss.

    python -m examples.isolation

A *form* is one thing about the environment that is part of every key. This program adds one, the version of the C compiler,
which an async probe asks for; without a C compiler it is that of Python. The compiler is upgraded while the program runs.
The exit code is 0 only if each call compiled, or did not, as it should.
"""

import asyncio
import shutil
import sys
import tempfile

from acache import FastCache, isolate, isolation_context, register_form
from acache.context import reprobe


class Toolchain:
    """The compiler of this machine; ``patch`` stands for an upgrade of it."""

    def __init__(self) -> None:
        self.command = shutil.which("cc") or sys.executable
        self.patch = ""
        self.probes = 0

    async def version(self) -> str:
        """Ask the compiler what it is: the probe. It is called once, and then once after each :func:`reprobe`."""
        self.probes += 1
        process = await asyncio.create_subprocess_exec(self.command, "--version", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return output.decode().partition("\n")[0] + self.patch


async def show(cache: FastCache, toolchain: Toolchain) -> bool:
    """Make six calls, print what each came to, and tell whether that was right."""

    @cache.memoize
    async def compile_unit(source: str) -> str:
        return f"object code of {source}"

    async def call(title: str, *, expected: int) -> bool:
        why = await compile_unit.cache_explain("main.c")
        before = compile_unit.cache_info().computed
        await compile_unit("main.c")
        compiled = compile_unit.cache_info().computed - before
        reason = "stored" if why.hit else f"differs in {', '.join(why.differs)}" if why.differs else "nothing stored"
        print(f"{title:30} {'compiled' if compiled else 'hit':10} {reason}")
        return compiled == expected

    good = [await call("first call", expected=1), await call("again", expected=0)]
    with isolate(target="sm90"):
        good += [await call("for another target", expected=1), await call("the same target again", expected=0)]
    toolchain.patch = " (patched)"
    good += [await call("upgraded, and not probed anew", expected=0)]
    reprobe("compiler")
    good += [await call("upgraded, and probed anew", expected=1)]
    return all(good) and toolchain.probes == 2


async def main(directory: str) -> bool:
    """Register the form for the length of the show."""
    toolchain = Toolchain()
    unregister = register_form("compile", "compiler", toolchain.version)
    try:
        print("compile forms:", ", ".join((await isolation_context())["compile_context"] or ()))
        async with FastCache.from_url("memory://", f"disk://{directory}") as cache:
            return await show(cache, toolchain)
    finally:
        unregister()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache_directory:
        sys.exit(0 if asyncio.run(main(cache_directory)) else "a call compiled, or did not, where it should not have")
