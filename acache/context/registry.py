"""The forms there are, and who hears when keys change.

The time between two changes is an *era*. An era has its own tables of what was made of its forms, and is replaced whole: what
is still being made when it ends goes into its tables, which nobody reads any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from acache.callables import is_coroutine_function
from acache.context.builtin import BUILT_IN
from acache.context.forms import Form, Kind
from acache.context.reading import Isolation
from acache.context.selected import follow
from acache.exceptions import ConfigurationError
from acache.listeners import Callback, Listeners
from acache.mutexes import make_mutex

__all__ = ("REGISTRY", "CompileContext", "Era", "Registry", "RuntimeContext", "on_reprobe", "register_form")

_Forms = Mapping[str, Form]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Era:
    """The forms by name, and the isolation of plain calls by schema, while nothing changes."""

    runtime: _Forms
    compile: _Forms
    isolations: dict[object, Isolation] = field(default_factory=dict[object, Isolation])

    def forms(self, kind: Kind) -> _Forms:
        """Return the forms of one half."""
        return self.runtime if kind == "runtime" else self.compile


@final
class Registry:
    """The forms of this process. Reading takes no lock; changes are made one at a time."""

    __slots__ = ("_holders", "_lock", "era", "listeners")

    def __init__(self) -> None:
        by_kind: dict[Kind, dict[str, Form]] = {"runtime": {}, "compile": {}}
        for form in BUILT_IN:
            by_kind[form.kind][form.name] = form
        self.era = Era(by_kind["runtime"], by_kind["compile"])
        self.listeners = Listeners("isolation")
        #: Who registered a form and has not ended that. Those of acache have no entry.
        self._holders: dict[Form, set[object]] = {}
        self._lock = make_mutex()

    def begin_era(self) -> None:
        """Throw away what was made of the forms."""
        with self._lock:
            self.era = Era(self.era.runtime, self.era.compile)

    def hold(self, form: Form, holder: object, *, replace: bool) -> Form:
        """Register ``form``, or join the one that is there; return the one that is."""
        with self._lock:
            present = self.era.forms(form.kind).get(form.name)
            if present is not None and present not in self._holders:
                raise ConfigurationError(form.label, "acache has a form of this name: choose another one")
            if present is not None and (present.probe, present.volatile) == (form.probe, form.volatile):
                self._holders[present].add(holder)
                return present
            if present is not None and not replace:
                raise ConfigurationError(
                    form.label, "it is registered with another probe: pass replace=True to change it"
                )
            if present is not None:
                del self._holders[present]
            self._holders[form] = {holder}
            self._set({**self.era.forms(form.kind), form.name: form}, form.kind)
        self.listeners.tell()
        return form

    def release(self, form: Form, holder: object) -> None:
        """Let go of ``form``; with its last holder it goes."""
        with self._lock:
            holders = self._holders.get(form, set())
            if holder not in holders:
                return  # it has been let go before, or replaced
            holders.remove(holder)
            if holders:
                return
            del self._holders[form]
            kept = {name: each for name, each in self.era.forms(form.kind).items() if each is not form}
            self._set(kept, form.kind)
        self.listeners.tell()

    def _set(self, forms: _Forms, kind: Kind) -> None:
        runtime = forms if kind == "runtime" else self.era.runtime
        self.era = Era(runtime, forms if kind == "compile" else self.era.compile)
        follow(kind, forms.values())


REGISTRY: Final = Registry()


def register_form(
    kind: Kind, name: str, probe: Callable[[], object], volatile: bool = False, *, replace: bool = False
) -> Callable[[], None]:
    """Add a form to the keys of every schema that selects it, by ``True`` or by name; the function returned ends that.

    ``probe`` returns, or is a coroutine function that returns, what JSON can hold. It is called once in the life of the
    process, in a thread of its own if it is a plain function and else on acache's event loop, and sees no scope; whoever
    waits for a key meanwhile waits for it. A ``volatile`` one is called for each key, in the caller's own task or
    thread: a plain one must be quick, and a sync call cannot wait for an async one where an event loop runs. With a volatile form
    in its schema, no call is served without a key.

    A probe that raises, or returns what JSON cannot hold, is a :class:`~acache.exceptions.ConfigurationError` of the calls that
    need it, and is called again for the next one. A memoized function that a probe calls needs a schema without its form.

    The same probe may be registered again, and lasts until all have ended it. Raises
    :class:`~acache.exceptions.ConfigurationError` for a name that is taken; ``replace=True`` puts the probe in place of another,
    but for acache's own forms.
    """
    _check(kind, name, probe)
    holder = object()
    new = Form(kind, name, probe, bool(volatile), is_async=is_coroutine_function(probe))
    form = REGISTRY.hold(new, holder, replace=replace)

    def unregister() -> None:
        REGISTRY.release(form, holder)

    return unregister


def _check(kind: object, name: object, probe: object) -> None:
    if kind not in ("compile", "runtime"):
        raise ConfigurationError("register_form", "the kind of a form is 'compile' or 'runtime'")
    if not isinstance(name, str) or not name:
        raise ConfigurationError("register_form", "the name of a form is a text that is not empty")
    if not callable(probe):
        raise ConfigurationError("register_form", f"the probe of {kind} form {name!r} cannot be called")


def on_reprobe(callback: Callback) -> Callable[[], None]:
    """Call ``callback()`` whenever keys may have changed without a volatile form; the function returned ends that.

    That is when forms are probed again, registered or unregistered, in the thread that did it, or that noticed that torch
    has been imported. A bound method does not keep its object alive. A callback that fails is logged with its type only.
    Callbacks are called one at a time, and the last call comes after the last change.
    """
    return REGISTRY.listeners.add(callback)


@final
class RuntimeContext:
    """The half of the environment that is about how code runs."""

    @staticmethod
    def forms_of_context() -> tuple[str, ...]:
        """Return the names of the runtime forms of this moment, sorted."""
        return tuple(sorted(REGISTRY.era.runtime))


@final
class CompileContext:
    """The half of the environment that is about how code was built, and what for."""

    @staticmethod
    def forms_of_context() -> tuple[str, ...]:
        """Return the names of the compile forms of this moment, sorted."""
        return tuple(sorted(REGISTRY.era.compile))
