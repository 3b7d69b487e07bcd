"""The options of one memoized function, checked once, when it is decorated."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from acache.clock import Duration, as_seconds
from acache.codecs import Codec, PickleCodec, get_codec
from acache.exceptions import (
    ConfigurationError,
    CustomResultDecoderRequiredError,
    CustomResultEncoderRequiredError,
)

__all__ = ("CopyMode", "FlightLevel", "OnUnencodable", "Options", "StoreIf")

#: ``process``: one computation for all tasks, loops and threads; ``host``: for all processes that share the disk tier.
FlightLevel: TypeAlias = Literal["process", "host"]
#: ``share``: callers share the stored object; the others give each caller an object of its own.
CopyMode: TypeAlias = Literal["share", "deepcopy", "decode"]
#: What a result that no tier can encode is: an error of the call, or a warning, once for each function.
OnUnencodable: TypeAlias = Literal["raise", "warn"]
StoreIf: TypeAlias = Callable[[Any], bool]
Coder: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How results are kept. Times are in seconds; ``flight=None`` is the widest level the tiers offer."""

    ttl: float | None = None
    flight: FlightLevel | None = None
    codec: Codec | None = None
    copy: CopyMode = "share"
    store_if: StoreIf | None = None
    encoder: Coder | None = None
    decoder: Coder | None = None
    typed: bool = True
    on_unencodable: OnUnencodable = "raise"

    @classmethod
    def build(
        cls,
        label: str,
        *,
        ttl: Duration | None = None,
        flight: str | None = None,
        codec: Codec | str | None = None,
        copy: str = "share",
        store_if: StoreIf | None = None,
        encoder: Coder | None = None,
        decoder: Coder | None = None,
        typed: bool = True,
        on_unencodable: str = "raise",
    ) -> Options:
        """Check the options of ``label`` and return them.

        Raises :class:`~acache.exceptions.ConfigurationError`, naming the option, for a value it cannot be;
        :class:`~acache.exceptions.CustomResultDecoderRequiredError` or
        :class:`~acache.exceptions.CustomResultEncoderRequiredError` for an encoder or a decoder alone.
        """
        if encoder is not None and decoder is None:
            raise CustomResultDecoderRequiredError(label)
        if decoder is not None and encoder is None:
            raise CustomResultEncoderRequiredError(label, "it has a custom_result_decoder= and no encoder")
        for option, value in (("store_if", store_if), ("custom_result_encoder", encoder)):
            if value is not None and not callable(value):
                raise ConfigurationError(option, f"{label} needs a callable here, not {type(value).__name__}")
        return cls(
            ttl=as_seconds(ttl),
            flight=_one_of("flight", flight, FlightLevel),
            codec=None if codec is None else get_codec(codec),
            copy=_one_of("copy", copy, CopyMode) or "share",
            store_if=store_if,
            encoder=encoder,
            decoder=decoder,
            typed=typed,
            on_unencodable=_one_of("on_unencodable", on_unencodable, OnUnencodable) or "raise",
        )

    @property
    def shares(self) -> bool:
        """Whether a caller may be given the very object the memory tier holds."""
        return self.copy == "share" and self.decoder is None

    def private(self, value: Any) -> Any:
        """Return an object that shares nothing mutable with ``value``; ``value`` itself when sharing is wanted.

        Raises :class:`~acache.exceptions.ValueEncodingError` when ``copy="decode"`` cannot encode it.
        """
        if self.copy == "deepcopy":
            return copying.deepcopy(value)
        if self.copy == "decode":
            codec = self.codec or PickleCodec()
            return codec.decode(memoryview(codec.encode(value)))
        return value


def _one_of(option: str, value: str | None, choices: Any) -> Any:
    known = get_args(choices)
    if value is not None and value not in known:
        raise ConfigurationError(option, f"unknown value {str(value)[:40]!r}; choose one of {', '.join(known)}")
    return value
