"""Which functions share one cache: their identities, and the statistics that belong to an identity.

One identity (module, qualified name, version) is one key space. A second function of the same identity is welcome when it
is the same code with the same captured values (a local function made again, a module reloaded), and refused otherwise:
it would be served the first one's results. A function that was let in once is not compared again: what it captured may
change while it runs, and it is still the same function.

With ``key=`` the user names the calls, of both functions in one key space. A callable can tell them apart, or mean one call by
one key, so it is trusted. A template cannot: other code under the same template is refused. What was captured may differ there:
a connection, say, that makes no difference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

from acache.engine import check_count
from acache.exceptions import DuplicateIdentityError
from acache.keys import KeyRecipe, differs, fingerprint
from acache.locks import Limiter
from acache.memoize.function import Memoized
from acache.mutexes import make_mutex
from acache.stats import NO_REMOVALS, CacheInfo, CallCounters

__all__ = ("Registry", "add_infos")


@final
class Registry:
    """The functions memoized on one cache."""

    def __init__(self) -> None:
        self._mutex = make_mutex()
        self._counters: dict[str, tuple[str, CallCounters]] = {}
        self._fingerprints: dict[tuple[str, str | None], str] = {}
        #: The functions that were compared and let in, by key space and address; one that is gone has no entry.
        self._admitted: weakref.WeakValueDictionary[tuple[str, str | None, int], Callable[..., Any]] = (
            weakref.WeakValueDictionary()
        )
        self._limiters: dict[tuple[str, int], Limiter] = {}
        self._by_function: weakref.WeakValueDictionary[int, Memoized] = weakref.WeakValueDictionary()
        #: More than those: one function may be memoized under several verbs.
        self._all: weakref.WeakSet[Memoized] = weakref.WeakSet()

    def admit(self, recipe: KeyRecipe, key: Callable[..., Any] | str | None) -> CallCounters:
        """Register an identity, with the option ``key``, and return its counters.

        Raises :class:`~acache.exceptions.DuplicateIdentityError` for other code or other captured values, with a template as
        ``key`` for other code under the same one, and with a callable never.
        """
        if not callable(key):
            self._compare(recipe, key)
        with self._mutex:
            return self._counters.setdefault(recipe.prefix, (recipe.label, CallCounters()))[1]

    def _compare(self, recipe: KeyRecipe, template: str | None) -> None:
        function = recipe.identity.function  # what methods, partials and callable objects come down to
        place = recipe.prefix, template, id(function)
        # An id may be used again after its function is gone: trust the function, not the id.
        if self._admitted.get(place) is function:
            return
        mark = fingerprint(function)
        with self._mutex:
            difference = differs(mark, self._fingerprints.setdefault((recipe.prefix, template), mark))
            is_same = not difference or (template is not None and difference != "code")
            # Let in by another thread meanwhile: it may have changed since.
            if is_same or self._admitted.get(place) is function:
                with suppress(TypeError):  # a few callables cannot be referred to weakly: they are compared each time
                    self._admitted[place] = function
                return
        raise DuplicateIdentityError(recipe.label, difference)

    def limiter(self, recipe: KeyRecipe, given: object) -> Limiter | None:
        """Return what lets ``given`` computations of an identity run at once; one for all who ask for as many.

        Raises :class:`~acache.exceptions.ConfigurationError` for what is no number of places.
        """
        places = check_count("max_concurrency", recipe.label, given)
        if places is None:
            return None
        with self._mutex:
            return self._limiters.setdefault((recipe.prefix, places), Limiter(places))

    def add(self, memoized: Memoized) -> None:
        """Remember a memoized function for as long as somebody holds it."""
        identity = memoized.recipe.identity
        cells = memoized.cells
        weakref.finalize(memoized, memoized.counters.count_quiet(lambda: cells.hits)).atexit = False
        with self._mutex:
            if identity.bound == ((), {}):  # else it stands for calls with those arguments only
                self._by_function[id(identity.function)] = memoized
            self._all.add(memoized)

    def find(self, function: Callable[..., Any]) -> Memoized | None:
        """Return what a raw function was memoized as, the last time."""
        memoized = self._by_function.get(id(function))
        # An id may be used again after its function is gone: trust the function, not the id.
        return memoized if memoized is not None and memoized.recipe.identity.function is function else None

    def alive(self) -> list[Memoized]:
        """Return the memoized functions that somebody still holds."""
        with self._mutex:
            return list(self._all)

    def infos(self) -> dict[str, CacheInfo]:
        """Return the statistics of each identity, by label; identities of one label are added up."""
        with self._mutex:
            counted = list(self._counters.items())
            shares = {memoized.recipe.prefix: memoized for memoized in self._all}
        result: dict[str, CacheInfo] = {}
        for prefix, (label, counters) in counted:
            share = shares.get(prefix)
            now = None if share is None else share.cache_info()
            info = counters.info(
                maxsize=None if now is None else now.maxsize,
                currsize=0 if now is None else now.currsize,
                removals=NO_REMOVALS if now is None else {cause: getattr(now, cause) for cause in NO_REMOVALS},
            )
            result[label] = info if label not in result else add_infos(result[label], info)
        return result


def add_infos(one: CacheInfo, other: CacheInfo) -> CacheInfo:
    """Add the counts of two; both are of one memory tier."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in CacheInfo._fields if name != "maxsize"}
    return CacheInfo(maxsize=one.maxsize if one.maxsize is not None else other.maxsize, **sums)
