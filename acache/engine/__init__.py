"""One call over tiers and flights: the plan (pure), the options, and the engine that carries it out."""

from acache.engine.batching import Batcher as Batcher
from acache.engine.bulk import find_many as find_many
from acache.engine.bulk import look_up_many as look_up_many
from acache.engine.bulk import put_many as put_many
from acache.engine.bulk import run_many as run_many
from acache.engine.call import Call as Call
from acache.engine.call import Costed as Costed
from acache.engine.call import Failure as Failure
from acache.engine.call import Found as Found
from acache.engine.call import Tagging as Tagging
from acache.engine.core import Engine as Engine
from acache.engine.deferred import DeferredRecording as DeferredRecording
from acache.engine.determinism import Determinism as Determinism
from acache.engine.determinism import Strictness as Strictness
from acache.engine.explain import Explanation as Explanation
from acache.engine.freshness import Freshness as Freshness
from acache.engine.freshness import Timing as Timing
from acache.engine.options import CacheExceptions as CacheExceptions
from acache.engine.options import CopyMode as CopyMode
from acache.engine.options import FlightLevel as FlightLevel
from acache.engine.options import OnUnencodable as OnUnencodable
from acache.engine.options import Options as Options
from acache.engine.options import StoreIf as StoreIf
from acache.engine.options import Ttl as Ttl
from acache.engine.options import check_callable as check_callable
from acache.engine.options import check_count as check_count
from acache.engine.plan import Mode as Mode
from acache.engine.plan import Route as Route
from acache.engine.plan import Step as Step
from acache.engine.plan import Verb as Verb
from acache.engine.plan import plan as plan
from acache.engine.plan import step as step
from acache.engine.storing import refuse_unrepeatable as refuse_unrepeatable

__all__ = (
    "Batcher",
    "CacheExceptions",
    "Call",
    "CopyMode",
    "Costed",
    "DeferredRecording",
    "Determinism",
    "Engine",
    "Explanation",
    "Failure",
    "FlightLevel",
    "Found",
    "Freshness",
    "Mode",
    "OnUnencodable",
    "Options",
    "Route",
    "Step",
    "StoreIf",
    "Strictness",
    "Tagging",
    "Timing",
    "Ttl",
    "Verb",
    "check_callable",
    "check_count",
    "find_many",
    "look_up_many",
    "plan",
    "put_many",
    "refuse_unrepeatable",
    "run_many",
    "step",
)
