"""Tools for tests that need a cache to behave the same in every run. Nothing in acache imports them.

pytest finds the fixtures of :mod:`acache.testing.plugin` by itself; the contract suites for tiers are in
:mod:`acache.testing.contracts`.
"""

from acache.testing.clock import ManualClock as ManualClock
from acache.testing.counter import ComputeCounter as ComputeCounter
from acache.testing.faults import Call as Call
from acache.testing.faults import FaultyTier as FaultyTier
from acache.testing.faults import Hang as Hang
from acache.testing.gate import Gate as Gate
from acache.testing.sequencer import Sequencer as Sequencer
from acache.testing.sequencer import Turn as Turn
from acache.testing.steps import SweepStep as SweepStep
from acache.testing.steps import cancel_sweep as cancel_sweep
from acache.testing.steps import settle as settle

__all__ = (
    "Call",
    "ComputeCounter",
    "FaultyTier",
    "Gate",
    "Hang",
    "ManualClock",
    "Sequencer",
    "SweepStep",
    "Turn",
    "cancel_sweep",
    "settle",
)
