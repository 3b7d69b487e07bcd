"""The rows of the original about configuration, isolation and errors (4.1 to 4.3), under their own names."""

from __future__ import annotations

import builtins
import inspect
import itertools
import os
import pickle
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NoReturn

import pytest

import acache
from acache import IsolationSchema, exceptions, isolate, isolation_context, isolation_key
from acache.config import set_rollout_source, versioned_config
from acache.exceptions import CacheError
from tests.acceptance.support import run

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
    """The variable decides before source and default: ``1`` is on, anything else off, until the answers are cleared."""
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


# --- 4.2 Isolation ------------------------------------------------------------------------------------------------------


async def forms(half: str) -> dict[str, Any]:
    """Return the forms of one half with their present values."""
    found = (await isolation_context())[half]
    assert found
    return found


def selections(names: Mapping[str, object]) -> Iterator[dict[str, bool]]:
    """Return the selections of none, one, two and all of the forms."""
    for size in sorted({0, 1, 2, len(names)}):
        for chosen in itertools.combinations(sorted(names), size):
            yield {name: name in chosen for name in names}


async def test_selected_isolation_context() -> None:
    """For every selection of runtime forms and every one of compile forms, the context holds those with their values."""
    with isolate(target="sm90"):
        runtime, build = await forms("runtime_context"), await forms("compile_context")
        for some, others in itertools.product(selections(runtime), selections(build)):
            assert await isolation_context(IsolationSchema(some, others)) == {
                "runtime_context": {name: runtime[name] for name, wanted in some.items() if wanted} or None,
                "compile_context": {name: build[name] for name, wanted in others.items() if wanted} or None,
            }


@pytest.mark.parametrize("runtime", [True, False])
@pytest.mark.parametrize("build", [True, False])
async def test_all_or_none_isolation_context(runtime: bool, build: bool) -> None:
    """``True`` is every form of a half, ``False`` none of it."""
    assert await isolation_context(IsolationSchema(runtime_context=runtime, compile_context=build)) == {
        "runtime_context": await forms("runtime_context") if runtime else None,
        "compile_context": await forms("compile_context") if build else None,
    }


async def test_isolation_key_is_distinct() -> None:
    """Every selection of forms has a key of its own, and so has every value of a form; a key is 32 hex digits."""
    runtime, build = await forms("runtime_context"), await forms("compile_context")
    chosen = list(itertools.product(selections(runtime), selections(build)))
    keys = [await isolation_key(IsolationSchema(some, others)) for some, others in chosen]
    for factors in ({"a": None}, {"b": None}, {"a": 1}, {"a": "1"}, {"a": None, "b": None}, {"a": {"b": None}}):
        with isolate(**factors):
            keys.append(await isolation_key())
    assert len(set(keys)) == len(keys) > 6
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


KEYS = """
async def main():
    with isolate(one=[1, {"b": 2, "a": 1}], other="text"):
        inner = await isolation_key()
    tell([await isolation_key(), await isolation_key(), inner])
asyncio.run(main())
"""


@pytest.mark.integration
def test_isolation_key_is_repeatable() -> None:
    """The key is the same twice, and in every process with the same settings, whatever its hash seed."""
    (first, second, inner), other = (run(KEYS, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second != inner
    assert other == [first, second, inner]


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
