"""The forms every process has.

With the default schema none of them is volatile, so a plain call is served without a key. None depends on the hash seed or
on acache's own switches: a result that was recorded in one mode must be found in another.
"""

from __future__ import annotations

import os
import platform as stdlib_platform
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

from acache.context.accelerator import accelerator_properties, runtime, runtime_version
from acache.context.forms import Form, Names

__all__ = ("BUILT_IN", "SCOPE")


def _python() -> dict[str, object]:
    return {
        "implementation": sys.implementation.name,
        "version": stdlib_platform.python_version(),
        # What sysconfig calls SOABI, without the files that sysconfig reads.
        "abi": EXTENSION_SUFFIXES[0],
    }


def _platform() -> dict[str, object]:
    # Not platform.libc_ver(): it reads the interpreter's file, on whatever thread asks first.
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}) else ""
    return {"system": stdlib_platform.system(), "machine": stdlib_platform.machine(), "libc": libc or ""}


def _packages(names: Names) -> dict[str, str | None]:
    from importlib import metadata  # noqa: PLC0415 - takes as long to import as all of acache, and few ask

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in names}


def _environment(names: Names) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def _determinism() -> dict[str, object]:
    # -O removes what an assert would have done; reproducible builds take their times from the variable. It is read once: to
    # look at it takes longer than a hit, which would have to build a key too. Who changes it reprobes (docs/isolation.md).
    return {"optimize": sys.flags.optimize, "source_date_epoch": os.environ.get("SOURCE_DATE_EPOCH")}


def _numeric_precision() -> dict[str, object]:
    info = sys.float_info
    return {
        "digits": info.mant_dig,
        "max_exponent": info.max_exp,
        "min_exponent": info.min_exp,
        "rounds": info.rounds,
        "repr": sys.float_repr_style,
    }


def _never_asked() -> object:
    raise NotImplementedError  # the scope is the caller's, and comes with each question


#: The factors of :func:`~acache.context.isolate`. The one form that is not asked of the process.
SCOPE: Final = Form("runtime", "scope", _never_asked, inline=True)

BUILT_IN: Final = (
    Form("compile", "accelerator_properties", accelerator_properties, inline=True),
    Form("compile", "packages", _packages, takes_names=True),  # reads files: not inline
    Form("compile", "platform", _platform, inline=True),
    Form("compile", "python", _python, inline=True),
    Form("compile", "runtime", runtime, inline=True),
    Form("compile", "runtime_version", runtime_version, inline=True),
    Form("runtime", "determinism", _determinism, inline=True),
    Form("runtime", "environment", _environment, volatile=True, inline=True, takes_names=True),
    Form("runtime", "numeric_precision", _numeric_precision, inline=True),
    SCOPE,
)
