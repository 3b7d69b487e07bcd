"""What a child process prints in asyncio's debug mode, which ``-X dev`` turns on, because the machine was busy."""

from __future__ import annotations

__all__ = ("without_remarks",)


def without_remarks(errors: bytes) -> bytes:
    """Return what a child wrote to stderr without the remarks that a step of its event loop took long."""
    return b"".join(line for line in errors.splitlines(keepends=True) if not line.startswith(b"Executing <"))
