"""The settings of the process: read once from ``ACACHE_*`` into a frozen object, and overridden in tests.

Nothing is read at import. Whoever keeps something that was derived from the settings asks to be told of changes with
:func:`on_change`, so that a hot path need not look.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, cast, final

from platformdirs import user_cache_path

from acache.exceptions import ConfigurationError
from acache.listeners import Callback, Listeners
from acache.mutexes import make_mutex

__all__ = ("Settings", "cache_directory", "on_change", "override", "settings")

_PREFIX: Final = "ACACHE_"
_BOOLEANS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one moment. A field is the variable ``ACACHE_`` and its name in upper case.

    Raises :class:`~acache.exceptions.ConfigurationError` for a switch that is not a boolean.
    """

    #: Where the default caches keep their files; ``None``: the user's cache directory.
    dir: Path | None = None
    #: Whether anything is cached at all; ``disable`` wins.
    enable: bool = True
    disable: bool = False
    #: Compute every call, and store the result over what is there.
    recache: bool = False
    #: ``None``: a deterministic cache works, but is not the default one; ``True``: it is; ``False``: using one is an error.
    enable_deterministic_caching: bool | None = None
    #: Only what was loaded from a bundle may be served.
    strictly_pre_populated_determinism: bool = False
    #: Only what is cached may be served.
    strictly_cached_determinism: bool = False
    #: Whether all processes of this host agree, and whether the whole fleet does.
    local_determinism: bool = True
    global_determinism: bool = False
    #: A bundle that deterministic caches load at their first use.
    pre_populate_deterministic_cache: Path | None = None
    #: Signs stored entries. In no ``repr``.
    signing_key: str | bytes | None = field(default=None, repr=False)
    #: Report a shared result that a caller has changed.
    debug_mutation: bool = False

    def __post_init__(self) -> None:
        for name in _SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool) and (value is not None or name != _TRI_STATE):
                raise ConfigurationError(name, f"expected a boolean, not {type(value).__name__}")
        for name in _PATHS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from ``environ``; a variable that is unset or empty has its default.

        Warns once, naming them, of ``ACACHE_*`` variables it does not know. Raises
        :class:`~acache.exceptions.ConfigurationError`, naming the variable, for a switch it cannot read.
        """
        unknown = sorted(name for name in environ if name.startswith(_PREFIX) and name not in _VARIABLES)
        if unknown:
            warnings.warn(f"unknown settings are ignored: {', '.join(unknown)}", stacklevel=2)
        return cls(
            **{
                name: _parse(variable, name, environ[variable])
                for variable, name in _VARIABLES.items()
                if environ.get(variable)
            }
        )


_TRI_STATE: Final = "enable_deterministic_caching"
_VARIABLES: Final = {_PREFIX + each.name.upper(): each.name for each in fields(Settings)}
_SWITCHES: Final = (_TRI_STATE, *(each.name for each in fields(Settings) if isinstance(each.default, bool)))
_PATHS: Final = ("dir", "pre_populate_deterministic_cache")


def _parse(variable: str, name: str, text: str) -> Any:
    if name not in _SWITCHES:
        return text
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ConfigurationError(variable, "expected 1 or 0 (or true, false, yes, no, on, off)") from None


def cache_directory(settings: Settings) -> Path:
    """Return the absolute directory of the default caches; it may not exist yet."""
    chosen = user_cache_path("acache", appauthor=False) if settings.dir is None else settings.dir.expanduser()
    return chosen.absolute()


@final
class _Process:
    """The settings of this process: what its environment says, under the overrides of the moment, oldest first."""

    def __init__(self) -> None:
        self.current: Settings | None = None
        self._environment: Settings | None = None
        self._overrides: list[dict[str, Any]] = []
        self.listeners: Final = Listeners("settings")
        # Re-entrant, because listeners, which are called under it, may read and override.
        self._lock = make_mutex()

    def read(self) -> Settings:
        with self._lock:
            if self.current is None:
                self._combine()
            return cast("Settings", self.current)

    def push(self, changes: dict[str, Any]) -> Settings:
        with self._lock:
            self._overrides.append(changes)
            try:
                self._combine()
            except ConfigurationError:
                self._overrides.pop()
                raise
            self.listeners.tell()
            return self.read()

    def remove(self, changes: dict[str, Any]) -> None:
        with self._lock:
            # By identity: two threads may have made equal overrides.
            self._overrides = [each for each in self._overrides if each is not changes]
            self._combine()
            self.listeners.tell()

    def _combine(self) -> None:
        if self._environment is None:
            self._environment = Settings.from_environ(os.environ)
        self.current = replace(self._environment, **{k: v for each in self._overrides for k, v in each.items()})


_process: Final = _Process()


def settings() -> Settings:
    """Return the settings of the process; the environment is read at the first call only.

    Raises :class:`~acache.exceptions.ConfigurationError`, at every call, while the environment cannot be read.
    """
    return _process.current or _process.read()


@contextmanager
def override(**changes: Any) -> Generator[Settings]:
    """Change settings of the whole process for the length of a ``with`` block; for tests.

    Blocks nest, and may overlap between threads: the end of one takes back what that one changed, and nothing else.
    Raises :class:`~acache.exceptions.ConfigurationError` for a setting that does not exist.
    """
    unknown = sorted(changes.keys() - set(_VARIABLES.values()))
    if unknown:
        raise ConfigurationError("override", f"there are no settings {', '.join(unknown)}")
    current = _process.push(changes)
    try:
        yield current
    finally:
        _process.remove(changes)


def on_change(callback: Callback) -> Callable[[], None]:
    """Call ``callback()`` after each change of the settings, in the thread that made it; the function returned ends that.

    A bound method does not keep its object alive. A callback that fails is logged with its type only. Callbacks are
    called one at a time, and the last call comes after the last change.
    """
    return _process.listeners.add(callback)
