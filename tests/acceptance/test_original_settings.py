"""The rows of the original about configuration and errors (4.1 and 4.3), under their own names."""

from __future__ import annotations

import builtins
import inspect
import os
import pickle
from collections.abc import Generator
from typing import Any, NoReturn

import pytest

import acache
from acache import exceptions
from acache.config import set_rollout_source, versioned_config
from acache.exceptions import CacheError

# --- 4.1 Configuration --------------------------------------------------------------------------------------------------

VARIABLE = "ACCEPTANCE_FEATURE"


class Rollout:
    """A source that wants a feature from one version on; without a version, one that fails."""

    def __init__(self, version: int | None) -> None:
        self._version = version
        self.asked = 0

    def version(self, name: str) -> int:
        self.asked += 1
        if self._version is None:
            raise OSError(name)
        return self._version


@pytest.fixture(autouse=True)
def _no_source() -> Generator[None]:
    """Begin and end without a rollout source, and without answers."""
    set_rollout_source(None)
    yield
    set_rollout_source(None)


@pytest.mark.parametrize("source", [None, Rollout(-1), Rollout(0), Rollout(None)], ids=["none", "on", "off", "failing"])
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(("text", "answer"), [("1", True), ("0", False), ("yes", False), ("", False)])
def test_versioned_config_env_var_override(
    monkeypatch: pytest.MonkeyPatch, text: str, answer: bool, default: bool, source: Rollout | None
) -> None:
    """SPEC 9: the variable decides before source and default: ``1`` is on, anything else off, until the answers are cleared."""
    set_rollout_source(source)
    monkeypatch.setenv(VARIABLE, text)
    assert versioned_config("feature", 0, default, VARIABLE) is answer
    monkeypatch.setenv(VARIABLE, "0" if answer else "1")
    assert versioned_config("feature", 0, default, VARIABLE) is answer
    versioned_config.cache_clear()
    assert versioned_config("feature", 0, default, VARIABLE) is not answer


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(("wanted", "answer"), [(-1, True), (1, False)])
def test_versioned_config_version_check(wanted: int, answer: bool, default: bool) -> None:
    """With a rollout source a feature is on from the version that is wanted, and the source is asked once."""
    source = Rollout(wanted)
    set_rollout_source(source)
    assert [versioned_config("feature", 0, default, VARIABLE) for _ in range(3)] == [answer] * 3
    assert source.asked == 1


@pytest.mark.parametrize("default", [True, False])
def test_versioned_config_oss_default(default: bool) -> None:
    """Without variable and source the default holds; there is no source unless one is registered."""
    assert VARIABLE not in os.environ
    assert versioned_config("feature", 0, default) is default
    assert versioned_config("feature", 0, default, VARIABLE) is default


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("version", [0, None], ids=["zero", "raises"])
def test_versioned_config_jk_failure(version: int | None, default: bool) -> None:
    """A source that says 0, its word for a failure, or that raises, switches the feature off."""
    set_rollout_source(Rollout(version))
    assert versioned_config("feature", 10, default) is False


# --- 4.3 Errors ---------------------------------------------------------------------------------------------------------

#: The family of the original: error → the error above it.
FAMILY = {
    "SystemError": "CacheError",
    "LockTimeoutError": "SystemError",
    "FileLockTimeoutError": "SystemError",
    "DeterministicCachingIMCDumpConflictError": "SystemError",
    "UserError": "CacheError",
    "KeyEncodingError": "UserError",
    "KeyPicklingError": "KeyEncodingError",
    "ValueEncodingError": "UserError",
    "ValuePicklingError": "ValueEncodingError",
    "ValueDecodingError": "UserError",
    "ValueUnPicklingError": "ValueDecodingError",
    "CustomParamsEncoderRequiredError": "UserError",
    "CustomResultEncoderRequiredError": "UserError",
    "CustomResultDecoderRequiredError": "UserError",
    "DeterministicCachingDisabledError": "UserError",
    "DeterministicCachingRequiresStrongConsistencyError": "UserError",
    "DeterministicCachingInvalidConfigurationError": "UserError",
    "StrictDeterministicCachingKeyNotFoundError": "UserError",
    "StrictDeterministicCachingInsertionError": "UserError",
}


class Secret:
    """Something no text may show."""

    def __repr__(self) -> NoReturn:
        raise AssertionError("an error printed a value")


def make(kind: type[CacheError]) -> CacheError:
    """Make an error of any class, of arguments that its parameters' types and names ask for."""
    given: list[Any] = []
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name == "self" or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        if parameter.annotation == "float":
            given.append(2.5)
        else:
            given.append(f"the {name}" if parameter.annotation == "str" else Secret())
    return kind(*given)


@pytest.mark.parametrize("name", exceptions.__all__)
def test_exception_is_CacheError(name: str) -> None:  # noqa: N802 - the original's name
    """Every error is a CacheError, survives pickling with its text and fields, and shows no value in its text."""
    kind: type[CacheError] = getattr(exceptions, name)
    assert issubclass(kind, CacheError)
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


def test_exception_other() -> None:
    """The family is that of the original; builtins that fit are above it; the builtin ``SystemError`` is not shadowed."""
    for name, parent in FAMILY.items():
        kind: type[CacheError] = getattr(exceptions, name)
        assert getattr(exceptions, parent) in kind.__bases__
        assert issubclass(kind, exceptions.UserError) is not issubclass(kind, exceptions.SystemError)
    assert issubclass(exceptions.SystemError, RuntimeError)
    assert issubclass(exceptions.UserError, TypeError)
    for error in (exceptions.LockTimeoutError(Secret(), 2.5), exceptions.FileLockTimeoutError(Secret(), 2.5)):
        assert isinstance(error, TimeoutError)
        assert "2.5 seconds" in str(error)
        assert "Secret" in str(error)
    namespace: dict[str, Any] = {}
    exec("from acache import *", namespace)  # noqa: S102 - what a user writes
    assert namespace.get("SystemError", builtins.SystemError) is builtins.SystemError
    assert "SystemError" not in acache.__all__
