"""Every error acache raises, and its text.

No text shows a value, an argument or stored bytes: it names the function, the type, the digest, and what to do.

What the user's code raised (a ``__reduce__``, a ``__cache_key__()``, a property, a probe) is the ``__cause__`` of the error that
came of it, and shows in its traceback: it is the user's own text, and often the only one that says what to mend. Pickling
counts as that, since it runs the user's code. What a library raised about content that acache gave it (JSON, Unicode, the
numbers of a URL) is no cause: such errors carry, and show, what they failed on. Log lines and events have the types of
causes, and never a text.

::

    CacheError
    ├── SystemError (RuntimeError)         the machine or a peer is at fault; trying again may help
    │   ├── LockTimeoutError (TimeoutError)
    │   ├── FileLockTimeoutError (TimeoutError)
    │   ├── DeterministicCachingIMCDumpConflictError
    │   ├── ComputeTimeoutError (TimeoutError)
    │   ├── DeterminismLostError
    │   ├── DeferredRecordingDroppedError
    │   └── BridgeError
    │       └── BridgeTimeoutError (TimeoutError)
    ├── UserError (TypeError)              the call or the configuration is at fault
    │   ├── KeyEncodingError
    │   │   └── KeyPicklingError
    │   ├── ValueEncodingError
    │   │   └── ValuePicklingError
    │   ├── ValueDecodingError
    │   │   └── ValueUnPicklingError
    │   │       └── EntryRejectedError
    │   ├── CustomParamsEncoderRequiredError, CustomResultEncoderRequiredError, CustomResultDecoderRequiredError
    │   ├── DeterministicCachingDisabledError, DeterministicCachingRequiresStrongConsistencyError,
    │   │   DeterministicCachingInvalidConfigurationError
    │   ├── StrictDeterministicCachingKeyNotFoundError, StrictDeterministicCachingInsertionError
    │   ├── ConfigurationError (ValueError)
    │   │   └── UnsafeDirectoryError
    │   ├── BatchResultError
    │   ├── BundleError
    │   └── DuplicateIdentityError
    ├── ReplayMissError (KeyError)
    ├── AbsentKeyError (KeyError)
    └── RecursiveCallError (RecursionError)
"""

from __future__ import annotations

from typing import Any, Final

__all__ = (
    "AbsentKeyError",
    "BatchResultError",
    "BridgeError",
    "BridgeTimeoutError",
    "BundleError",
    "CacheError",
    "ComputeTimeoutError",
    "ConfigurationError",
    "CustomParamsEncoderRequiredError",
    "CustomResultDecoderRequiredError",
    "CustomResultEncoderRequiredError",
    "DeferredRecordingDroppedError",
    "DeterminismLostError",
    "DeterministicCachingDisabledError",
    "DeterministicCachingIMCDumpConflictError",
    "DeterministicCachingInvalidConfigurationError",
    "DeterministicCachingRequiresStrongConsistencyError",
    "DuplicateIdentityError",
    "EntryRejectedError",
    "FileLockTimeoutError",
    "KeyEncodingError",
    "KeyPicklingError",
    "LockTimeoutError",
    "RecursiveCallError",
    "ReplayMissError",
    "StrictDeterministicCachingInsertionError",
    "StrictDeterministicCachingKeyNotFoundError",
    "SystemError",
    "UnsafeDirectoryError",
    "UserError",
    "ValueDecodingError",
    "ValueEncodingError",
    "ValuePicklingError",
    "ValueUnPicklingError",
)


def _rebuild(cls: type[CacheError], args: tuple[object, ...], state: dict[str, Any]) -> CacheError:
    """Make an error again from what ``__reduce__`` kept, without running ``__init__``."""
    # An OSError has more to it than its bases say, so only its own __new__ may make one.
    error: CacheError = (OSError if issubclass(cls, OSError) else Exception).__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _type_name(value: object) -> str:
    cls = value if isinstance(value, type) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


class CacheError(Exception):
    """The root of every error that acache raises itself. All are picklable."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        # KeyError would show the text in quotes.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class SystemError(CacheError, RuntimeError):  # noqa: A001 - the name of the original; never exported at the root
    """Raised when the machine, a lock or a peer is at fault, not the caller."""


class UserError(CacheError, TypeError):
    """Raised when the call or the configuration is at fault."""


class LockTimeoutError(SystemError, TimeoutError):
    """Raised when a lock was not acquired within ``timeout`` seconds."""

    def __init__(self, lock: object, timeout: float) -> None:
        super().__init__(f"lock {_type_name(lock)} was not acquired within {timeout:g} seconds")
        self.timeout = timeout


class FileLockTimeoutError(SystemError, TimeoutError):
    """Raised when a file lock was not acquired within ``timeout`` seconds."""

    def __init__(self, flock: object, timeout: float) -> None:
        super().__init__(f"file lock {_type_name(flock)} was not acquired within {timeout:g} seconds")
        self.timeout = timeout


class BridgeError(SystemError):
    """Raised when a sync call cannot be carried to an event loop, or would wait for ever."""


class BridgeTimeoutError(BridgeError, TimeoutError):
    """Raised when a sync call did not finish within its ``timeout`` seconds."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"the call did not finish within {timeout:g} seconds and was cancelled")
        self.timeout = timeout


class KeyEncodingError(UserError):
    """Raised when an object cannot be part of a key."""

    def __init__(self, key: object, reason: str = "it has no stable encoding", where: str = "") -> None:
        place = f" at {where}" if where else ""
        super().__init__(f"an object of type {_type_name(key)}{place} cannot be part of a key: {reason}")
        self.reason = reason
        self.where = where


class KeyPicklingError(KeyEncodingError):
    """Raised when an object that has to be pickled for a key cannot be."""


class ValueEncodingError(UserError):
    """Raised when a codec cannot turn a value into bytes."""

    def __init__(self, value: object, codec: str, reason: str = "") -> None:
        tail = f": {reason}" if reason else ""
        super().__init__(f"codec {codec!r} cannot encode a value of type {_type_name(value)}{tail}")
        self.codec = codec
        self.reason = reason


class ValuePicklingError(ValueEncodingError):
    """Raised when a value cannot be pickled."""


class ValueDecodingError(UserError):
    """Raised when a codec cannot turn stored bytes into a value."""

    def __init__(self, codec: str, reason: str = "") -> None:
        tail = f": {reason}" if reason else ""
        super().__init__(f"codec {codec!r} cannot decode a stored value{tail}")
        self.codec = codec
        self.reason = reason


class ValueUnPicklingError(ValueDecodingError):
    """Raised when stored bytes cannot be unpickled, or are not what was stored."""


class EntryRejectedError(ValueUnPicklingError):
    """Raised when a stored entry fails verification; nothing of it has been decoded.

    ``reason`` is one of ``corrupt``, ``foreign`` (another key, namespace or codec), ``unsigned``, ``signature``,
    ``version`` (another cache version) and ``format`` (another entry format).
    """

    def __init__(self, reason: str) -> None:
        CacheError.__init__(self, f"a stored entry was rejected: {reason}")
        self.codec = ""
        self.reason = reason


class CustomParamsEncoderRequiredError(UserError):
    """Raised when an argument of a memoized call cannot be part of a key."""

    def __init__(self, function: str, detail: str = "") -> None:
        tail = f": {detail}" if detail else ""
        super().__init__(
            f"an argument of {function} cannot be part of a key{tail}; give the class a __cache_key__() method, "
            f"or use ignore=, key= or custom_params_encoder="
        )
        self.function = function


class CustomResultEncoderRequiredError(UserError):
    """Raised when a result cannot be stored, or a decoder was given without its encoder."""

    def __init__(self, function: str, detail: str = "") -> None:
        tail = f": {detail}" if detail else ""
        super().__init__(f"a result of {function} cannot be stored{tail}; use codec= or custom_result_encoder=")
        self.function = function


class CustomResultDecoderRequiredError(UserError):
    """Raised when a result encoder was given without its decoder."""

    def __init__(self, function: str) -> None:
        super().__init__(f"{function} has a custom_result_encoder= and needs a custom_result_decoder= too")
        self.function = function


class DeterministicCachingDisabledError(UserError):
    """Raised when a deterministic cache is used while deterministic caching is switched off."""

    def __init__(self) -> None:
        super().__init__("deterministic caching is switched off; set ACACHE_ENABLE_DETERMINISTIC_CACHING=1 or unset it")


class DeterministicCachingRequiresStrongConsistencyError(UserError):
    """Raised when global determinism is asked of a tier without strong consistency."""

    def __init__(self, tier: str) -> None:
        super().__init__(f"global determinism needs a tier with strong consistency; {tier} does not promise it")
        self.tier = tier


class StrictDeterministicCachingKeyNotFoundError(UserError):
    """Raised when a strict deterministic cache does not hold the key."""

    def __init__(self, function: str, key: str, detail: str = "") -> None:
        tail = f"; {detail}" if detail else ""
        super().__init__(f"strict mode: no stored result for {function} under key {key}{tail}")
        self.function = function
        self.key = key


class DeterministicCachingInvalidConfigurationError(UserError):
    """Raised when no tier can give the determinism that is asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"deterministic caching cannot work as configured: {detail}")


class StrictDeterministicCachingInsertionError(UserError):
    """Raised when something is inserted into a strict deterministic cache."""

    def __init__(self, function: str, key: str) -> None:
        super().__init__(f"strict mode: nothing is inserted; {function} under key {key} was refused")
        self.function = function
        self.key = key


class DeterministicCachingIMCDumpConflictError(SystemError):
    """Raised when a bundle already holds another value under the same key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the bundle already holds another value under key {key}")
        self.key = key


class ComputeTimeoutError(SystemError, TimeoutError):
    """Raised when a call was not done within its ``timeout`` seconds. Others may still wait for its computation."""

    def __init__(self, function: str, timeout: float) -> None:
        super().__init__(f"{function} was not done within {timeout:g} seconds")
        self.function = function
        self.timeout = timeout


class DeterminismLostError(SystemError):
    """Raised when a result is not, and could not be, stored where all workers find it; they might not agree on it.

    By a full disk or an outage; or inside ``read_only()``, when nothing is stored for the call, which is not computed then.
    """

    def __init__(self, function: str, key: str) -> None:
        super().__init__(
            f"no result of {function} under key {key} is, or could be, stored where all workers share it, and no other is used; "
            f"see the events of the shared tier, or leave read_only()"
        )
        self.function = function
        self.key = key


class DeferredRecordingDroppedError(SystemError):
    """Raised for who waits for a deferred result that was dropped without ``finalize()`` or ``fail()``."""

    def __init__(self, function: str, key: str) -> None:
        super().__init__(f"the deferred result of {function} under key {key} was dropped before it was finalized")
        self.function = function
        self.key = key


class ConfigurationError(UserError, ValueError):
    """Raised when an option, a URL or a setting is not one acache can use."""

    def __init__(self, subject: str, detail: str) -> None:
        super().__init__(f"{subject}: {detail}")
        self.subject = subject
        self.detail = detail


class UnsafeDirectoryError(ConfigurationError):
    """Raised when a cache directory belongs to, or can be written by, another user."""


_BUNDLE_ADVICE: Final = {
    "corrupt": "it is damaged, or no bundle; put a good copy in its place, or remove it and dump again",
    "format": "it was written by a later version of acache; use that version, or dump to another path",
    "unsigned": "it is not signed, and a signer was given; dump it again with that signer",
    "signature": "its signature is wrong, or by a key that is not verified here; give the signer it was dumped with",
    "unsafe": (
        "without a signer, a bundle must be a file that you own and nobody else can write; "
        "sign it, or copy it to a file of your own with mode 0600"
    ),
    "replaced": "somebody replaced it without holding its lock; dump again",
    "closed": "it was closed; open it again",
}


class BundleError(UserError):
    """Raised when a bundle is refused as a whole: nothing of it was loaded, and it was not changed.

    ``reason`` is one of ``corrupt``, ``format`` (a later one), ``unsigned``, ``signature``, ``unsafe`` (others can write it),
    ``replaced`` (while a dump held its lock) and ``closed``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"bundle {path}: {_BUNDLE_ADVICE.get(reason, reason)}")
        self.path = path
        self.reason = reason


class BatchResultError(UserError):
    """Raised when what a function over many keys returned does not fit the keys it was given."""

    def __init__(self, label: str, detail: str) -> None:
        super().__init__(f"{label} did not return a result for each of its keys: {detail}")
        self.label = label


class DuplicateIdentityError(UserError):
    """Raised when a second function of one identity, with other code or captured values, joins a cache."""

    def __init__(self, function: str, difference: str) -> None:
        super().__init__(
            f"{function} is memoized on this cache already, with other {difference}; "
            f"tell the two apart with version= or key=, with which both have one key space: their keys must differ"
        )
        self.function = function


class ReplayMissError(CacheError, KeyError):
    """Raised when a replay finds no stored result; nothing was computed."""

    def __init__(self, function: str, key: str) -> None:
        super().__init__(f"no stored result for {function} under key {key}")
        self.function = function
        self.key = key


class AbsentKeyError(CacheError, KeyError):
    """Raised when one key was asked for, and the function over many keys returned nothing for it. Nothing is stored."""

    def __init__(self, label: str) -> None:
        super().__init__(f"{label} returned nothing for the key that was asked for")
        self.label = label


class RecursiveCallError(CacheError, RecursionError):
    """Raised when a computation asks, directly or over others, for the result it is computing."""

    def __init__(self, function: str, key: str) -> None:
        super().__init__(f"{function} waits for its own result under key {key}; give the inner call other arguments")
        self.function = function
        self.key = key
