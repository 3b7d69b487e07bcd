"""Directories that only this user can write: made that way, and refused otherwise.

Whoever can write a cache directory can plant entries, and unpickling one runs its code. So a directory that is another
user's, that others can write, or that is reached through a symbolic link is an error of configuration, not a miss.
Parents are not judged: a private directory in a world-writable, sticky one (as the system's temporary directory is) is
safe, and a home directory has its owner's rules.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import Final, cast

from acache.exceptions import ConfigurationError, UnsafeDirectoryError
from acache.files.handle import Handle, Identity, identity_of
from acache.files.system import DIRECTORY, FileSystem

__all__ = ("NO_DIRECTORY", "make_directory", "open_directory", "open_private", "path_text", "split_sub_dir")

#: What opening a directory answers if there is none: nothing, a file, or a symbolic link.
NO_DIRECTORY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OTHERS_CAN_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def path_text(option: str, path: str | os.PathLike[str]) -> str:
    """Return a path as a text; raise :class:`ConfigurationError` for what is none: bytes too, which names of ours are not."""
    try:
        text = cast("object", os.fspath(path))
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise ConfigurationError(option, f"expected a path, as a text or a Path, not {type(path).__name__}")
    return text


def split_sub_dir(sub_dir: str) -> tuple[str, ...]:
    """Return the parts of ``sub_dir``; raise :class:`ConfigurationError` for one that would leave the directory."""
    path = PurePosixPath(sub_dir)
    if path.is_absolute() or ".." in path.parts or "\0" in sub_dir:
        raise ConfigurationError("sub_dir", "expected a path that stays inside the directory")
    return path.parts


def open_private(files: FileSystem, directory: str, parts: tuple[str, ...] = ()) -> tuple[Handle, Identity]:
    """Open ``directory`` and the ``parts`` below it; make what is missing, with mode 0700; return the last.

    Raises :class:`~acache.exceptions.UnsafeDirectoryError` for one that is no directory, not ours, or writable by others.
    """
    found = _open_checked(files, directory, None, directory)
    for depth, part in enumerate(parts, 1):
        with found[0] as above:
            found = _open_checked(files, part, above.fd, os.path.join(directory, *parts[:depth]))  # noqa: PTH118 - paths are texts
    return found


def open_directory(files: FileSystem, name: str, at: int | None, *, create: bool) -> Handle:
    """Open one directory; with ``create``, make it if it is missing. Nothing is checked."""
    try:
        return Handle(files, files.open(name, DIRECTORY, at=at))
    except FileNotFoundError:
        if not create:
            raise
    make_directory(files, name, at)
    return Handle(files, files.open(name, DIRECTORY, at=at))


def make_directory(files: FileSystem, name: str, at: int | None) -> None:
    """Make a directory with mode 0700 whatever the umask, and the parents of a path; one that is there is left alone."""
    try:
        files.mkdir(name, 0o700, at=at)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(name)  # noqa: PTH120 - names here are texts
        if at is not None or parent in {"", name}:
            raise
        make_directory(files, parent, None)
        try:
            files.mkdir(name, 0o700)
        except FileExistsError:
            return
    files.chmod(name, 0o700, at=at)


def _open_checked(files: FileSystem, name: str, at: int | None, shown: str) -> tuple[Handle, Identity]:
    try:
        handle = open_directory(files, name, at, create=True)
    except OSError as error:
        if error.errno in NO_DIRECTORY and error.errno != errno.ENOENT:
            raise UnsafeDirectoryError(shown, "it is a symbolic link or not a directory") from None
        raise
    # Closed by hand: an error keeps what it passed through alive, for as long as anybody looks at it.
    try:
        status = files.fstat(handle.fd)
        _require_private(status, shown)
    except BaseException:
        handle.close()
        raise
    return handle, identity_of(status)


def _require_private(status: os.stat_result, shown: str) -> None:
    if status.st_uid != os.geteuid():
        raise UnsafeDirectoryError(shown, "it belongs to another user")
    if status.st_mode & _OTHERS_CAN_WRITE:
        raise UnsafeDirectoryError(shown, "other users can write it; use a directory with mode 0700")
