"""Which entries eviction keeps: hit ratios of each policy against the optimum and against peers, and what an insert costs.

The traces are made here, from seeds. The optimum is Belady's: it evicts what is asked for again last, which takes knowing
the future (L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", 1966). "exact" rows are our
policies told of every hit at once, where the real ones see a bit later; the difference is what a hit without a call costs. "disk" rows
are a limited directory, which hears of hits once a minute, while a request comes each second.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from time import perf_counter
from typing import Any, Final, TypeAlias, get_args

import cachebox
import cachetools
import theine

from acache.files import DISK_POLICIES, DiskPolicy
from acache.tiers import MemoryTier
from acache.tiers.eviction import POLICIES, Node, PolicyName
from acache.types import Entry, Key
from benchmarks.directory import on_disk
from benchmarks.harness import Benchmark, Measure, Run
from benchmarks.result import Bound, Result, ratio

__all__ = ("BENCHMARK",)

INSERT_LIMIT: Final = 2.0
#: Percentage points that the default may be behind the better of LRU and W-TinyLFU.
POINTS_LIMIT: Final = 2.0
#: Sizes of the caches, in percent of the keys there are.
SIZES: Final = (1, 5, 20)
DEFAULT: Final = MemoryTier().policy
LRU_EXACT, LFU_EXACT = "lru exact", "lfu exact"
CACHETOOLS: Final = "cachetools LRUCache"
PEERS: Final[dict[str, Callable[[int], Any]]] = {
    CACHETOOLS: cachetools.LRUCache,
    "cachebox LRUCache": cachebox.LRUCache,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in their order; a key is a number, and has a cost in seconds."""

    name: str
    requests: Sequence[int]
    costs: Sequence[float]

    def sizes(self) -> list[int]:
        """Return how many entries fit into the caches it is played to."""
        return [max(2, len(self.costs) * percent // 100) for percent in SIZES]


#: Plays a trace to a cache of a size; returns which requests were hits.
Player: TypeAlias = Callable[[Trace, int], list[bool]]


# --- traces -----------------------------------------------------------------------------------------------------------


def zipf(keys: int, skew: float, chance: random.Random) -> Iterator[int]:
    """Ask for number ``n`` in proportion to 1 / n**skew, for ever."""
    shares = list(accumulate((number + 1) ** -skew for number in range(keys)))
    names = list(range(keys))
    chance.shuffle(names)
    while True:
        yield names[bisect_left(shares, chance.random() * shares[-1])]


def zipf_trace(requests: int) -> Trace:
    """Make most of the requests for few keys."""
    keys = requests // 10
    source = zipf(keys, 0.9, random.Random(1))
    return Trace("zipf", [next(source) for _ in range(requests)], [1.0] * keys)


def scan_trace(requests: int) -> Trace:
    """Do as above for half of the requests; the others are scans: runs of keys in their order, each asked for once in a scan."""
    keys, run = requests // 10, requests // 40
    source, chance = zipf(keys, 0.9, random.Random(2)), random.Random(3)
    made: list[int] = []
    while len(made) < requests:
        made += [next(source) for _ in range(run)]
        start = chance.randrange(keys)
        made += [keys + (start + step) % (4 * keys) for step in range(run)]
    return Trace("scan", made[:requests], [1.0] * 5 * keys)


def loop_trace(requests: int) -> Trace:
    """Ask for all keys in turn, over and over: the worst there is for LRU."""
    keys = requests // 40
    return Trace("loop", [number % keys for number in range(requests)], [1.0] * keys)


def compile_trace(requests: int) -> Trace:
    """Play a compile service: models ask for all their kernels, some models often; between them rows of an autotuner.

    Kernels take from 0.1 seconds to minutes, rows a millisecond. Models come up and go out of fashion.
    """
    chance = random.Random(4)
    keys = requests // 10
    kernels = keys // 4
    costs = [min(300.0, 0.1 + chance.lognormvariate(0.5, 1.5)) for _ in range(kernels)] + [0.001] * (keys - kernels)
    models = [sorted(chance.sample(range(kernels), max(1, kernels // 25))) for _ in range(60)]
    popular = zipf(20, 1.0, random.Random(5))
    rows = zipf(keys - kernels, 0.6, random.Random(6))
    made: list[int] = []
    while len(made) < requests:
        fashion = 40 * len(made) // requests
        for kernel in models[fashion + next(popular)]:
            made.append(kernel)
            made += [kernels + next(rows) for _ in range(chance.randrange(4))]
    return Trace("compile", made[:requests], costs)


# --- players ----------------------------------------------------------------------------------------------------------


def ours(policy: str, *, exact: bool = False) -> Player:
    """Play to one of our policies."""

    def play(trace: Trace, size: int) -> list[bool]:
        order, nodes, hits = POLICIES[policy](), dict[Key, Node](), list[bool]()
        keys = names_of(trace)
        for number in trace.requests:
            key = keys[number]
            node = nodes.get(key)
            hits.append(node is not None)
            if node is not None:
                if exact:
                    order.touch(node)
                else:
                    node.visited = True
                continue
            if len(nodes) >= size:
                victims: list[Node] = []
                order.evict(1, victims)
                for victim in victims:
                    del nodes[victim.key]
            nodes[key] = Node(key, Entry(None, 0.0, cost=trace.costs[number]), None, 0)
            order.add(nodes[key])
        return hits

    return play


def exact_lru(trace: Trace, size: int) -> list[bool]:
    """Play to an LRU that moves an entry at each hit."""
    kept, hits = OrderedDict[int, None](), list[bool]()
    for number in trace.requests:
        hits.append(number in kept)
        if hits[-1]:
            kept.move_to_end(number)
            continue
        if len(kept) >= size:
            kept.popitem(last=False)
        kept[number] = None
    return hits


def optimum(trace: Trace, size: int) -> list[bool]:
    """Play to a cache that knows the future."""
    never = len(trace.requests)
    later = [never] * never
    last: dict[int, int] = {}
    for place in range(never - 1, -1, -1):
        later[place] = last.get(trace.requests[place], never)
        last[trace.requests[place]] = place
    kept, furthest, hits = dict[int, int](), list[tuple[int, int]](), list[bool]()
    for place, number in enumerate(trace.requests):
        hits.append(number in kept)
        kept[number] = later[place]
        heapq.heappush(furthest, (-later[place], number))
        while len(kept) > size:
            when, victim = heapq.heappop(furthest)
            if kept.get(victim) == -when:
                del kept[victim]
    return hits


def mapping(make: Callable[[int], Any]) -> Player:
    """Play to a peer that is used as a dictionary."""

    def play(trace: Trace, size: int) -> list[bool]:
        cache, hits = make(size), list[bool]()
        for number in trace.requests:
            hits.append(cache.get(number) is not None)
            if not hits[-1]:
                cache[number] = True
        return hits

    return play


def play_theine(trace: Trace, size: int) -> list[bool]:
    """Play to theine's W-TinyLFU, whose window adapts."""
    cache: Any = theine.Cache(size)
    hits: list[bool] = []
    for number in trace.requests:
        hits.append(cache.get(number)[1])
        if not hits[-1]:
            cache.set(number, True)
    cache.close()
    return hits


def directory(policy: DiskPolicy) -> Player:
    """Play to a directory with a limit."""
    return lambda trace, size: on_disk(policy, names_of(trace), trace.costs)(size, trace.requests)


def names_of(trace: Trace) -> list[Key]:
    """Return a key for each number of a trace: digests, as real ones are, from some digits of which frequencies are told."""
    return [Key(sha256(str(number).encode()).hexdigest()) for number in range(len(trace.costs))]


def players() -> dict[str, Player]:
    """Return everybody who plays, by name."""
    return {
        "optimum": optimum,
        **{policy: ours(policy) for policy in POLICIES},
        LRU_EXACT: exact_lru,
        LFU_EXACT: ours("lfu", exact=True),
        "cost exact": ours("cost", exact=True),
        "cachebox LRU": mapping(cachebox.LRUCache),
        "cachebox LFU": mapping(cachebox.LFUCache),
        "theine": play_theine,
        **{f"disk {policy}": directory(policy) for policy in DISK_POLICIES},
    }


# --- the benchmark ----------------------------------------------------------------------------------------------------


async def run(run: Run) -> Result:
    """Play all traces to all caches, then measure inserts."""
    result = Result()
    played = run.pick(100_000, 4_000)
    traces = [make(played) for make in (zipf_trace, scan_trace, loop_trace, compile_trace)]
    run.expect(len(traces))
    result.notes.append(f"hits of {played:,} requests in percent, in caches of {SIZES} percent of the keys")
    for trace in traces:
        found = {name: [play(trace, size) for size in trace.sizes()] for name, play in players().items()}
        result.notes += _describe(trace, found)
        result.bounds.append(_bound(trace, found))
        run.advance()
    entries, rounds = run.pick(100_000, 2_000), run.pick(3, 2)
    inserts = await run.in_turns(_inserting(entries, 10 * entries), rounds)
    group = f"each of {10 * entries:,} inserts into a full cache of {entries:,} entries"
    result.add(group, {f"acache, {policy}": inserts[policy] for policy in POLICIES})
    result.add(group, {name: inserts[name] for name in PEERS})
    claim = f"acache, {DEFAULT}: an insert with eviction / {CACHETOOLS}"
    result.bounds.append(Bound(claim, ratio(inserts[DEFAULT], [inserts[CACHETOOLS]]), INSERT_LIMIT))
    return result


def _percent(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def _saved(trace: Trace, hits: list[bool]) -> float:
    """Return how much of the seconds that computing everything would take the hits have saved, in percent."""
    costs = [trace.costs[number] for number in trace.requests]
    return 100 * sum(cost for cost, hit in zip(costs, hits, strict=True) if hit) / sum(costs)


def _describe(trace: Trace, found: dict[str, list[list[bool]]]) -> list[str]:
    lines = [_line(trace.name, {name: [_percent(hits) for hits in played] for name, played in found.items()})]
    if len(set(trace.costs)) > 1:
        saved = {name: [_saved(trace, hits) for hits in played] for name, played in found.items()}
        lines.append(_line(f"{trace.name}, seconds saved", saved))
    return lines


def _line(title: str, shares: dict[str, list[float]]) -> str:
    return f"{title}: " + "; ".join(f"{name} {' '.join(f'{each:.1f}' for each in row)}" for name, row in shares.items())


def _bound(trace: Trace, found: dict[str, list[list[bool]]]) -> Bound:
    default, lru, lfu = ([_percent(hits) for hits in found[name]] for name in (DEFAULT, LRU_EXACT, LFU_EXACT))
    behind = max(max(pair) - mine for mine, *pair in zip(default, lru, lfu, strict=True))
    claim = f"{trace.name}: points of {DEFAULT}, the default, behind the better of LRU and W-TinyLFU"
    return Bound(claim, max(0.0, behind), POINTS_LIMIT)


def _inserting(entries: int, inserts: int) -> dict[str, Measure]:
    digits = random.Random(7)
    keys = [Key(f"{digits.getrandbits(256):064x}") for _ in range(entries + inserts)]
    texts = [str(key) for key in keys]  # of the exact type that dictionaries are fastest with
    values = [Entry(number, 0.0) for number in range(entries + inserts)]

    def putting(policy: PolicyName) -> Measure:
        async def measure() -> float:
            tier = MemoryTier(entries, policy=policy)
            for key, value in zip(keys[:entries], values, strict=False):
                tier.put(key, value, replace=True)
            rest = list(zip(keys[entries:], values[entries:], strict=True))
            start = perf_counter()
            for key, value in rest:
                tier.put(key, value, replace=True)
            return (perf_counter() - start) / inserts

        return measure

    def setting(make: Callable[[int], Any]) -> Measure:
        async def measure() -> float:
            cache = make(entries)
            for text, value in zip(texts[:entries], values, strict=False):
                cache[text] = value
            rest = list(zip(texts[entries:], values[entries:], strict=True))
            start = perf_counter()
            for text, value in rest:
                cache[text] = value
            return (perf_counter() - start) / inserts

        return measure

    names: tuple[PolicyName, ...] = get_args(PolicyName)
    return {**{name: putting(name) for name in names}, **{name: setting(make) for name, make in PEERS.items()}}


BENCHMARK: Final = Benchmark("eviction", "Eviction: what stays, and what an insert costs", run)
