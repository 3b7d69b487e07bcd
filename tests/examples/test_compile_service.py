"""The rules of the compile service's HTTP interface, without a network and with a compiler that only pretends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from acache.events import CallEvent
from examples.compile_service import x_cache
from tests.examples.standin import Serve, StandIn

UNIT = {"source": "int one(void) { return 1; }", "flags": ["-O2", "-g"]}


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    """Ask for the unit, with some fields changed."""
    return await client.post("/compile", json={**UNIT, **changes})


async def test_first_request_is_a_miss_and_second_a_memory_hit(serve: Serve) -> None:
    """The first client waits for the compiler, the second gets the same bytes under the same key from memory."""
    compiler = StandIn()
    async with serve(compiler) as client:
        first, second = await post(client), await post(client)
    assert first.headers["X-Cache"] == "miss"
    assert re.fullmatch(r"hit; tier=memory; age=\d+\.\d", second.headers["X-Cache"])
    assert first.headers["X-Cache-Key"] == second.headers["X-Cache-Key"]
    assert re.fullmatch("[0-9a-f]{64}", first.headers["X-Cache-Key"])
    assert re.fullmatch(r"cache;dur=\d+\.\d{3}", second.headers["Server-Timing"])
    assert first.headers["Content-Type"] == "application/octet-stream"
    assert first.content == second.content == b"-O2 -g\nint one(void) { return 1; }"
    assert compiler.runs == 1


async def test_restarted_service_hits_the_disk(serve: Serve) -> None:
    """Another service on the same directory compiles nothing."""
    compiler = StandIn()
    async with serve(StandIn()) as client:
        first = await post(client)
    async with serve(compiler) as client:
        second = await post(client)
    assert re.fullmatch(r"hit; tier=disk; age=\d+\.\d", second.headers["X-Cache"])
    assert second.content == first.content
    assert compiler.runs == 0


async def test_simultaneous_requests_share_one_compilation(serve: Serve) -> None:
    """Of two clients that ask at the same time, one compiles and the other joins it; statistics see it running."""
    compiler = StandIn()
    compiler.finish = type(compiler.finish)("the end of the compiler")
    async with serve(compiler) as client:
        requests = [asyncio.create_task(post(client)) for _ in range(2)]
        await compiler.started.wait()
        stats = (await client.get("/stats")).json()
        compiler.finish.open()
        answers = await asyncio.gather(*requests)
    assert sorted(answer.headers["X-Cache"] for answer in answers) == ["joined", "miss"]
    assert answers[0].content == answers[1].content
    assert (stats["compiler_runs"], stats["in_flight"]) == (1, 1)
    assert compiler.runs == 1


@pytest.mark.parametrize(
    "changes", [{"source": "int two;"}, {"flags": ["-g", "-O2"]}, {"flags": []}, {"target": "a-b"}]
)
async def test_another_source_flag_order_or_target_is_another_unit(serve: Serve, changes: dict[str, Any]) -> None:
    """Whatever may change the object changes the key; the order of flags may."""
    async with serve(StandIn()) as client:
        first, second = await post(client), await post(client, **changes)
    assert second.headers["X-Cache"] == "miss"
    assert first.headers["X-Cache-Key"] != second.headers["X-Cache-Key"]


async def test_another_compiler_version_misses(serve: Serve) -> None:
    """An object of the old compiler is not served for the new one."""
    async with serve(StandIn("1.0")) as client:
        await post(client)
    async with serve(StandIn("2.0")) as client:
        assert (await post(client)).headers["X-Cache"] == "miss"
    async with serve(StandIn("1.0")) as client:
        assert (await post(client)).headers["X-Cache"].startswith("hit; tier=disk")


async def test_compiler_is_asked_for_its_version_once(serve: Serve) -> None:
    """Many requests at once, of many units, make one probe."""
    compiler = StandIn()
    async with serve(compiler) as client:
        await asyncio.gather(*(post(client, source=f"int x{n};") for n in range(20)), client.get("/healthz"))
    assert compiler.probes == 1
    assert compiler.runs == 20


@pytest.mark.parametrize(
    "flag",
    [
        *("-o", "-oelsewhere", "@options", "-include", "-I", "-I.", "-isystem", "-B", "-B.", "-L.", "-x", "-", ""),
        *(
            "-wrapper",
            "-specs=here",
            "--specs=here",
            "-fplugin=here",
            "-fplugin-arg-x",
            "-fdump-tree-all",
            "-save-temps",
        ),
        *("-fprofile-generate", "-fprofile-use", "-ftest-coverage", "-frandom-seed=1", "-flto", "-Wl,-s", "-Wa,-a"),
        *("-march=native", "-mcpu=native", "-march=", "-D", "-DX Y", "-DX=a b", "-O2\n", "-O4", "-std=", "source.c"),
    ],
)
async def test_flag_outside_the_list_is_refused(serve: Serve, flag: str) -> None:
    """A flag that names a file, starts a program or makes runs differ is 400, and no compiler runs."""
    compiler = StandIn()
    async with serve(compiler) as client:
        answer = await post(client, flags=["-O2", flag])
    assert answer.status_code == 400
    assert "not allowed" in answer.json()["error"]
    assert compiler.runs == 0


@pytest.mark.parametrize(
    "flag",
    [
        *("-O", "-O0", "-O3", "-Os", "-Ofast", "-g", "-g3", "-std=c99", "-std=gnu17", "-DNDEBUG", "-DX=1.5", "-UX"),
        *(
            "-fPIC",
            "-fno-plt",
            "-funroll-loops",
            "-fomit-frame-pointer",
            "-march=x86-64-v3",
            "-mtune=generic",
            "-mavx2",
        ),
    ],
)
async def test_flag_on_the_list_is_passed_on(serve: Serve, flag: str) -> None:
    """Flags that change only the code reach the compiler as they are."""
    async with serve(StandIn()) as client:
        answer = await post(client, flags=[flag])
    assert answer.status_code == 200
    assert answer.content.splitlines()[0] == flag.encode()


@pytest.mark.parametrize("target", ["../bin/sh", "-x", "plain", "a b-c", "a-b;c", ""])
async def test_strange_target_is_refused(serve: Serve, target: str) -> None:
    """A target becomes part of a program's name, and is checked as such."""
    async with serve(StandIn()) as client:
        answer = await post(client, target=target)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"source"',
        b"{}",
        b'{"source": 1}',
        b'{"source": null}',
        b'{"source": "", "flags": "-O2"}',
        b'{"source": "", "flags": [1]}',
        b'{"source": "", "flags": null}',
        b'{"source": "", "target": 0}',
        b'{"source": "\\ud800"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
async def test_malformed_request_is_refused(serve: Serve, body: bytes) -> None:
    """A request that is not what was agreed on is 400 with a reason, never a broken service."""
    async with serve(StandIn()) as client:
        answer = await client.post("/compile", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_request_that_is_too_large_is_refused(serve: Serve) -> None:
    """One byte more than the limit is 413, with a length in front or without; the limit itself is accepted."""
    compiler = StandIn()

    async def in_chunks(body: bytes) -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 10):
            yield body[start : start + 10]

    fits = b'{"source": "int fits;"}'
    async with serve(compiler, body_limit=len(fits)) as client:
        assert (await client.post("/compile", content=fits)).status_code == 200
        assert (await client.post("/compile", content=fits + b" ")).status_code == 413
        assert (await client.post("/compile", content=in_chunks(fits + b" "))).status_code == 413
    assert compiler.runs == 1


async def test_health_names_the_compiler(serve: Serve) -> None:
    """A client can see what compiles here, and for what."""
    async with serve(StandIn("2.0\nCopyright")) as client:
        health = (await client.get("/healthz")).json()
    assert health == {"status": "ok", "language": "c", "compiler": "2.0", "target": "standin"}


async def test_statistics_count_calls_and_compiler_runs(serve: Serve) -> None:
    """What the cache did, and how often a compiler was started, is there to be read."""
    async with serve(StandIn()) as client:
        for _ in range(3):
            await post(client)
        stats = (await client.get("/stats")).json()
    assert (stats["compiler_runs"], stats["in_flight"]) == (1, 0)
    assert (stats["calls"]["hits"], stats["calls"]["misses"]) == (2, 1)
    assert [tier["name"] for tier in stats["tiers"]] == ["memory", "disk"]


async def test_unknown_route_and_method_are_refused(serve: Serve) -> None:
    """The service does what its first lines say, and nothing else."""
    async with serve(StandIn()) as client:
        assert (await client.get("/compile")).status_code == 405
        assert (await client.get("/elsewhere")).status_code == 404


@pytest.mark.parametrize(
    ("call", "header"),
    [
        (CallEvent("f", None, "hit", "memory", 1.26), "hit; tier=memory; age=1.3"),
        (CallEvent("f", None, "hit", "disk", None), "hit; tier=disk; age=0.0"),
        (CallEvent("f", None, "joined"), "joined"),
        (CallEvent("f", None, "computed"), "miss"),
        (CallEvent("f", None, "bypassed"), "miss"),
    ],
)
def test_header_says_where_an_object_came_from(call: CallEvent, header: str) -> None:
    """One header names the tier and the age of a hit, a shared computation, or neither."""
    assert x_cache(call) == header
