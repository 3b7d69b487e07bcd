"""Encodings for ``typed=False``: numbers that compare equal are one number, whatever their types.

A number is brought to a fraction in lowest terms, so ``1``, ``True``, ``1.0``, ``1+0j``, ``Decimal("1.00")`` and
``Fraction(1)`` are one, at any depth. Instances of the user's own number classes and elements of arrays keep their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Final

from acache.keys.plain import PLAIN, encode_int
from acache.keys.standard import STANDARD
from acache.keys.walk import Encoder, Refusal, Walk

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

__all__ = ("LOOSE_PLAIN", "LOOSE_STANDARD")

#: A decimal of a larger exponent would be spelled out in as many digits to be compared with an integer.
_MAX_EXPONENT: Final = 100_000


def _encode_ratio(value: float | Decimal | Fraction, walk: Walk) -> bytes:
    numerator, denominator = value.as_integer_ratio()
    whole = encode_int(numerator, walk)
    return whole if denominator == 1 else b"q" + whole + encode_int(denominator, walk)


def _encode_float(value: float, walk: Walk) -> bytes:
    return _encode_ratio(value, walk) if isfinite(value) else PLAIN[float](value, walk)


def _encode_complex(value: complex, walk: Walk) -> bytes:
    real = _encode_float(value.real, walk)
    return real if value.imag == 0 else b"j" + real + _encode_float(value.imag, walk)


def _encode_decimal(value: Decimal, walk: Walk) -> bytes:
    if value.is_nan():
        return PLAIN[float](nan, walk)
    if value.is_infinite():
        return PLAIN[float](inf if value > 0 else -inf, walk)
    if not value:
        return encode_int(0, walk)
    if abs(value.adjusted()) > _MAX_EXPONENT:
        raise Refusal(value, f"typed=False cannot compare a decimal beyond 1e±{_MAX_EXPONENT}")
    return _encode_ratio(value, walk)


#: As :data:`~acache.keys.plain.PLAIN`, and as :data:`~acache.keys.standard.STANDARD`.
LOOSE_PLAIN: Final[Mapping[type, Encoder]] = {**PLAIN, bool: encode_int, float: _encode_float, complex: _encode_complex}
LOOSE_STANDARD: Final[Mapping[str, Encoder]] = {
    **STANDARD,
    "decimal.Decimal": _encode_decimal,
    "fractions.Fraction": _encode_ratio,
}
