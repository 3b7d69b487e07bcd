"""Which forms a key contains, and which questions that comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast, final

from acache.context.builtin import SCOPE
from acache.context.forms import Form, Kind, Names, Question
from acache.context.registry import REGISTRY, Era
from acache.context.selected import CompileSelection, RuntimeSelection
from acache.exceptions import ConfigurationError

__all__ = ("DEFAULT_SCHEMA", "IsolationSchema", "Plan", "check_schema", "plan_of")

#: Every form there is when a key is made, or these, sorted, with the names that each was given.
_Half: TypeAlias = Literal[True] | tuple[tuple[str, Names], ...]


@final
class IsolationSchema:
    """Which forms of the environment are part of a key.

    Each half is ``True`` (every form that is registered when the key is made), ``False`` (none), or a mapping of form names to
    booleans; ``packages`` and ``environment`` take the names of distributions and variables instead, and hold none without.
    Schemas are values: immutable, equal when they select the same. Raises
    :class:`~acache.exceptions.ConfigurationError`, saying what is known, for an unknown form or what is no selection.
    """

    __slots__ = ("_compile", "_hash", "_runtime", "is_scoped")

    def __init__(self, runtime_context: RuntimeSelection = True, compile_context: CompileSelection = True) -> None:
        self._runtime: _Half = _checked("runtime", runtime_context)
        self._compile: _Half = _checked("compile", compile_context)
        #: Whether the factors of scopes are part of the key.
        self.is_scoped: Final = self._runtime is True or (SCOPE.name, ()) in self._runtime
        # Kept, because every key that is made looks its schema up.
        self._hash = hash((self._runtime, self._compile))

    @property
    def runtime_context(self) -> RuntimeSelection:
        """What is selected of the runtime forms."""
        return _shown(self._runtime)

    @property
    def compile_context(self) -> CompileSelection:
        """What is selected of the compile forms."""
        return _shown(self._compile)

    @property
    def is_volatile(self) -> bool:
        """Whether the key of a plain call may change from call to call: a selected form is volatile.

        Forms come and go: ask again after :func:`~acache.context.on_reprobe` has told so. Raises
        :class:`~acache.exceptions.ConfigurationError` if a form that is selected by name has been unregistered.
        """
        return plan_of(self, REGISTRY.era).is_volatile

    def half(self, kind: Kind) -> _Half:
        """Return what is selected of one half, in one order."""
        return self._runtime if kind == "runtime" else self._compile

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IsolationSchema):
            return NotImplemented
        return (self._runtime, self._compile) == (other._runtime, other._compile)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"IsolationSchema(runtime_context={self.runtime_context}, compile_context={self.compile_context})"

    def __reduce__(self) -> tuple[type[IsolationSchema], tuple[RuntimeSelection, CompileSelection]]:
        # Not the slots: a hash of texts is of one process only.
        return IsolationSchema, (self.runtime_context, self.compile_context)


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """The questions whose answers make a key; without the scope, which is not asked of the process."""

    runtime: tuple[Question, ...]
    compile: tuple[Question, ...]
    is_scoped: bool
    is_volatile: bool
    #: Whether some answer has to be awaited each time.
    is_awaited: bool


@lru_cache(maxsize=256)
def plan_of(schema: IsolationSchema, era: Era) -> Plan:
    """Return what to ask for ``schema``. Raises for a form that is not there any more."""
    runtime, compile_ = _questions("runtime", schema, era), _questions("compile", schema, era)
    volatile = [question for question in (*runtime, *compile_) if question.is_volatile]
    is_awaited = any(question.form.is_async for question in volatile)
    return Plan(runtime, compile_, schema.is_scoped, bool(volatile), is_awaited)


def _questions(kind: Kind, schema: IsolationSchema, era: Era) -> tuple[Question, ...]:
    half = schema.half(kind)
    chosen = [(name, ()) for name in sorted(era.forms(kind))] if half is True else half
    questions = (Question(_form(kind, name, era), names) for name, names in chosen)
    return tuple(question for question in questions if question.form is not SCOPE)


def _form(kind: Kind, name: object, era: Era) -> Form:
    forms = era.forms(kind)
    if not isinstance(name, str) or name not in forms:
        known = ", ".join(sorted(forms))
        raise ConfigurationError(f"{kind}_context", f"unknown form {name!r}; known forms: {known}")
    return forms[name]


def _checked(kind: Kind, selection: object) -> _Half:
    if isinstance(selection, bool):
        return selection or ()
    if not isinstance(selection, Mapping):
        detail = f"expected True, False or a mapping of form names, not {type(selection).__name__}"
        raise ConfigurationError(f"{kind}_context", detail)
    era = REGISTRY.era
    chosen: list[tuple[str, Names]] = []
    for name, value in cast("Mapping[object, object]", selection).items():
        form = _form(kind, name, era)
        names = _names(form, value)
        if names is not None:
            chosen.append((form.name, names))
    return tuple(sorted(chosen))


def _names(form: Form, value: object) -> Names | None:
    """Return the names that ``value`` gives to ``form``; ``None`` if it does not select it."""
    if isinstance(value, bool):
        return () if value else None
    if not form.takes_names:
        raise ConfigurationError(form.label, f"it is selected by True or False, not by a {type(value).__name__}")
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, AbstractSet)):
        detail = f"it takes True, False or a sequence of names, such as ('NAME',), not a {type(value).__name__}"
        raise ConfigurationError(form.label, detail)
    names = cast("Sequence[object] | AbstractSet[object]", value)
    texts = [name for name in names if isinstance(name, str) and name]
    if len(texts) < len(names):
        raise ConfigurationError(form.label, "each of its names is a text that is not empty")
    return tuple(sorted(set(texts)))


def _shown(half: _Half) -> bool | Mapping[str, bool | Names]:
    return half if half is True else bool(half) and {name: names or True for name, names in half}


def check_schema(user: str, schema: object) -> IsolationSchema:
    """Return ``schema``. Raises :class:`~acache.exceptions.ConfigurationError`, saying what ``user`` needs, if it is none."""
    if not isinstance(schema, IsolationSchema):
        raise ConfigurationError("ischema", f"{user} needs an IsolationSchema, not a {type(schema).__name__}")
    return schema


DEFAULT_SCHEMA: Final = IsolationSchema()
