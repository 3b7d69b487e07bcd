"""One call over tiers and flights: the plan (pure), the options, and the engine that carries it out."""

from acache.engine.call import Call as Call
from acache.engine.call import Found as Found
from acache.engine.core import Engine as Engine
from acache.engine.deferred import DeferredRecording as DeferredRecording
from acache.engine.determinism import Determinism as Determinism
from acache.engine.determinism import Strictness as Strictness
from acache.engine.explain import Explanation as Explanation
from acache.engine.options import CopyMode as CopyMode
from acache.engine.options import FlightLevel as FlightLevel
from acache.engine.options import OnUnencodable as OnUnencodable
from acache.engine.options import Options as Options
from acache.engine.options import StoreIf as StoreIf
from acache.engine.plan import Mode as Mode
from acache.engine.plan import Route as Route
from acache.engine.plan import Verb as Verb
from acache.engine.plan import plan as plan

__all__ = (
    "Call",
    "CopyMode",
    "DeferredRecording",
    "Determinism",
    "Engine",
    "Explanation",
    "FlightLevel",
    "Found",
    "Mode",
    "OnUnencodable",
    "Options",
    "Route",
    "StoreIf",
    "Strictness",
    "Verb",
    "plan",
)
