"""Eviction policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from acache.exceptions import ConfigurationError
from acache.tiers.eviction.loss import LeastLoss
from acache.tiers.eviction.policy import Policy
from acache.tiers.eviction.second_chance import SecondChance
from acache.tiers.eviction.sieve import Sieve
from acache.tiers.eviction.tiny_lfu import TinyLfu

__all__ = ("POLICIES", "PolicyName", "make_policy")

PolicyName: TypeAlias = Literal["lfu", "sieve", "lru", "cost"]

#: What makes each policy.
POLICIES: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {"lfu": TinyLfu, "sieve": Sieve, "lru": SecondChance, "cost": LeastLoss}
)


def make_policy(name: str) -> Policy:
    """Make an empty policy; raise :class:`~acache.exceptions.ConfigurationError` for a name that is not known."""
    if name not in tuple(POLICIES):  # a tuple: what cannot be hashed is no name either
        raise ConfigurationError("policy", f"unknown; known policies: {', '.join(POLICIES)}")
    return POLICIES[name]()
