"""Read a small file on the event loop, if and only if that cannot wait for a disk.

Linux can be asked to answer from memory or not at all: ``openat2`` with ``RESOLVE_CACHED`` walks a path only as far as
its directory entries are cached, ``preadv2`` with ``RWF_NOWAIT`` reads only pages that are. Both fail with ``EAGAIN``
where they would wait; the caller then asks a thread. A hop to a thread and back costs some ten times as much as the read.

- The same ``openat2`` refuses symbolic links anywhere in the path and every way out of the directory.
- ``ENOENT`` is an answer too: the kernel keeps the fact that a name does not exist, and says ``EAGAIN`` if it forgot.
- ``O_NOATIME``, because a new access time may have to wait for the file system's journal.
- Only for file systems that are known to open a cached name without asking anybody; NFS and FUSE ask their server.

One wait is left, a short and rare one: to close a file that a peer unlinked since it was opened frees its blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Final

from acache.files.beneath import BENEATH, OPENAT2, OpenHow
from acache.files.system import READ
from acache.types import MISSING, Missing

__all__ = ("WARM_LIMIT", "can_read_warm", "read_warm")

#: Bytes below which a file is small: checking and decoding more would take too much of the loop's time.
WARM_LIMIT: Final = 64 * 1024
#: Bytes that are read at first: enough for most, and cheaper to make room for.
_FIRST_READ: Final = 4096

_CACHED: Final = 0x20
#: ext2/3/4, XFS, Btrfs and F2FS: local, and able to read with RWF_NOWAIT.
_LOCAL: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})


# PyDLL keeps the interpreter's lock: a call that never waits has nothing to release it for. No types are declared: to
# convert to them is a third of what the call takes. Numbers go as int, which is wide enough for these, bytes as a pointer.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_syscall: Final = _libc.syscall

_HOW: Final = ctypes.byref(OpenHow(READ | getattr(os, "O_NOATIME", 0), 0, BENEATH | _CACHED))
_HOW_SIZE: Final = ctypes.sizeof(OpenHow)


def can_read_warm(at: int) -> bool:
    """Tell whether :func:`read_warm` is worth trying in the directory ``at``. May wait; ask once."""
    if sys.platform != "linux" or not hasattr(os, "RWF_NOWAIT") or _file_system_type(at) not in _LOCAL:
        return False
    # Old kernels answer ENOSYS or EINVAL, sandboxes EPERM.
    fd = _openat2(at, b".")
    if fd >= 0:
        os.close(fd)
    return fd >= 0 or ctypes.get_errno() == errno.EAGAIN


def read_warm(at: int, path: bytes) -> bytearray | Missing | None:
    """Return the file's content, :data:`MISSING` if there is no such file, ``None`` if only a thread can tell. Never waits.

    ``None`` also stands for every error, and for a file that is empty or large. What is not a regular file, or is cached
    only in part, gives ``None`` or bytes that no verification will pass.
    """
    fd = _openat2(at, path)
    if fd < 0:
        return MISSING if ctypes.get_errno() == errno.ENOENT else None
    try:
        data = bytearray(_FIRST_READ)
        size = os.preadv(fd, (data,), 0, os.RWF_NOWAIT)
        if size == _FIRST_READ:
            data *= WARM_LIMIT // _FIRST_READ
            size = os.preadv(fd, (data,), 0, os.RWF_NOWAIT)
    except OSError:
        return None
    finally:
        os.close(fd)
    if not 0 < size < WARM_LIMIT:
        return None
    del data[size:]
    return data


def _openat2(at: int, path: bytes) -> int:
    fd: int = _syscall(OPENAT2, at, path, _HOW, _HOW_SIZE)
    return fd


def _file_system_type(fd: int) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs is smaller everywhere, and begins with the type
    if _libc.fstatfs(fd, buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value
