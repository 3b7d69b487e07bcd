"""The settings: what is read from the environment, what overrides it, and who hears of a change."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import platformdirs
import pytest

from acache.config import Settings, cache_directory, on_change, override, settings
from acache.config import environment as environment_module
from acache.exceptions import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the test be a process that has not read its settings yet; without ``ACACHE_*`` variables."""
    for name in [name for name in os.environ if name.startswith("ACACHE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(environment_module, "_process", environment_module._Process())
    return monkeypatch


class TestFromEnviron:
    """Reading."""

    def test_defaults(self) -> None:
        """With no variables, everything is cached in the user's directory, locally deterministic, and nothing is special."""
        read = Settings.from_environ({"PATH": "/bin", "MY_ACACHE_DIR": "x"})
        assert read == Settings()
        assert read.enable
        assert read.local_determinism
        assert read.enable_deterministic_caching is None
        switched_on = {each.name for each in fields(read) if getattr(read, each.name) is True}
        assert switched_on == {"enable", "local_determinism"}

    @pytest.mark.parametrize("name", environment_module._SWITCHES)
    @pytest.mark.parametrize(
        ("text", "value"),
        [(text, True) for text in ("1", "true", "Yes", " ON ")]
        + [(text, False) for text in ("0", "False", "no", "oFF")],
    )
    def test_switches(self, name: str, text: str, value: bool) -> None:
        """A switch is 1 or 0, or one of the usual words in any case."""
        assert getattr(Settings.from_environ({f"ACACHE_{name.upper()}": text}), name) is value

    @pytest.mark.parametrize("name", environment_module._SWITCHES)
    @pytest.mark.parametrize("text", ["2", "maybe", "None", "-1", "tru e"])
    def test_a_malformed_switch_is_an_error(self, name: str, text: str) -> None:
        """Anything else is a configuration error that names the variable, and does not show the value."""
        variable = f"ACACHE_{name.upper()}"
        with pytest.raises(ConfigurationError, match=variable) as caught:
            Settings.from_environ({variable: text})
        assert text not in str(caught.value).replace(variable, "").replace("expected 1 or 0", "")

    def test_every_field_has_its_variable(self) -> None:
        """What can be overridden can be set by the environment, under the same name."""
        texts = dict.fromkeys(environment_module._SWITCHES, "1")
        texts |= {"dir": "/d", "pre_populate_deterministic_cache": "/p", "signing_key": "k" * 16}
        assert texts.keys() == {each.name for each in fields(Settings)}
        read = Settings.from_environ({f"ACACHE_{name.upper()}": text for name, text in texts.items()})
        assert read.dir == Path("/d")
        assert read.pre_populate_deterministic_cache == Path("/p")
        assert read.signing_key == "k" * 16
        assert all(getattr(read, name) is True for name in environment_module._SWITCHES)

    def test_an_empty_variable_is_an_unset_one(self) -> None:
        """``ACACHE_DISABLE=`` says nothing."""
        names = [each.name for each in fields(Settings)]
        assert Settings.from_environ({f"ACACHE_{name.upper()}": "" for name in names}) == Settings()

    def test_unknown_variables_give_one_warning(self) -> None:
        """Variables that do not exist are ignored, with one warning that names them all and shows no value."""
        environ = {"ACACHE_DISALBE": "secret", "ACACHE_dir": "secret", "ACACHE_RECACHE": "1"}
        with pytest.warns(UserWarning, match="ACACHE_DISALBE, ACACHE_dir") as caught:
            read = Settings.from_environ(environ)
        assert read == Settings(recache=True)
        assert len(caught) == 1
        assert "secret" not in str(caught[0].message)


class TestSettings:
    """The object."""

    def test_it_is_frozen(self) -> None:
        """Settings do not change."""
        with pytest.raises(FrozenInstanceError):
            Settings().enable = False  # type: ignore[misc]  # the point of the test

    def test_the_key_is_in_no_text(self) -> None:
        """The signing key does not show (T12)."""
        shown = Settings(signing_key="a secret of some length")
        assert "secret" not in repr(shown)
        assert "secret" not in str(shown)

    def test_a_switch_is_a_boolean(self) -> None:
        """A text that would count as true is refused."""
        with pytest.raises(ConfigurationError, match="enable"):
            Settings(enable="0")  # type: ignore[arg-type]  # the point of the test
        with pytest.raises(ConfigurationError, match="disable"):
            Settings(disable=None)  # type: ignore[arg-type]  # the point of the test


class TestProcess:
    """The settings of the process."""

    def test_the_environment_is_read_once(self, fresh: pytest.MonkeyPatch) -> None:
        """The first question reads the environment; what changes there later is not seen."""
        fresh.setenv("ACACHE_RECACHE", "1")
        first = settings()
        assert first.recache
        fresh.setenv("ACACHE_RECACHE", "0")
        assert settings() is first

    def test_a_malformed_environment_stays_an_error(self, fresh: pytest.MonkeyPatch) -> None:
        """An environment that cannot be read is an error each time, also for an override, until it is corrected."""
        fresh.setenv("ACACHE_ENABLE", "maybe")
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="ACACHE_ENABLE"):
                settings()
        with pytest.raises(ConfigurationError), override(disable=True):
            pass
        fresh.delenv("ACACHE_ENABLE")
        assert settings() == Settings()

    @pytest.mark.integration
    def test_importing_reads_nothing(self) -> None:
        """Importing acache does not look at the environment: even one that cannot be read does no harm."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import acache.config, acache.bridge, acache.locks"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "ACACHE_ENABLE": "maybe", "ACACHE_NO_SUCH_THING": "1"},
            stderr=subprocess.PIPE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")


class TestOverride:
    """Changing them for a while."""

    def test_inside_and_after(self) -> None:
        """Inside the block the settings are changed, after it they are what they were."""
        before = settings()
        with override(disable=True, dir=Path("/x")) as inside:
            assert settings() is inside
            assert inside.disable
            assert inside.dir == Path("/x")
        assert settings() == before

    def test_blocks_nest(self) -> None:
        """The innermost block wins, and each end restores what was before."""
        with override(disable=True, recache=True):
            with override(disable=False):
                assert not settings().disable
                assert settings().recache
            assert settings().disable

    def test_blocks_may_overlap(self) -> None:
        """A block that ends before one that began later takes back its own changes only."""
        before = settings()
        first, second = override(disable=True, recache=True), override(disable=True, debug_mutation=True)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert settings().disable
        assert not settings().recache
        assert settings().debug_mutation
        second.__exit__(None, None, None)
        assert settings() == before

    def test_equal_blocks_are_two(self) -> None:
        """The end of one block does not end another that changes the same."""
        first, second = override(recache=True), override(recache=True)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert settings().recache
        second.__exit__(None, None, None)
        assert not settings().recache

    def test_an_error_in_the_block_restores_too(self) -> None:
        """However the block ends, the settings are restored."""
        before = settings()
        with pytest.raises(KeyError), override(disable=True):
            raise KeyError
        assert settings() == before

    @pytest.mark.parametrize("changes", [{"disabel": True}, {"ACACHE_DISABLE": True}, {"disable": "1"}])
    def test_what_does_not_exist_is_refused(self, changes: dict[str, object]) -> None:
        """A name that is no setting, or a value that is none, changes nothing and is an error that names it."""
        before = settings()
        with pytest.raises(ConfigurationError, match=next(iter(changes))), override(**changes):
            pass
        assert settings() is before

    def test_it_is_seen_by_every_thread(self) -> None:
        """An override holds for the process, not for the thread that made it."""
        seen: list[bool] = []
        with override(disable=True):
            thread = threading.Thread(target=lambda: seen.append(settings().disable))
            thread.start()
            thread.join()
        assert seen == [True]

    def test_threads_do_not_lose_each_others_changes(self) -> None:
        """However the blocks of many threads overlap, in the end the settings are what they were (H6)."""
        before, wrong = settings(), list[int]()

        def change(number: int) -> None:
            for _ in range(50):
                with override(recache=True):
                    wrong.extend([number] * (not settings().recache))

        threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert wrong == []
        assert settings() == before


class TestOnChange:
    """Hearing of a change."""

    def test_each_change_is_told(self) -> None:
        """A callback is called after each change, when the new settings hold, until it is unsubscribed."""
        heard: list[bool] = []
        unsubscribe = on_change(lambda: heard.append(settings().disable))
        with override(disable=True):
            assert heard == [True]
        assert heard == [True, settings().disable]
        unsubscribe()
        unsubscribe()
        with override(disable=True):
            pass
        assert len(heard) == 2

    def test_a_callback_may_change_and_unsubscribe(self) -> None:
        """A callback may itself use everything here."""
        calls: list[int] = []

        def callback() -> None:
            unsubscribe()
            calls.append(len(calls))
            with override(recache=True):
                assert settings().recache

        unsubscribe = on_change(callback)
        with override(disable=True):
            pass
        assert calls == [0]

    def test_a_failing_callback_hurts_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        """A callback that fails is logged with the type of its error, and the others are called."""
        heard: list[bool] = []

        def fail() -> None:
            raise ValueError("a secret")

        unsubscribe = [on_change(fail), on_change(lambda: heard.append(True))]
        try:
            with override(disable=True):
                assert heard == [True]
        finally:
            for each in unsubscribe:
                each()
        assert "ValueError" in caplog.text
        assert "secret" not in caplog.text

    def test_a_bound_method_does_not_keep_its_object_alive(self) -> None:
        """An object that listens may go; it is not called any more, and nothing of it is kept."""

        class Listener:
            def __init__(self) -> None:
                self.heard = 0

            def listen(self) -> None:
                self.heard += 1

        listener = Listener()
        listeners = len(environment_module._process.listeners)
        on_change(listener.listen)
        with override(disable=True):
            assert listener.heard == 1
        reference = weakref.ref(listener)
        del listener
        gc.collect()
        assert reference() is None
        with override(disable=True):
            pass
        assert len(environment_module._process.listeners) <= listeners


class TestCacheDirectory:
    """Where the default caches live."""

    def test_by_default_the_users_own(self) -> None:
        """Without a setting it is the user's cache directory, which is not made."""
        assert cache_directory(Settings()) == platformdirs.user_cache_path("acache", appauthor=False)

    def test_as_set(self, tmp_path: Path) -> None:
        """A directory that is set is used, and not made."""
        chosen = tmp_path / "cache"
        assert cache_directory(Settings(dir=chosen)) == chosen
        assert not chosen.exists()

    def test_it_is_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """``~`` is the home directory, a relative path begins where the process is; the answer depends on neither later."""
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        assert cache_directory(Settings.from_environ({"ACACHE_DIR": "~/c"})) == tmp_path / "home" / "c"
        assert cache_directory(Settings.from_environ({"ACACHE_DIR": "c"})) == tmp_path / "c"

    def test_a_text_is_a_path_too(self) -> None:
        """An override may give a directory as text."""
        with override(dir="/somewhere") as changed:
            assert cache_directory(changed) == Path("/somewhere")
