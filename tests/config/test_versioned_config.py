"""Switches by version: who decides, what is remembered, and what a failing source means (4.1)."""

from __future__ import annotations

import gc
import itertools
import json
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from acache.config import EnvironmentRollout, JsonFileRollout, RolloutSource, set_rollout_source, versioned_config

VARIABLE = "SOME_APPLICATION_FEATURE"


class Fixed:
    """A source that always says the same, and counts how often it is asked."""

    def __init__(self, version: int) -> None:
        self.answer = version
        self.asked: list[str] = []

    def version(self, name: str) -> int:
        self.asked.append(name)
        return self.answer


class Broken:
    """A source that cannot be reached."""

    def version(self, name: str) -> NoReturn:
        raise OSError(name)


@pytest.fixture(autouse=True)
def _forget() -> Generator[None]:
    """Begin and end without a source and without answers."""
    set_rollout_source(None)
    yield
    set_rollout_source(None)


@pytest.mark.parametrize("default", [True, False])
class TestEnvironment:
    """The variable goes first."""

    @pytest.mark.parametrize(
        ("text", "answer"), [("1", True), ("0", False), ("true", False), ("", False), ("2", False), (" 1", False)]
    )
    @pytest.mark.parametrize("source", [None, Fixed(-1), Fixed(0), Broken()])
    def test_it_decides(
        self, monkeypatch: pytest.MonkeyPatch, default: bool, text: str, answer: bool, source: RolloutSource | None
    ) -> None:
        """If the variable is set, ``1`` is on and anything else is off, whatever source and default say."""
        set_rollout_source(source)
        monkeypatch.setenv(VARIABLE, text)
        assert versioned_config("feature", 0, default, VARIABLE) is answer

    def test_unset_it_decides_nothing(self, monkeypatch: pytest.MonkeyPatch, default: bool) -> None:
        """A variable that is not set, or not named, leaves it to the others."""
        monkeypatch.delenv(VARIABLE, raising=False)
        assert versioned_config("feature", 0, default, VARIABLE) is default
        monkeypatch.setenv(VARIABLE, str(int(not default)))
        assert versioned_config("feature", 0, default) is default


@pytest.mark.parametrize("default", [True, False])
class TestSource:
    """A registered source goes before the default."""

    @pytest.mark.parametrize(
        ("wanted", "here", "answer"),
        [(-1, 0, True), (1, 0, False), (0, 0, False), (0, 5, False), (3, 2, False), (3, 3, True), (3, 4, True)],
    )
    def test_versions(self, default: bool, wanted: int, here: int, answer: bool) -> None:
        """On from the version that is wanted; 0 is off, whatever version this is."""
        set_rollout_source(Fixed(wanted))
        assert versioned_config("feature", here, default) is answer

    def test_a_failing_source_means_off(self, default: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A source that raises switches the feature off, and that is logged with the type of the error."""
        set_rollout_source(Broken())
        assert versioned_config("secret", 9, default) is False
        assert "OSError" in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("given", [None, "3", True, False, 3.0, float("nan"), [1]], ids=repr)
    def test_what_is_no_version_means_off(self, default: bool, given: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A source that answers with anything but an int switches the feature off; the log names the type only."""
        set_rollout_source(Fixed(given))
        assert versioned_config("secret", 9, default) is False
        assert f"gave a {type(given).__name__}, not an int" in caplog.text
        assert "secret" not in caplog.text

    def test_an_async_source_means_off(self, default: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A source that would have to be awaited switches the feature off, and leaves no coroutine that was never awaited."""

        class Later:
            async def version(self, name: str) -> int:
                raise AssertionError(name)

        set_rollout_source(cast("Any", Later()))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert versioned_config("secret", 9, default) is False
            gc.collect()
        assert warned == []
        assert "gave a coroutine" in caplog.text

    def test_without_a_source_the_default_holds(self, default: bool) -> None:
        """No source, no rollout."""
        assert versioned_config("feature", 0, default) is default


class TestMemory:
    """Answers stay."""

    def test_a_question_is_asked_once(self) -> None:
        """The same arguments get the same answer, without asking again, until the cache is cleared."""
        source = Fixed(1)
        set_rollout_source(source)
        assert versioned_config("feature", 1, default=False)
        source.answer = 0
        assert versioned_config("feature", 1, default=False)
        assert source.asked == ["feature"]
        versioned_config.cache_clear()
        assert not versioned_config("feature", 1, default=False)

    def test_different_arguments_are_different_questions(self) -> None:
        """Name, version, default and variable each make another question."""
        source = Fixed(1)
        set_rollout_source(source)
        for name, version, default, variable in itertools.product("ab", (1, 2), (True, False), (None, "NO_SUCH_NAME")):
            versioned_config(name, version, default, variable)
        assert len(source.asked) == 16

    def test_a_new_source_is_asked_anew(self) -> None:
        """Changing the source forgets what the old one said, even an answer that was still on its way."""

        class Replaced:
            def version(self, name: str) -> int:
                set_rollout_source(Fixed(0))
                return 1

        set_rollout_source(Replaced())
        assert versioned_config("feature", 1, default=False)
        assert not versioned_config("feature", 1, default=False)


class TestSources:
    """The two that come with acache."""

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A version from a variable: prefix, and the name in upper case with underscores."""
        monkeypatch.setenv("ROLLOUT_NEW_CODEC_2", "3")
        source = EnvironmentRollout("ROLLOUT_")
        assert source.version("new-codec.2") == 3
        assert source.version("other") == 0
        monkeypatch.setenv("ROLLOUT_OTHER", "soon")
        set_rollout_source(source)
        assert versioned_config("new-codec.2", 3, default=False)
        assert not versioned_config("other", 3, default=True)

    def test_file(self, tmp_path: Path) -> None:
        """Versions from a JSON object, read when the source is made."""
        path = tmp_path / "rollout.json"
        path.write_text(json.dumps({"feature": 3, "odd": "x", "none": None}))
        source = JsonFileRollout(path)
        path.unlink()
        assert source.version("feature") == 3
        assert source.version("other") == 0
        set_rollout_source(source)
        assert versioned_config("feature", 3, default=False)
        assert not versioned_config("odd", 3, default=True)
        assert not versioned_config("none", 3, default=True)

    @pytest.mark.parametrize("content", [None, b"", b"[1]", b"3", b"{", b"\xff", b"[" * 100_000])
    def test_a_file_that_cannot_be_read_switches_everything_off(
        self, tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file that is missing or no JSON object is logged, and every feature is off."""
        path = tmp_path / "rollout.json"
        if content is not None:
            path.write_bytes(content)
        set_rollout_source(JsonFileRollout(path))
        assert not versioned_config("feature", 9, default=True)
        assert "rollout file" in caplog.text
