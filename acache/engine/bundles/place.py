"""Where a bundle lies: its path, and the directory that a dump may write in."""

from __future__ import annotations

import os
from typing import cast

from acache.exceptions import ConfigurationError
from acache.files import FileSystem
from acache.files.directory import open_private
from acache.files.handle import Handle

__all__ = ("absolute", "check_home", "open_home")


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the path of a bundle, for good: the process may change its working directory while others wait.

    Raises :class:`~acache.exceptions.ConfigurationError` for a path that names no file.
    """
    text = _text(path)
    if text is None:
        raise ConfigurationError("path", f"expected the path of a bundle, not {type(path).__name__}")
    if not os.path.basename(text) or "\0" in text:  # noqa: PTH119 - paths are texts here
        raise ConfigurationError("path", "expected the path of a bundle, which is a file")
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - as above


def open_home(files: FileSystem, path: str) -> Handle:
    """Open the directory of the bundle ``path``, to write in.

    Raises :class:`~acache.exceptions.ConfigurationError` if there is none, which may be a mistake in the path; and
    :class:`~acache.exceptions.UnsafeDirectoryError` for one that is not ours, or that others can write.
    """
    directory = os.path.dirname(path)  # noqa: PTH120 - as above
    try:
        files.stat(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError("path", f"there is no directory {directory}; make it, with mode 0700") from None
    return open_private(files, directory)[0]


def check_home(files: FileSystem, path: str) -> None:
    """Raise what :func:`open_home` raises."""
    open_home(files, path).close()


def _text(path: object) -> str | None:
    given = cast("object", path.__fspath__()) if isinstance(path, os.PathLike) else path
    return given if isinstance(given, str) else None
