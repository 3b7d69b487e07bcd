"""Configuration that cannot work is refused where it is given, by the name of the option."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from acache import ChainTier, DeterministicCache, DiskTier, FastCache, MemoryTier, Signer, SyncCache, run_sync
from acache.exceptions import ConfigurationError

KEY = b"k" * 32


class BytesPath(os.PathLike[bytes]):
    """A path that is no text."""

    def __fspath__(self) -> bytes:
        return b"secret"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DiskTier(cast("Any", None)), "^directory: expected a path, as a text or a Path, not NoneType$"),
        (lambda: DiskTier(cast("Any", b"secret")), "^directory: expected a path, as a text or a Path, not bytes$"),
        (
            lambda: DiskTier(cast("Any", BytesPath())),
            "^directory: expected a path, as a text or a Path, not BytesPath$",
        ),
        (lambda: DiskTier("/x", sub_dir=cast("Any", 5)), "^sub_dir: expected a path, as a text or a Path, not int$"),
        (lambda: SyncCache(cast("Any", 5)), r"^cache: expected one, such as FastCache\(\), not int$"),
        (lambda: run_sync(cast("Any", 5)), "^run_sync: expected an async function, then its arguments, not .* int$"),
        (lambda: run_sync(cast("Any", len), "secret"), "^run_sync: .* returned nothing to await: call it directly$"),
    ],
)
def test_what_is_of_another_kind(make: Callable[[], object], text: str) -> None:
    """A path, a cache or an async function that is none is named, with what to give, and without its value."""
    with pytest.raises(ConfigurationError, match=text):
        make()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host_timeout": float("nan")}, r"^host_timeout: expected seconds"),
        ({"host_timeout": -5}, r"^host_timeout: expected seconds"),
        ({"host_timeout": "x"}, r"^host_timeout: expected a number of seconds, not str"),
        ({"host_timeout": True}, r"^host_timeout: expected a number of seconds, not bool"),
        ({"namespace": None}, r"^namespace: expected a text \('' is none\), not NoneType"),
        ({"namespace": 5}, r"^namespace: expected a text \('' is none\), not int"),
    ],
)
def test_options_of_caches(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    """A timeout that is no number of seconds, and a namespace that is no text, would fail at the first call."""

    def deterministic(**given: Any) -> DeterministicCache:
        return DeterministicCache(DiskTier(tmp_path), **given)

    makers: tuple[Callable[..., object], ...] = (FastCache, FastCache.from_url, deterministic)
    for make in makers:
        with pytest.raises(ConfigurationError, match=text):
            make(**options)


@pytest.mark.parametrize(
    ("tier", "kind"), [(5, "a int"), (MemoryTier, "the class MemoryTier"), ("memory://", "a str"), (None, "a NoneType")]
)
def test_what_is_no_tier(tier: Any, kind: str) -> None:
    """A number, a class or a URL in the place of a tier is an error that says how tiers are made."""
    makers: tuple[Callable[..., object], ...] = (FastCache, DeterministicCache, ChainTier)
    for make in makers:
        with pytest.raises(
            ConfigurationError, match=rf"^tiers: expected tiers, such as MemoryTier\(\), not {kind}; from_url"
        ):
            make(MemoryTier(), tier)


@pytest.mark.parametrize("signer", [KEY, KEY.decode(), Signer], ids=["bytes", "text", "class"])
def test_what_is_no_signer(tmp_path: Path, signer: Any) -> None:
    """A key is no signer: a tier that took one would sign nothing; and the message does not show it."""
    makers: tuple[Callable[..., object], ...] = (partial(DiskTier, tmp_path), DeterministicCache)
    for make in makers:
        with pytest.raises(
            ConfigurationError, match=r"^signer: expected a Signer, as in signer=Signer\(key\)"
        ) as caught:
            make(signer=signer)
        assert "kkk" not in str(caught.value)
    DiskTier(tmp_path, signer=Signer(KEY))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"typed": "no"}, r"^typed: .*\.f needs True or False, not a str$"),
        ({"typed": 0}, r"^typed: .*\.f needs True or False, not a int$"),
        ({"typed": None}, r"^typed: .*\.f needs True or False, not a NoneType$"),
        ({"copy": None}, r"^copy: .*choose one of share, deepcopy, decode$"),
        ({"copy": "shallow"}, r"^copy: .*choose one of share, deepcopy, decode$"),
        ({"on_unencodable": None}, r"^on_unencodable: .*choose one of raise, warn$"),
        ({"ignore": 5}, r"^ignore: .*f needs the name of a parameter, or a tuple of names"),
        ({"ignore": None}, r"^ignore: .*f needs the name"),
        ({"ignore": (5,)}, r"^ignore: .*f needs the name"),
        ({"ignore": b"log"}, r"^ignore: .*f needs the name"),
        ({"ignore": ("log", None)}, r"^ignore: .*f needs the name"),
        # It would be empty for the second function that the decorator is used on.
        ({"ignore": iter(("log",))}, r"^ignore: .*f needs the name"),
    ],
)
def test_options_of_functions(options: dict[str, Any], text: str) -> None:
    """What an option cannot be is an error at decoration, and the function joins no cache."""
    cache = FastCache()

    def f(x: int, log: object = None, **rest: object) -> int:
        return x

    with pytest.raises(ConfigurationError, match=text):
        cache.memoize(**options)(f)
    assert cache.statistics().functions == {}


def test_a_text_to_ignore_is_one_name() -> None:
    """ignore="log" leaves out the parameter of that name, and no keyword that is a letter of it."""
    cache = FastCache()

    @cache.memoize(ignore="log")
    def f(x: int, log: object = None, **rest: object) -> tuple[int, dict[str, object]]:
        return x, rest

    assert f(1, l=1) == (1, {"l": 1})
    assert f(1, l=2) == (1, {"l": 2})
    assert f.cache_key(1, log=1) == f.cache_key(1, log=2)
    for ignore in ("log", ["log"], {"log"}, ("log",)):
        g = cache.memoize(ignore=ignore, version=str(ignore))(f.__wrapped__)
        assert g.cache_key(1, log=1) == g.cache_key(1)


async def test_what_cannot_be_called() -> None:
    """A value in the place of a factory or of a sink is refused before anything happens."""
    cache = FastCache()
    not_callable: Any = 5
    with pytest.raises(ConfigurationError, match=r"^factory: expected a function that makes the value, not a int$"):
        await cache.get_or_set("k", not_callable)
    with pytest.raises(ConfigurationError, match=r"^sink: expected a function of one event, not a int$"):
        cache.events.subscribe(not_callable)
    assert not cache.events.active
    assert await cache.get_or_set("k", lambda: 1) == 1
