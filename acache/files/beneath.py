"""Open a path below a directory in one system call, through no symbolic link and by no way out.

``openat`` refuses a link only as the last name of a path, so a path of two names costs an open directory in between.
Linux 5.6 has ``openat2``, which refuses them all; where it is missing, that directory is opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Final

__all__ = ("BENEATH", "OPENAT2", "OpenHow", "create_beneath")

OPENAT2: Final = 437  # the same on every architecture but Alpha
_NO_SYMLINKS, _BENEATH = 0x04, 0x08
BENEATH: Final = _NO_SYMLINKS | _BENEATH
#: What old kernels and sandboxes answer; and what the call does where it cannot be sure for a moment.
_CANNOT: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN})
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenHow(ctypes.Structure):
    """``struct open_how``."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


def create_beneath(at: int, folder: str, name: str, flags: int, mode: int) -> int:
    """Open ``folder/name`` below the directory ``at`` with ``flags``, and return the descriptor. Raises :class:`OSError`."""
    if sys.platform == "linux":
        how = OpenHow(flags, mode, BENEATH)
        path = f"{folder}/{name}"
        fd: int = _syscall(OPENAT2, at, os.fsencode(path), ctypes.addressof(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number), path)
    directory = os.open(folder, _DIRECTORY, dir_fd=at)
    try:
        return os.open(name, flags, mode, dir_fd=directory)
    finally:
        os.close(directory)
