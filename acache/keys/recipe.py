"""How the calls of one function become keys, worked out once, when the function is decorated.

A key is 64 hex digits: 8 of the namespace, 12 of the function (module, qualname, version), 44 of everything that counts.
All entries of a namespace or of a function can thus be found by prefix, and no digit comes from a name as such.

All that does not change from call to call is hashed at decoration into a *head*. A call binds its arguments, encodes
them, and hashes head, isolation and arguments in one go. Keys are taken before the function runs: what it does to its
arguments cannot reach them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from acache.exceptions import ConfigurationError, CustomParamsEncoderRequiredError, KeyEncodingError
from acache.keys.encoding import STACK_REASON, canonical
from acache.keys.factors import DIGITS, Factors, short_digest
from acache.keys.identity import identify
from acache.keys.registry import LooseWalk, TypedWalk
from acache.keys.selection import select
from acache.keys.walk import Refusal
from acache.types import MISSING, Key

if TYPE_CHECKING:
    from acache.keys.walk import Walk

__all__ = ("KeyRecipe", "namespace_prefix")

#: A change of the layout or of any encoding changes the number.
_FORMAT: Final = "acache call 1"
_NAMESPACE_DIGITS: Final = 8
_FUNCTION_DIGITS: Final = 12
_REST_DIGITS: Final = 44
_PARAMS_PLACES: Final = ("a bound argument", "a bound keyword argument", "the result of custom_params_encoder=")


def namespace_prefix(namespace: str) -> str:
    """Return the 8 hex digits that every key of ``namespace`` begins with."""
    return sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()[:_NAMESPACE_DIGITS]


class KeyRecipe:
    """Makes the keys of one function's calls. Immutable: safe to use from any thread.

    ``version`` is any encodable object and part of the function's identity. ``key`` replaces the arguments: a callable
    that takes them, or a template over the parameters (see :mod:`acache.keys.template`). ``ignore`` names parameters, or
    keywords of ``**kwargs``, that make no difference. With ``typed=False`` arguments that compare equal as numbers count
    as equal. Raises :class:`~acache.exceptions.ConfigurationError` for options that do not fit the function.
    """

    __slots__ = (
        "_bound",
        "_fixed",
        "_head",
        "_params_head",
        "_places",
        "_read",
        "_walk",
        "identity",
        "implied",
        "label",
        "namespace_prefix",
        "plain_parameters",
        "prefix",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        namespace: str = "",
        version: object = None,
        key: str | Callable[..., object] | None = None,
        ignore: Collection[str] = (),
        typed: bool = True,
    ) -> None:
        identity = identify(fn)
        self.identity = identity
        self.label = identity.label
        if identity.is_lambda and version is None and key is None:
            raise ConfigurationError(self.label, "a lambda has no name of its own; give it version= or key=")
        selection = select(identity, key, ignore)
        #: The parameters whose values are the key, in order; empty when ``key`` makes something else of them.
        self.plain_parameters = selection.parameters
        #: The values that are part of every key though no call gives them: arguments that are bound, and defaults.
        self.implied = selection.implied
        self._read = selection.read
        self._places = selection.places
        self._bound = selection.bound
        self._walk: type[Walk] = TypedWalk if typed else LooseWalk
        name = (identity.module, identity.qualname, version)
        self.namespace_prefix = namespace_prefix(namespace)
        #: The hex digits that all keys of this function and version begin with.
        self.prefix = self.namespace_prefix + self._hash(name)[: _FUNCTION_DIGITS // 2].hex()
        whole = (_FORMAT, namespace, *name, typed)
        self._head = self._hash((*whole, selection.spec))
        self._params_head = self._hash((*whole, "params"))
        #: The factors that are the same for every call.
        self._fixed = short_digest(canonical((identity.module, identity.qualname))) + short_digest(
            canonical((version, typed, selection.spec))
        )

    def _hash(self, value: object) -> bytes:
        try:
            return sha256(canonical(value)).digest()
        except KeyEncodingError as error:
            raise ConfigurationError(self.label, f"version= cannot be part of a key: {error.reason}") from error

    def digest(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], isolation: str = "", params: object = MISSING
    ) -> Key:
        """Make the key of the call ``fn(*args, **kwargs)`` under the isolation key ``isolation``.

        ``params``, if given, is what a custom encoder made of the arguments, and stands for those of the call; arguments
        that were bound before it (the object of a method, those of a partial) still count. Raises what a wrong
        call raises, and :class:`~acache.exceptions.CustomParamsEncoderRequiredError`, from the
        :class:`~acache.exceptions.KeyEncodingError`, for an argument that cannot be part of a key.
        """
        head, parts = self._parts(args, kwargs, params)[1:]
        salt = isolation.encode("utf-8", "surrogatepass")
        data = b"%b%x:%b%b" % (head, len(salt), salt, b"".join(parts))
        # Made without the check of Key, which would cost as much as the digest.
        return str.__new__(Key, self.prefix + sha256(data).hexdigest()[:_REST_DIGITS])

    def factors(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        isolation: Mapping[str, str],
        params: object = MISSING,
    ) -> Factors:
        """Say what :meth:`digest` makes the key of the same call from: the function, its version, each argument and form.

        ``isolation`` has a digest of at least 8 hex digits for each form. Raises as :meth:`digest`.
        """
        places, _, parts = self._parts(args, kwargs, params)
        digests = [self._fixed, *map(short_digest, parts), *(digest[:DIGITS] for digest in isolation.values())]
        return Factors(_names(places[: len(parts)], tuple(isolation)), "".join(digests))

    def _parts(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], params: object
    ) -> tuple[tuple[str, ...], bytes, list[bytes]]:
        """Return the places of what counts, the head of the key, and what counts itself, encoded."""
        walk = self._walk()
        try:
            if params is MISSING:
                return self._places, self._head, walk.parts(self._read(*args, **kwargs), self._places)
            return _PARAMS_PLACES, self._params_head, walk.parts((*self._bound, params), _PARAMS_PLACES)
        except Refusal as refusal:
            raise CustomParamsEncoderRequiredError(self.label, refusal.summary) from refusal.error()
        except RecursionError as error:
            raise CustomParamsEncoderRequiredError(self.label, STACK_REASON) from error


@lru_cache(maxsize=1024)
def _names(places: tuple[str, ...], forms: tuple[str, ...]) -> tuple[str, ...]:
    return ("function", "version", *places, *forms)
