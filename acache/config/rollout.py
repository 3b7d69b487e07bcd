"""Switches that are turned on by version: a release may ship a feature dark, and an operator roll it out.

A feature says which version of it this code has; a rollout source says from which version on it is wanted.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, final

__all__ = ("EnvironmentRollout", "JsonFileRollout", "RolloutSource", "set_rollout_source", "versioned_config")

_log = logging.getLogger("acache")


class RolloutSource(Protocol):
    """Says from which version on a feature is wanted. It must answer without waiting: look things up at start-up."""

    def version(self, name: str) -> int:
        """Return the first version of ``name`` that is on; 0, an exception or anything but an int means that it is off."""
        ...


@final
class EnvironmentRollout:
    """Versions from environment variables: ``prefix`` and the feature's name, in upper case, ``_`` for other characters.

    Raises from :meth:`version`, and so switches the feature off, for a variable that is no number.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def version(self, name: str) -> int:
        """Return what the variable says; 0 without one."""
        return int(os.environ.get(self._prefix + re.sub(r"\W", "_", name).upper(), "0"))


@final
class JsonFileRollout:
    """Versions from a JSON file with one object, ``{"feature": 3}``, read once, when this is made: not in a coroutine.

    With a file that cannot be read, every feature is off, and that is logged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._versions: Mapping[str, Any] = {}
        try:
            self._versions = dict(json.loads(Path(path).read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            _log.warning("the rollout file cannot be read (%s): every feature is off", type(error).__name__)

    def version(self, name: str) -> int:
        """Return what the file says; 0 for a feature that is not in it."""
        return int(self._versions.get(name, 0))


@final
class _VersionedConfig:
    """The type of :func:`versioned_config`: a function that remembers its answers."""

    def __init__(self) -> None:
        self._source: RolloutSource | None = None
        self._answers: dict[tuple[str, int, bool, str | None], bool] = {}

    def __call__(self, name: str, this_version: int, default: bool, env_var_override: str | None = None) -> bool:
        """Tell whether version ``this_version`` of the feature ``name`` is on.

        The environment variable ``env_var_override`` decides if it is set (``1``: on, anything else: off); else the rollout
        source if there is one (on from its version; 0, a failure or what is no int: off); else ``default``. The answer for the same
        arguments stays the same until :meth:`cache_clear`.
        """
        question = (name, this_version, default, env_var_override)
        answers = self._answers
        if question not in answers:
            # Into the table of the beginning: a change of the source meanwhile has thrown that one away.
            answers[question] = self._decide(*question)
        return answers[question]

    def cache_clear(self) -> None:
        """Forget all answers."""
        self._answers = {}

    def set_source(self, source: RolloutSource | None) -> None:
        """Ask ``source`` from now on."""
        self._source = source
        self.cache_clear()

    def _decide(self, name: str, this_version: int, default: bool, env_var_override: str | None) -> bool:
        override = None if env_var_override is None else os.environ.get(env_var_override)
        if override is not None:
            return override == "1"
        if self._source is None:
            return default
        try:
            version: object = self._source.version(name)
        except Exception as error:  # noqa: BLE001 - a source that fails is a feature that is off
            _log.warning("the rollout source failed with %s: the feature is off", type(error).__name__)
            return False
        if isinstance(version, bool) or not isinstance(version, int):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
            if inspect.iscoroutine(version):
                version.close()  # nobody awaits it
            _log.warning("the rollout source gave a %s, not an int: the feature is off", type(version).__name__)
            return False
        return version != 0 and this_version >= version


versioned_config: Final = _VersionedConfig()


def set_rollout_source(source: RolloutSource | None) -> None:
    """Let ``source`` decide about versioned features from now on; ``None``: their defaults do."""
    versioned_config.set_source(source)
