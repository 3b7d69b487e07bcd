"""Which entry goes when a memory tier is full: policies as pure data structures, behind one small protocol.

A hit only sets a bit on its node, whatever the policy, so that it needs neither a call nor a lock; where the entry has a
time, a hot path also notes when. A policy sees the bit when it looks for a victim, and does then what it would have done at
the hit: many hits between two looks count as one. How far that is from the policies of the books was measured by
``benchmarks/eviction.py``; each module says it.

- ``lfu``, the default: :class:`TinyLfu`, for any load.
- ``sieve``: :class:`Sieve`, for loads where nearly everything is an insert, which costs three quarters then.
- ``lru``: :class:`SecondChance`, for loads where what was used last is used next.
- ``cost``: :class:`LeastLoss`, where recomputing takes milliseconds here and minutes there.
"""

from acache.tiers.eviction.choice import POLICIES, PolicyName, make_policy
from acache.tiers.eviction.loss import LeastLoss
from acache.tiers.eviction.node import DEAD, Node
from acache.tiers.eviction.policy import Policy
from acache.tiers.eviction.second_chance import SecondChance
from acache.tiers.eviction.sieve import Sieve
from acache.tiers.eviction.sketch import Sketch
from acache.tiers.eviction.tiny_lfu import TinyLfu

__all__ = (
    "DEAD",
    "POLICIES",
    "LeastLoss",
    "Node",
    "Policy",
    "PolicyName",
    "SecondChance",
    "Sieve",
    "Sketch",
    "TinyLfu",
    "make_policy",
)
