"""What an imported torch tells; a stand-in plays it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from acache.context import (
    DEFAULT_SCHEMA,
    PLAIN,
    IsolationSchema,
    isolation,
    isolation_context,
    isolation_key,
    isolation_now,
    on_reprobe,
    reprobe,
)
from acache.context.accelerator import ACCELERATOR_FORMS
from acache.exceptions import ConfigurationError
from tests.context.helpers import FakeTorch, ImportTorch

A100 = SimpleNamespace(name="A100", major=8, minor=0, total_memory=80, multi_processor_count=108, uuid="of one card")
H100 = SimpleNamespace(name="H100", major=9, minor=0, total_memory=80, multi_processor_count=132, gcnArchName="")

SCHEMA = IsolationSchema(False, dict.fromkeys(ACCELERATOR_FORMS, True))
NOTHING = {"runtime": None, "runtime_version": None, "accelerator_properties": None}


async def facts() -> dict[str, object]:
    """Return what the three forms hold."""
    return (await isolation_context(SCHEMA))["compile_context"] or {}


async def test_without_torch_there_is_nothing(import_torch: ImportTorch) -> None:
    """The three forms are null, and that does not make a schema volatile."""
    assert await facts() == NOTHING
    assert not SCHEMA.is_volatile


async def test_torch_is_never_imported(
    import_torch: ImportTorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torch that could be imported is left alone."""
    (tmp_path / "torch.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert await facts() == NOTHING
    await isolation_key()
    assert "torch" not in sys.modules


@pytest.mark.parametrize(
    ("torch", "runtime", "version"),
    [
        (FakeTorch(cuda="12.6"), "cuda", "12.6"),
        (FakeTorch(cuda=None, hip="6.2"), "hip", "6.2"),
        (FakeTorch(cuda=None), None, None),
    ],
    ids=["cuda", "hip", "cpu"],
)
async def test_torch_comes_late(
    import_torch: ImportTorch, torch: FakeTorch, runtime: str | None, version: str | None
) -> None:
    """Once torch has been imported, keys have what it was built for, though they were made without it before."""
    before = await isolation_key(SCHEMA)
    import_torch(torch)
    assert await facts() == {**NOTHING, "runtime": runtime, "runtime_version": version}
    assert (await isolation_key(SCHEMA) != before) == (runtime is not None)
    assert not SCHEMA.is_volatile


async def test_devices_come_later(import_torch: ImportTorch) -> None:
    """The properties of devices are known once they have been initialised: each kind once, in one order."""
    torch = FakeTorch(devices=(H100, A100, A100))
    import_torch(torch)
    before = await isolation()
    assert (await facts())["accelerator_properties"] is None
    torch.initialized = True
    kinds = {"total_memory": 80, "gcnArchName": None, "minor": 0}
    assert (await facts())["accelerator_properties"] == [
        {**kinds, "name": "A100", "major": 8, "multi_processor_count": 108},
        {**kinds, "name": "H100", "major": 9, "multi_processor_count": 132, "gcnArchName": ""},
    ]
    after = await isolation()
    assert {name for name, each in after.factors.items() if before.factors[name] != each} == {
        "compile.accelerator_properties"
    }


async def test_what_is_known_stays(import_torch: ImportTorch) -> None:
    """Once all is known, torch is not looked at any more, as in a forked child, whose torch says otherwise."""
    torch = FakeTorch(devices=(A100,))
    torch.initialized = True
    import_torch(torch)
    known = isolation_now(DEFAULT_SCHEMA, PLAIN)
    other = await facts()
    torch.initialized = False
    torch.version.cuda = "13.0"
    assert isolation_now(DEFAULT_SCHEMA, PLAIN) is known
    assert await facts() == other
    reprobe()
    assert await facts() == {"runtime": "cuda", "runtime_version": "13.0", "accelerator_properties": None}


async def test_who_keeps_keys_is_told(import_torch: ImportTorch) -> None:
    """A listener hears when torch has come, and when its devices have, once each."""
    heard: list[int] = []
    stop = on_reprobe(lambda: heard.append(1))
    torch = FakeTorch(devices=(A100,))
    counts = [len(heard)]
    for initialized in (False, True):
        torch.initialized = initialized
        import_torch(torch)
        for _ in range(3):
            await isolation_key()
        counts.append(len(heard))
    stop()
    assert counts == [0, 1, 2]


def half_imported() -> ModuleType:
    """Return a torch whose import has begun."""
    torch = FakeTorch()
    torch.__spec__ = ModuleSpec("torch", None)
    vars(torch.__spec__)["_initializing"] = True
    return torch


def without(*names: str) -> ModuleType:
    """Return a torch that has not got as far as these names."""
    torch = FakeTorch()
    for name in names:
        delattr(torch, name)
    return torch


def without_versions() -> ModuleType:
    """Return a torch of an unknown kind."""
    torch = FakeTorch()
    torch.version = SimpleNamespace()
    return torch


@pytest.mark.parametrize(
    "torch",
    [half_imported(), without("version"), without("cuda"), without("cuda", "version"), without_versions(), None],
    ids=["importing", "no version", "no cuda", "empty", "no versions", "forbidden"],
)
async def test_what_is_not_all_there_is_nothing(import_torch: ImportTorch, torch: ModuleType | None) -> None:
    """A torch that is being imported, or is something else of that name, counts as none, and raises nothing."""
    import_torch(torch)
    assert await facts() == NOTHING
    whole = FakeTorch()
    import_torch(whole)
    reprobe()
    assert (await facts())["runtime"] == "cuda"


async def test_an_import_that_ends_is_noticed(import_torch: ImportTorch) -> None:
    """What is null while torch is being imported by another thread is looked up when that is done."""
    torch = half_imported()
    import_torch(torch)
    assert await facts() == NOTHING
    torch.__spec__ = None
    assert (await facts())["runtime_version"] == "12.6"


async def test_a_device_that_fails(import_torch: ImportTorch) -> None:
    """A device that cannot be asked is an error that names the form: it is not the same as no device."""
    torch = FakeTorch(devices=(A100,))
    torch.initialized = True

    def fail(number: int) -> object:
        raise RuntimeError("the device is lost")

    torch.cuda.get_device_properties = fail
    import_torch(torch)
    with pytest.raises(ConfigurationError, match=r"compile form 'accelerator_properties'.*RuntimeError"):
        await isolation_key()
