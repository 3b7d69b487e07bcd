"""The compilers themselves, as real child processes: results, errors, time-outs, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from acache.testing import Gate
from examples.cached_compiler import CachedCompiler
from examples.compiler import (
    CCompiler,
    CompileError,
    Compiler,
    CompileTimeoutError,
    PythonCompiler,
    RefusedError,
    find_compiler,
)
from tests.examples.standin import FakeCC, Serve, StandIn

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "examples" / "programs").glob("*.c"))


def is_running(pid_file: Path) -> bool:
    """Tell whether the process that wrote its id there still runs; a zombie, which nobody may reap here, does not."""
    state = subprocess.run(
        ["/bin/ps", "-o", "stat=", "-p", pid_file.read_text().strip()], check=False, capture_output=True, text=True
    )
    return state.stdout.strip()[:1] not in {"", "Z"}


def names_in(directory: Path) -> list[str]:
    """Return the names of a directory's entries."""
    return [path.name for path in directory.iterdir()]


def run_bytecode(code: bytes, directory: Path) -> str:
    """Run a compiled module and return what it prints."""
    unit = directory / "unit.pyc"
    unit.write_bytes(code)
    return subprocess.run([sys.executable, unit], check=True, capture_output=True, text=True).stdout


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something outside this process has happened."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_compiles_without_warnings_and_checks_itself(program: Path, tmp_path: Path) -> None:
    """Each program is clean C99 and exits with 0 after one line of output."""
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2"]
    driver = find_compiler("c").driver
    subprocess.run([driver, *strict, str(program), "-lm", "-o", "program"], check=True, cwd=tmp_path)
    ran = subprocess.run([tmp_path / "program"], check=True, capture_output=True, text=True)
    assert len(ran.stdout.splitlines()) == 1
    assert 80 <= len(program.read_text().splitlines()) <= 250


def test_there_are_enough_programs() -> None:
    """The demo promises a matrix of at least seven programs."""
    assert len(PROGRAMS) >= 7


@pytest.mark.parametrize("flags", [("-O0", "-g"), ("-O3", "-fPIC"), ("-Os", "-std=c99")])
async def test_objects_are_reproducible(flags: tuple[str, ...], scratch: Path) -> None:
    """The same source and flags give the same bytes, debug information and times included; no file is left."""
    compiler = find_compiler("c")
    source = (
        "static int helper(void) { return 1; }\nconst char *when = __DATE__ __TIME__;\nint f(void) { return helper(); }"
    )
    first, second = await asyncio.gather(compiler.compile(source, flags), compiler.compile(source, flags))
    assert first == second
    assert names_in(scratch) == []


async def test_error_is_the_compilers_own_and_is_not_cached(serve: Serve) -> None:
    """A source that does not compile is 422 each time, with the place and the reason."""
    compiler = find_compiler("c")
    async with serve(compiler) as client:
        answers = [await client.post("/compile", json={"source": "int x = ;"}) for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 422
        assert "<stdin>:1:9: error" in answer.json()["error"]
        assert "X-Cache" not in answer.headers
    assert compiler.runs == 2


async def test_slow_compiler_is_killed_with_its_children(
    serve: Serve, fake_cc: FakeCC, tmp_path: Path, scratch: Path
) -> None:
    """A compiler that takes too long is 504, and nothing of it stays: no process, no file, no cached result."""
    child, marker = tmp_path / "child.pid", tmp_path / "once"
    script = fake_cc(compiling=f"sh -c 'echo $$ > {child}; touch x; sleep 60'; touch {marker}")
    compiler = CCompiler(str(script), timeout=2)  # in which it comes to its sleep
    async with serve(compiler) as client:
        answer = await client.post("/compile", json={"source": "int x;"})
        assert answer.status_code == 504
        assert "killed after 2 seconds" in answer.json()["error"]
        await wait_for(lambda: not is_running(child))
        assert (compiler.active, names_in(scratch)) == (0, [])
        assert "once" not in names_in(tmp_path)
        fake_cc()
        assert (await client.post("/compile", json={"source": "int x;"})).headers["X-Cache"] == "miss"


async def test_compiler_is_killed_when_nobody_waits_any_more(fake_cc: FakeCC, tmp_path: Path, scratch: Path) -> None:
    """The last caller that is cancelled ends the compiler."""
    child = tmp_path / "child.pid"
    compiler = CCompiler(str(fake_cc(compiling=f"echo $$ > {child}.new; mv {child}.new {child}; sleep 60")))
    async with CachedCompiler(compiler, tmp_path / "cache") as cached:
        callers = [asyncio.create_task(cached.compile("int x;")) for _ in range(2)]
        await wait_for(child.exists)
        callers[0].cancel()
        await asyncio.wait([callers[0]])
        assert is_running(child)
        callers[1].cancel()
        await asyncio.wait([callers[1]])
        await wait_for(lambda: not is_running(child))
        await wait_for(lambda: not names_in(scratch))
        assert compiler.active == 0
        await wait_for(lambda: len(asyncio.all_tasks()) == 1)  # the flight gives its lock back behind its callers


async def test_compiler_is_killed_while_it_starts(
    fake_cc: FakeCC, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that is cancelled when the compiler runs, but its pipes are not connected yet, ends it and its children."""
    loop = asyncio.get_running_loop()
    connect, connecting, gate = loop.connect_read_pipe, asyncio.Event(), asyncio.Event()

    async def connect_late(*args: Any) -> Any:
        connecting.set()
        await gate.wait()
        return await connect(*args)

    monkeypatch.setattr(loop, "connect_read_pipe", connect_late)
    child = tmp_path / "child.pid"
    compiler = CCompiler(str(fake_cc(compiling=f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; wait")))
    caller = asyncio.create_task(compiler.compile("int x;"))
    await connecting.wait()
    await wait_for(child.exists)
    caller.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait([caller], timeout=20)
    assert caller.cancelled()
    await wait_for(lambda: not is_running(child))
    assert names_in(scratch) == []


async def test_new_compiler_version_misses(serve: Serve, fake_cc: FakeCC) -> None:
    """After an upgrade of the compiler in place, a restarted service compiles again."""
    headers: list[str] = []
    for version in ("fake 1.0", "fake 1.0", "fake 2.0"):
        async with serve(CCompiler(str(fake_cc(version=version)))) as client:
            answer = await client.post("/compile", json={"source": "int x;"})
            headers.append(answer.headers["X-Cache"].split("; age")[0])
    assert headers == ["miss", "hit; tier=disk", "miss"]


async def test_target_picks_the_cross_compiler(
    serve: Serve, fake_cc: FakeCC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target is compiled by the compiler of that name; one without a compiler is refused."""
    cross = fake_cc(version="cross 1.0", compiling="echo cross > unit.o").rename(tmp_path / "mips-linux-gnu-gcc")
    monkeypatch.setenv("PATH", str(cross.parent), prepend=os.pathsep)
    async with serve(CCompiler(str(fake_cc()))) as client:
        native = await client.post("/compile", json={"source": "int x;"})
        foreign = await client.post("/compile", json={"source": "int x;", "target": "mips-linux-gnu"})
        unknown = await client.post("/compile", json={"source": "int x;", "target": "vax-dec-ultrix"})
    assert (native.content, foreign.content) == (b"int x;", b"cross\n")
    assert unknown.status_code == 400


async def test_no_more_compilers_run_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests beyond the number of processors wait for a slot."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    compiler = StandIn()
    compiler.finish = Gate("the end of the compiler")
    tasks = [asyncio.create_task(compiler.compile(f"int x{number};")) for number in range(5)]
    await wait_for(lambda: compiler.active == 2)
    assert compiler.runs == 2
    compiler.finish.open()
    await asyncio.gather(*tasks)
    assert (compiler.runs, compiler.active) == (5, 0)


async def test_environment_does_not_reach_the_compiler(fake_cc: FakeCC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that change what a compiler makes, such as CPATH, are not part of the key and are not passed on."""
    monkeypatch.setenv("CPATH", "/somewhere")
    compiler = CCompiler(str(fake_cc(compiling="env > unit.o")))
    assert b"CPATH" not in await compiler.compile("int x;")


async def test_threads_and_tasks_share_one_compilation(tmp_path: Path) -> None:
    """Plain threads and coroutines that ask at the same time get one object from one compiler run."""
    compiler = StandIn()
    compiler.finish = Gate("the end of the compiler")
    outcomes: list[str] = []
    async with CachedCompiler(compiler, tmp_path / "cache") as cached:
        task = asyncio.create_task(cached.compile("int x;"))
        await compiler.started.wait()
        threads = [
            threading.Thread(target=lambda: outcomes.append(cached.compile_sync("int x;").call.outcome))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        await wait_for(lambda: all(thread.is_alive() for thread in threads))
        compiler.finish.open()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert (await task).call.outcome == "computed"
    assert len(outcomes) == 4
    assert set(outcomes) <= {"joined", "hit"}
    assert compiler.runs == 1


async def test_without_a_c_compiler_python_is_compiled(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a machine without C the same routes give importable bytecode, and the log and the health page say so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.WARNING):
        compiler = find_compiler()
    assert "there is no C compiler here" in caplog.text
    with pytest.raises(FileNotFoundError):
        find_compiler("c")
    async with serve(compiler) as client:
        health = (await client.get("/healthz")).json()
        answer = await client.post("/compile", json={"source": "print(6 * 7)", "flags": ["-O1"]})
        again = await client.post("/compile", json={"source": "print(6 * 7)", "flags": ["-O1"]})
        broken = await client.post("/compile", json={"source": "print("})
        refused = await client.post("/compile", json={"source": "", "flags": ["-g"]})
        foreign = await client.post("/compile", json={"source": "", "target": "cpython-27"})
    assert health["language"] == "python"
    assert (answer.headers["X-Cache"], again.content) == ("miss", answer.content)
    assert (broken.status_code, refused.status_code, foreign.status_code) == (422, 400, 400)
    assert "SyntaxError" in broken.json()["error"]
    assert run_bytecode(answer.content, tmp_path) == "42\n"


async def test_python_objects_are_reproducible() -> None:
    """Bytecode does not depend on the hash seed; the optimization level is part of it."""
    compiler = PythonCompiler()
    source = "def f(x):\n    assert x in {'a', 'b', 'c', 'd'}\n"
    first, second, optimized = await asyncio.gather(
        compiler.compile(source), compiler.compile(source), compiler.compile(source, ("-O1",))
    )
    assert first == second != optimized


@pytest.mark.parametrize("compiler", [CCompiler("cc"), PythonCompiler()], ids=["c", "python"])
async def test_errors_are_raised_without_http_too(compiler: Compiler) -> None:
    """Coroutines and threads get the errors that HTTP clients see as status codes."""
    with pytest.raises(CompileError):
        await compiler.compile("= 1")
    with pytest.raises(RefusedError):
        await compiler.compile("", ("-o",))
    compiler.timeout = 0.0
    with pytest.raises(CompileTimeoutError):
        await compiler.compile("")


def test_service_runs_as_a_program(tmp_path: Path) -> None:
    """The service serves on a socket it inherits, and ends when it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = (
            "-m",
            "examples.compile_service",
            "--fd",
            str(listener.fileno()),
            "--cache-dir",
            str(tmp_path / "cache"),
        )
        service = subprocess.Popen([sys.executable, *command], cwd=ROOT, pass_fds=[listener.fileno()])
    try:
        assert httpx.get(f"{url}/healthz", timeout=30).json()["status"] == "ok"
        answer = httpx.post(f"{url}/compile", json={"source": "int x;"}, timeout=30)
        assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")
    finally:
        service.terminate()
    assert service.wait(timeout=30) in {0, -signal.SIGTERM}
