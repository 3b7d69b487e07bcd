"""Whose bundles are loaded, and where they are dumped: T1, T3, T7, T8."""

# ruff: noqa: ASYNC240 - these tests look at the disk themselves

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from acache.codecs import Signer
from acache.engine.bundles import Bundle, dump_bundle
from acache.exceptions import BundleError, ConfigurationError, UnsafeDirectoryError
from acache.files import in_thread
from acache.types import Entry
from tests.bundles.helpers import SIGNER, STRANGER, ForeignFiles, dump, entries, key, load, values


async def refusal(path: Path, signer: Signer | None = None) -> str:
    """Return why a bundle is neither loaded nor merged with; fail if it is, or if it changes."""
    content = path.read_bytes()
    with pytest.raises(BundleError) as loading:
        await Bundle.open(path, signer=signer)
    with pytest.raises(BundleError) as dumping:
        await dump_bundle(path, entries("new"), signer=signer)
    assert loading.value.reason == dumping.value.reason
    assert path.read_bytes() == content
    return loading.value.reason


async def test_configuration_decides(path: Path) -> None:
    """A signature is needed with a signer, and refused without one; it must be by a key that is verified (T1)."""
    await dump_bundle(path, entries("a"))
    assert await refusal(path, SIGNER) == "unsigned"
    path.unlink()
    await dump_bundle(path, entries("a"), signer=SIGNER)
    assert await refusal(path) == "signature"
    assert await refusal(path, STRANGER) == "signature"
    assert await in_thread(load, path, SIGNER) == values(entries("a"))


async def test_rotation(path: Path) -> None:
    """A dump signs the whole anew: entries of an older key need that key no more (T3)."""
    await dump_bundle(path, entries("a"), signer=Signer(b"the-older-key-of-it"))
    newer = Signer(b"the-newer-key-of-it", verify=[b"the-older-key-of-it"])
    await dump_bundle(path, entries("b"), signer=newer)
    assert await in_thread(load, path, Signer(b"the-newer-key-of-it")) == values(entries("a", "b"))
    assert await refusal(path, Signer(b"the-older-key-of-it")) == "signature"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_others_can_write(path: Path, mode: int) -> None:
    """A bundle that others can write is only loaded when it is signed: its values may be pickles (T1, T7)."""
    await dump_bundle(path, entries("a"))
    path.chmod(mode)
    assert await refusal(path) == "unsafe"
    path.unlink()
    await dump_bundle(path, entries("a"), signer=SIGNER)
    path.chmod(mode)
    assert await in_thread(load, path, SIGNER) == values(entries("a"))


async def test_another_owner(path: Path) -> None:
    """A bundle of another user is only loaded when it is signed (T7)."""
    files = ForeignFiles()
    await in_thread(dump, path, entries("a"))
    with pytest.raises(BundleError, match="own"):
        await Bundle.open(path, files=files)
    path.unlink()
    await in_thread(dump, path, entries("a"), SIGNER)
    bundle = await Bundle.open(path, signer=SIGNER, files=files)
    assert await bundle.read(key("a")) == entries("a")[key("a")]
    await bundle.aclose()


async def test_files_are_private(path: Path) -> None:
    """A bundle and its lock are for their owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        await dump_bundle(path, entries("a"))
    finally:
        os.umask(before)
    assert {each.name: oct(each.stat().st_mode) for each in path.parent.iterdir()} == {
        "results": "0o100600",
        "results.lock": "0o100600",
    }


def link_to_bundle(path: Path, target: Path) -> None:
    """Lead to a bundle that is fine."""
    path.symlink_to(target)


def link_to_nowhere(path: Path, _target: Path) -> None:
    """Lead nowhere."""
    path.symlink_to("nowhere")


def fifo(path: Path, _target: Path) -> None:
    """Wait for a writer, if one lets it."""
    os.mkfifo(path)


def directory(path: Path, _target: Path) -> None:
    """Be a directory."""
    path.mkdir()


@pytest.mark.parametrize("impostor", [link_to_bundle, link_to_nowhere, fifo, directory])
async def test_impostors(path: Path, impostor: Callable[[Path, Path], None]) -> None:
    """What is no regular file is never followed, waited for, or replaced (T8, D13)."""
    target = path.with_name("target")
    await in_thread(dump, target, entries("a"))
    impostor(path, target)
    before = path.lstat()
    with pytest.raises(BundleError):
        await Bundle.open(path)
    with pytest.raises(BundleError):
        await dump_bundle(path, entries("b"))
    assert path.lstat().st_ino == before.st_ino
    assert await in_thread(load, target) == values(entries("a"))


async def test_load_through_a_link(path: Path) -> None:
    """The directory of a bundle that is only read may be reached through a symbolic link."""
    await in_thread(dump, path, entries("a"))
    link = path.parent.with_name("link")
    link.symlink_to(path.parent)
    bundle = await Bundle.open(link / path.name)
    assert len(bundle) == 1
    await bundle.aclose()


async def test_no_bundle(path: Path) -> None:
    """A bundle that is not there is an OSError like that of any file."""
    with pytest.raises(FileNotFoundError):
        await Bundle.open(path)
    with pytest.raises(FileNotFoundError):
        await Bundle.open(path / "beneath")


@pytest.mark.parametrize("place", ["missing/b", "missing/deep/b", "file/b", "file/deep/b", "open/b", "link/b"])
async def test_directory_that_will_not_do(tmp_path: Path, place: str) -> None:
    """A dump makes no directory, and writes in none that others can write; the error says what to do (T7)."""
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError) as caught:
        await dump_bundle(tmp_path / place, entries("a"))
    assert sorted(tmp_path.rglob("*")) == before
    if place.startswith(("open", "link")):
        assert isinstance(caught.value, UnsafeDirectoryError)
    else:
        assert str(tmp_path / place).rpartition("/")[0].startswith(str(tmp_path))
        assert "director" in str(caught.value)


@pytest.mark.parametrize("text", ["", "/", "results/", "a\0b"])
async def test_path_that_names_no_file(text: str) -> None:
    """A path without a file name is a mistake of the caller's."""
    with pytest.raises(ConfigurationError, match="path"):
        await Bundle.open(text)
    with pytest.raises(ConfigurationError, match="path"):
        await dump_bundle(text, {})


async def test_paths_are_for_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be relative, or begin with ``~``; it means what it means when it is given."""
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.chdir(path.parent)
    await dump_bundle("results", entries("a"))
    bundle = await Bundle.open("~/results")
    assert bundle.path == path
    await bundle.aclose()


async def test_closed(path: Path) -> None:
    """A closed bundle says so; closing it twice is fine."""
    await dump_bundle(path, entries("a"))
    bundle = await Bundle.open(path)
    await bundle.aclose()
    await bundle.aclose()
    with pytest.raises(BundleError, match="open it again"):
        await bundle.read(key("a"))
    with pytest.raises(BundleError, match="open it again"):
        _ = [found async for found in bundle.keys()]  # noqa: SIM118 - a bundle is no dict


async def test_values_stay_out_of_errors(path: Path) -> None:
    """No error shows a value (T12)."""
    await dump_bundle(path, {key("a"): Entry("canary", 1.0)})
    with pytest.raises(Exception, match="another value") as caught:
        await dump_bundle(path, {key("a"): Entry("canary too", 1.0)})
    assert "canary" not in str(caught.value) + repr(caught.value)
