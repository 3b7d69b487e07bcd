"""The errors: their family, their texts, and their way through pickle."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import pytest

from acache import FastCache, exceptions
from acache.codecs import JsonCodec, PickleCodec, try_pickle_key
from acache.context.canonical import as_json
from acache.exceptions import (
    AbsentKeyError,
    BatchResultError,
    BridgeError,
    BridgeTimeoutError,
    BundleError,
    CacheError,
    ComputeTimeoutError,
    ConfigurationError,
    CustomParamsEncoderRequiredError,
    CustomResultDecoderRequiredError,
    CustomResultEncoderRequiredError,
    DeferredRecordingDroppedError,
    DeterminismLostError,
    DeterministicCachingDisabledError,
    DeterministicCachingIMCDumpConflictError,
    DeterministicCachingInvalidConfigurationError,
    DeterministicCachingRequiresStrongConsistencyError,
    DuplicateIdentityError,
    EntryRejectedError,
    FileLockTimeoutError,
    KeyEncodingError,
    KeyPicklingError,
    LockTimeoutError,
    RecursiveCallError,
    ReplayMissError,
    StrictDeterministicCachingInsertionError,
    StrictDeterministicCachingKeyNotFoundError,
    UnsafeDirectoryError,
    UserError,
    ValueDecodingError,
    ValueEncodingError,
    ValuePicklingError,
    ValueUnPicklingError,
)
from acache.keys import canonical

CANARY = "canary"
SystemError_ = exceptions.SystemError

#: One of each, made as acache makes it; where an object is described, a value that no text may show.
EXAMPLES: tuple[CacheError, ...] = (
    CacheError("a text"),
    SystemError_("a text"),
    UserError("a text"),
    LockTimeoutError(threading.Lock(), 1.5),
    FileLockTimeoutError(threading.Lock(), 60),
    BridgeError("a text"),
    BridgeTimeoutError(0.25),
    KeyEncodingError(CANARY, where="argument 'x'"),
    KeyPicklingError([CANARY], "it cannot be pickled"),
    ValueEncodingError(CANARY, "json", "no such type"),
    ValuePicklingError({CANARY}, "pickle"),
    ValueDecodingError("json", "not UTF-8"),
    ValueUnPicklingError("pickle"),
    EntryRejectedError("signature"),
    CustomParamsEncoderRequiredError("m.f", "an object of type m.C"),
    CustomResultEncoderRequiredError("m.f"),
    CustomResultDecoderRequiredError("m.f"),
    DeterministicCachingDisabledError(),
    DeterministicCachingRequiresStrongConsistencyError("memory"),
    DeterministicCachingInvalidConfigurationError("no tier"),
    StrictDeterministicCachingKeyNotFoundError("m.f", "ab12", "factor python differs"),
    StrictDeterministicCachingInsertionError("m.f", "ab12"),
    DeterministicCachingIMCDumpConflictError("ab12"),
    ConfigurationError("ttl", "too long"),
    UnsafeDirectoryError("directory", "another user can write it"),
    BundleError("run.bundle", "unsigned"),
    DuplicateIdentityError("m.f", "code"),
    ComputeTimeoutError("m.f", 2.5),
    DeterminismLostError("m.f", "ab12"),
    DeferredRecordingDroppedError("m.f", "ab12"),
    ReplayMissError("m.f", "ab12"),
    AbsentKeyError("m.f"),
    BatchResultError("m.f", "two"),
    RecursiveCallError("m.f", "ab12"),
)

#: Each class and its direct parents: the family of the original, and then ours.
FAMILY: dict[str, tuple[type[BaseException], ...]] = {
    "CacheError": (Exception,),
    "SystemError": (CacheError, RuntimeError),
    "UserError": (CacheError, TypeError),
    "LockTimeoutError": (SystemError_, TimeoutError),
    "FileLockTimeoutError": (SystemError_, TimeoutError),
    "KeyEncodingError": (UserError,),
    "KeyPicklingError": (KeyEncodingError,),
    "ValueEncodingError": (UserError,),
    "ValuePicklingError": (ValueEncodingError,),
    "ValueDecodingError": (UserError,),
    "ValueUnPicklingError": (ValueDecodingError,),
    "CustomParamsEncoderRequiredError": (UserError,),
    "CustomResultEncoderRequiredError": (UserError,),
    "CustomResultDecoderRequiredError": (UserError,),
    "DeterministicCachingDisabledError": (UserError,),
    "DeterministicCachingRequiresStrongConsistencyError": (UserError,),
    "StrictDeterministicCachingKeyNotFoundError": (UserError,),
    "DeterministicCachingInvalidConfigurationError": (UserError,),
    "StrictDeterministicCachingInsertionError": (UserError,),
    "DeterministicCachingIMCDumpConflictError": (SystemError_,),
    "ComputeTimeoutError": (SystemError_, TimeoutError),
    "DeterminismLostError": (SystemError_,),
    "DeferredRecordingDroppedError": (SystemError_,),
    "EntryRejectedError": (ValueUnPicklingError,),
    "BridgeError": (SystemError_,),
    "BridgeTimeoutError": (BridgeError, TimeoutError),
    "ConfigurationError": (UserError, ValueError),
    "UnsafeDirectoryError": (ConfigurationError,),
    "BundleError": (UserError,),
    "DuplicateIdentityError": (UserError,),
    "ReplayMissError": (CacheError, KeyError),
    "AbsentKeyError": (CacheError, KeyError),
    "BatchResultError": (UserError,),
    "RecursiveCallError": (CacheError, RecursionError),
}


def _name(error: CacheError) -> str:
    return type(error).__name__


def test_every_class_has_an_example() -> None:
    """No error class escapes the tests below."""
    assert {_name(error) for error in EXAMPLES} == set(exceptions.__all__) == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_family(name: str) -> None:
    """Every class has exactly the parents it is documented with."""
    assert getattr(exceptions, name).__bases__ == FAMILY[name]


@pytest.mark.parametrize("error", EXAMPLES, ids=_name)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_everything(error: CacheError, protocol: int) -> None:
    """An error that crosses a process boundary has the same class, text and fields."""
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_pickle_keeps_notes() -> None:
    """Notes that were added on the way survive pickling."""
    error = ReplayMissError("m.f", "ab12")
    error.add_note("while warming up")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while warming up"]


@pytest.mark.parametrize("error", EXAMPLES, ids=_name)
def test_texts(error: CacheError) -> None:
    """A text is one plain sentence, without quotes around it and without a value of the user's."""
    text = str(error)
    assert text
    assert text.strip("'\"\n.") == text
    assert CANARY not in text + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (LockTimeoutError(threading.Lock(), 1.5), ("_thread.lock", "1.5 seconds")),
        (FileLockTimeoutError(threading.Lock(), 60), ("_thread.lock", "60 seconds")),
        (BridgeTimeoutError(0.25), ("0.25 seconds",)),
        (KeyEncodingError(CANARY, where="argument 'x'"), ("builtins.str", "argument 'x'")),
        (ValueEncodingError(CANARY, "json", "why"), ("builtins.str", "'json'", "why")),
        (ValueDecodingError("json", "why"), ("'json'", "why")),
        (EntryRejectedError("signature"), ("signature",)),
        (CustomParamsEncoderRequiredError("m.f", "why"), ("m.f", "why", "custom_params_encoder=")),
        (CustomResultEncoderRequiredError("m.f", "why"), ("m.f", "why", "custom_result_encoder=")),
        (CustomResultDecoderRequiredError("m.f"), ("m.f", "custom_result_decoder=")),
        (DeterministicCachingDisabledError(), ("ACACHE_ENABLE_DETERMINISTIC_CACHING",)),
        (StrictDeterministicCachingKeyNotFoundError("m.f", "ab12", "why"), ("m.f", "ab12", "why")),
        (ConfigurationError("ttl", "why"), ("ttl", "why")),
        (DuplicateIdentityError("m.f", "code"), ("m.f", "code", "version=", "key=")),
        (ReplayMissError("m.f", "ab12"), ("m.f", "ab12")),
        (AbsentKeyError("m.f"), ("m.f",)),
        (BatchResultError("m.f", "two"), ("m.f", "two")),
        (RecursiveCallError("m.f", "ab12"), ("m.f", "ab12")),
    ],
    ids=lambda value: _name(value) if isinstance(value, CacheError) else "",
)
def test_texts_name_what_matters(error: CacheError, parts: tuple[str, ...]) -> None:
    """A text names the function, type or option at fault, the seconds waited, and what to do."""
    assert [part for part in parts if part not in str(error)] == []


class Failing:
    """Fails wherever acache runs its code, with a text of its own."""

    def __reduce_ex__(self, protocol: object) -> str:
        raise LookupError(CANARY)


class FailingKey(Failing):
    """Fails to say what it is."""

    def __cache_key__(self) -> object:
        raise LookupError(CANARY)


@dataclass
class FailingField:
    """Fails to show a field."""

    x: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise LookupError(CANARY)
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda: canonical(Failing()), KeyPicklingError),
        (lambda: canonical(FailingKey()), KeyEncodingError),
        (lambda: canonical([FailingField()]), KeyEncodingError),
        (lambda: try_pickle_key(Failing()), KeyPicklingError),
        (lambda: PickleCodec().encode([Failing()]), ValuePicklingError),
    ],
    ids=["key", "cache_key", "field", "pickled key", "value"],
)
def test_what_user_code_raised_is_the_cause(fail: Callable[[], object], error: type[CacheError]) -> None:
    """The user's own error and text stay as the cause, and ours adds its type only."""
    with pytest.raises(error) as caught:
        fail()
    assert type(caught.value.__cause__) is LookupError
    assert str(caught.value.__cause__) == CANARY
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda: JsonCodec().encode(CANARY + "\ud800"), ValueEncodingError),
        (lambda: JsonCodec().decode(memoryview(CANARY.encode())), ValueDecodingError),
        (lambda: JsonCodec().decode(memoryview(CANARY.encode() + b"\xff")), ValueDecodingError),
        (lambda: FastCache.from_url(f"memory://?max_entries={CANARY}"), ConfigurationError),
        (lambda: FastCache.from_url(f"disk://user:{CANARY}@[host"), ConfigurationError),
        (lambda: as_json({"x": nan}, "x"), ConfigurationError),
    ],
    ids=["encode", "decode", "decode unicode", "number", "URL", "form"],
)
def test_what_a_library_raised_about_content_is_no_cause(fail: Callable[[], object], error: type[CacheError]) -> None:
    """Errors that show what they failed on are not chained, so that no traceback of acache's shows it."""
    with pytest.raises(error) as caught:
        fail()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value)
