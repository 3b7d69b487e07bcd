"""A compile service: source and flags go in, an object comes out, and nothing is compiled twice.

Run it from the repository's root (needs the extra ``demo``), then ask it for an object:

    python -m examples.compile_service --port 8000
    curl -si localhost:8000/compile -d '{"source": "int one(void) { return 1; }", "flags": ["-O2"]}' --output -

``POST /compile`` takes JSON with ``source``, ``flags`` and, for a cross compiler, ``target``. It answers with the
object and says in ``X-Cache`` where that came from: ``miss`` (compiled for you), ``joined`` (compiled for somebody else
just now), ``hit; tier=memory; age=1.3`` or ``hit; tier=disk; age=86400.0``. ``Server-Timing`` says how many milliseconds
it took. A source that does not compile is 422 with the compiler's own words, and is not cached. A flag outside the list
is 400, a source too large 413, a compiler too slow 504. ``GET /stats`` counts, ``GET /healthz`` names the compiler.
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import uvicorn
from platformdirs import user_cache_path
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acache.events import CallEvent
from examples.cached_compiler import CachedCompiler
from examples.compiler import CompileError, CompileTimeoutError, Flags, RefusedError, find_compiler

__all__ = ("create_app", "x_cache")

_log = logging.getLogger("examples.compile_service")

#: The most bytes a request may have.
BODY_LIMIT: Final = 1_048_576


def create_app(cached: CachedCompiler, *, body_limit: int = BODY_LIMIT) -> Starlette:
    """Put HTTP in front of a cached compiler; the application opens and closes it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with cached:
            identity = await cached.identify(None)
            _log.info("compiling %s for %s", cached.compiler.language, identity.target)
            yield

    async def compile_one(request: Request) -> Response:
        source, flags, target = _parse(await _read(request, body_limit))
        started = perf_counter()
        compiled = await cached.compile(source, flags, target)
        headers = {
            "X-Cache": x_cache(compiled.call),
            "X-Cache-Key": str(compiled.call.key),
            "Server-Timing": f"cache;dur={(perf_counter() - started) * 1000:.3f}",
        }
        return Response(compiled.code, media_type="application/octet-stream", headers=headers)

    async def stats(_: Request) -> Response:
        seen = cached.cache.statistics()
        return JSONResponse(
            {
                "compiler_runs": cached.compiler.runs,
                "in_flight": cached.compiler.active,
                "calls": seen.total._asdict(),
                "tiers": [asdict(tier) for tier in seen.tiers],
            }
        )

    async def healthz(_: Request) -> Response:
        identity = await cached.identify(None)
        return JSONResponse(
            {
                "status": "ok",
                "language": cached.compiler.language,
                "compiler": identity.version.splitlines()[0],
                "target": identity.target,
            }
        )

    return Starlette(
        routes=[
            Route("/compile", compile_one, methods=["POST"]),
            Route("/stats", stats),
            Route("/healthz", healthz),
        ],
        exception_handlers={
            CompileError: _answer(422),
            CompileTimeoutError: _answer(504),
            RefusedError: _answer(400),
            HTTPException: _answer(None),
        },
        lifespan=lifespan,
    )


def x_cache(call: CallEvent) -> str:
    """Say in one header where an object came from."""
    if call.outcome == "hit":
        return f"hit; tier={call.tier}; age={call.age or 0.0:.1f}"
    return "joined" if call.outcome == "joined" else "miss"


def _answer(status: int | None) -> Any:
    """Make a handler that tells the client what was wrong; an HTTPException brings its own status."""

    async def handle(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return JSONResponse({"error": error.detail}, error.status_code)
        return JSONResponse({"error": str(error)}, status or 500, headers={"Cache-Control": "no-store"})

    return handle


async def _read(request: Request, limit: int) -> bytes:
    """Read the body, and stop reading when there is too much of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"a request has at most {limit} bytes")
    return bytes(body)


def _parse(body: bytes) -> tuple[str, Flags, str | None]:
    try:
        fields: Any = json.loads(body)
        source, flags, target = fields["source"], fields.get("flags", []), fields.get("target")
        # Also turns away text that is not Unicode, such as half a surrogate pair.
        for text in (source, *flags) if target is None else (source, *flags, target):
            text.encode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise HTTPException(400, "expected JSON with a source, a list of flags and perhaps a target") from None
    return source, tuple(flags), target


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Compile, but never twice.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="serve on this inherited socket instead")
    parser.add_argument("--cache-dir", type=Path, default=user_cache_path("acache-compile-service"))
    parser.add_argument("--language", choices=("c", "python"), help="default: C, if there is a compiler")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a compiler may take")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    app = create_app(CachedCompiler(find_compiler(options.language, timeout=options.timeout), options.cache_dir))
    config = uvicorn.Config(
        app, options.host, options.port, log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    sockets = None if options.fd is None else [socket.socket(fileno=options.fd)]
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets)


if __name__ == "__main__":
    main()
