"""Torch's forms, with a real torch."""

from __future__ import annotations

import asyncio
import operator
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from acache import FastCache, IsolationSchema, MemoryTier, RuntimeContext, isolate, isolation_context, isolation_key
from acache.context import CompileContext, register_form
from acache.exceptions import ConfigurationError, KeyEncodingError
from acache.keys import canonical
from acache.testing import ComputeCounter

torch: Any = pytest.importorskip("torch", reason="torch, an extra, is not installed")
import acache.contrib.torch as forms  # noqa: E402 - not before it is known that torch is there

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
RUNTIME = {"inductor_configs", "matmul_precision", "torch_determinism"}
COMPILE = {"cpu_capability", "torch_version_hash", "triton_version_hash"}

inductor: Any = forms._config


@pytest.fixture(autouse=True)
def _settings_come_back() -> Generator[None]:
    """Put back what the setters below change; the compiler's settings are patched instead."""
    yield
    backends = torch.backends
    torch.set_float32_matmul_precision("highest")
    backends.fp32_precision = backends.cuda.matmul.fp32_precision = backends.mkldnn.matmul.fp32_precision = "none"
    backends.cuda.matmul.allow_fp16_accumulation = False
    for name in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        setattr(backends.cuda.matmul, name, True)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    backends.cudnn.enabled, backends.cudnn.deterministic, backends.cudnn.benchmark = True, False, False


@pytest.fixture
def registered() -> Generator[None]:
    """Register torch's forms until the test is over."""
    end = forms.register_torch_forms()
    yield
    end()


class TestInductorConfigs:
    """The settings of torch's compiler."""

    def test_they_are_those_of_torchs_own_keys(self) -> None:
        """What torch puts into the keys of its caches is there; what it leaves out is not."""
        with inductor.patch(max_autotune=True, compile_threads=3):
            configs = forms.inductor_configs()
        assert configs["max_autotune"] is True
        assert "compile_threads" not in configs

    def test_each_state_has_its_digest(self) -> None:
        """A setting that is changed changes the digest, ``True`` to ``1`` too, and one that is changed back restores it."""
        digests = [forms.inductor_configs_digest()]
        for changes in ({"max_autotune": True}, {"max_autotune": 1}, {"triton.cudagraphs": True}, {}):
            with inductor.patch(changes):
                digests.append(forms.inductor_configs_digest())
        assert len(set(digests)) == 4
        assert digests[0] == digests[-1] == forms.inductor_configs_digest()
        assert re.fullmatch("[0-9a-f]{64}", digests[0])

    def test_every_switch_counts(self) -> None:
        """Each setting that is on or off has a digest for on and one for off: torch hides none from its own hash."""
        switches = {name: on for name, on in forms.inductor_configs().items() if isinstance(on, bool)}
        before = forms.inductor_configs_digest()
        unseen: list[str] = []
        for name, on in switches.items():
            with inductor.patch({name: not on}):
                unseen += [name] if forms.inductor_configs_digest() == before else []
        assert len(switches) > 100
        assert unseen == []

    def test_what_does_not_count_for_torch_does_not_count(self) -> None:
        """A setting that torch leaves out of its keys does not change the digest."""
        before = forms.inductor_configs_digest()
        with inductor.patch(compile_threads=3):
            assert forms.inductor_configs_digest() == before

    def test_changes_inside_a_setting_are_seen(self) -> None:
        """A dict or a list that is changed in place counts, though torch does not notice it."""
        before = forms.inductor_configs_digest()
        options, ops = inductor.pre_grad_fusion_options, inductor.custom_should_partition_ops
        options["batch_linear"] = {"min_fuse_set_size": 2}
        inside = forms.inductor_configs_digest()
        options["batch_linear"]["min_fuse_set_size"] = 3
        deeper = forms.inductor_configs_digest()
        options.clear()
        ops.append("mylib::op")
        other = forms.inductor_configs_digest()
        ops.clear()
        assert len({before, inside, deeper, other}) == 4
        assert forms.inductor_configs_digest() == before

    def test_a_list_in_place_of_nothing_counts(self) -> None:
        """A list that is assigned where there was none is looked into as well."""
        mine: list[str] = []
        with inductor.patch(custom_partitioner_fn=mine):
            before = forms.inductor_configs_digest()
            mine.append("x")
            assert forms.inductor_configs_digest() != before

    def test_a_deleted_setting_is_no_error(self) -> None:
        """A setting that is hidden, as a patch does for a moment, raises nothing."""
        Context().run(delattr, inductor, "rocm.arch")
        try:
            assert forms.inductor_configs_digest()
        finally:
            inductor._config["rocm.arch"].hide = False

    async def test_a_task_sees_its_own(self) -> None:
        """A setting that one task changes does not change the digest in another, as it does not change what is compiled."""
        before, changed, looked = forms.inductor_configs_digest(), asyncio.Event(), asyncio.Event()

        async def change() -> str:
            with inductor.patch(max_autotune=True):
                changed.set()
                await looked.wait()
                return forms.inductor_configs_digest()

        task = asyncio.create_task(change())
        await changed.wait()
        assert forms.inductor_configs_digest() == before
        looked.set()
        assert await task != before

    def test_a_fresh_thread_agrees(self) -> None:
        """A thread without a context finds the digest of the unchanged settings."""
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(forms.inductor_configs_digest).result() == forms.inductor_configs_digest()

    def test_what_has_no_stable_name_is_refused(self) -> None:
        """A lambda in a setting is an error each time, and a function of a module counts by its name."""
        digests = {forms.inductor_configs_digest()}
        for function in (os.getcwd, os.getpid):
            with inductor.patch(external_matmul=[lambda: None]), pytest.raises(KeyEncodingError):
                forms.inductor_configs_digest()
            with inductor.patch(external_matmul=[function]):
                digests.add(forms.inductor_configs_digest())
        assert len(digests) == 3


#: A setting under ``torch``, a value that is not its default, and the probe that tells.
SWITCHES = (
    ("utils.deterministic.fill_uninitialized_memory", False, forms.torch_determinism),
    ("backends.cudnn.enabled", False, forms.torch_determinism),
    ("backends.cudnn.deterministic", True, forms.torch_determinism),
    ("backends.cudnn.benchmark", True, forms.torch_determinism),
    ("backends.fp32_precision", "tf32", forms.matmul_precision),
    ("backends.cuda.matmul.fp32_precision", "tf32", forms.matmul_precision),
    ("backends.cuda.matmul.allow_tf32", True, forms.matmul_precision),
    ("backends.cuda.matmul.allow_fp16_accumulation", True, forms.matmul_precision),
    ("backends.cuda.matmul.allow_fp16_reduced_precision_reduction", False, forms.matmul_precision),
    ("backends.cuda.matmul.allow_fp16_reduced_precision_reduction", (False, False), forms.matmul_precision),
    ("backends.cuda.matmul.allow_bf16_reduced_precision_reduction", False, forms.matmul_precision),
    ("backends.cuda.matmul.allow_bf16_reduced_precision_reduction", (False, False), forms.matmul_precision),
    ("backends.mkldnn.matmul.fp32_precision", "bf16", forms.matmul_precision),
)


@pytest.mark.parametrize(("setting", "value", "probe"), SWITCHES)
def test_a_switch_is_seen(setting: str, value: object, probe: Callable[[], dict[str, object]]) -> None:
    """Each switch shows in its form, and in no other value of it than it is about."""
    owner, _, name = setting.rpartition(".")
    before = probe()
    setattr(operator.attrgetter(owner)(torch), name, value)
    assert probe() != before
    assert probe().keys() == before.keys()


def test_deterministic_algorithms_are_seen() -> None:
    """Off, on, and on with warnings only, are three."""
    seen = [forms.torch_determinism()]
    for warn_only in (False, True):
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        seen.append(forms.torch_determinism())
    assert [(each["deterministic_algorithms"], each["warn_only"]) for each in seen] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_every_precision_is_seen() -> None:
    """The three precisions differ, also the two that are one to CUDA; and the same one is the same again."""
    seen: list[dict[str, object]] = []
    for precision in ("highest", "high", "medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        seen.append(forms.matmul_precision())
    assert seen[0] == seen[3]
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_precisions_of_their_own_are_no_error() -> None:
    """Where the backends differ, torch cannot name one precision, and the form tells both."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    seen = forms.matmul_precision()
    assert (seen["cuda_fp32_precision"], seen["cpu_fp32_precision"]) == ("tf32", "none")


class TestBuild:
    """What was built."""

    def test_another_torch_has_another_hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The commit that torch was built from counts, as its sources do."""
        before = forms.torch_version_hash()
        assert re.fullmatch("[0-9a-f]{64}", before)
        monkeypatch.setattr(torch.version, "git_version", "0" * 40)
        built = forms.torch_version_hash()
        monkeypatch.setattr(forms._codecache, "torch_key", lambda: b"edited")
        assert len({before, built, forms.torch_version_hash()}) == 3

    def test_triton_speaks_for_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without Triton there is nothing, and else what Triton says of itself."""
        monkeypatch.setattr(forms._triton, "HAS_TRITON", False)
        assert forms.triton_version_hash() is None
        monkeypatch.setattr(forms._triton, "HAS_TRITON", True)
        monkeypatch.setattr(forms._triton, "triton_key", lambda: "3.5-abc")
        assert forms.triton_version_hash() == "3.5-abc"

    def test_the_cpu_has_a_name_for_what_it_can(self) -> None:
        """The capability of the CPU is a word."""
        assert re.fullmatch(r"[A-Z0-9_]+", forms.cpu_capability())


class TestRegistration:
    """The forms come and go together."""

    def test_they_last_until_all_have_ended_them(self) -> None:
        """Two who need the forms do not get into each other's way; to end twice is to end once."""
        first, second = forms.register_torch_forms(), forms.register_torch_forms()
        first()
        first()
        assert set(RuntimeContext.forms_of_context()) >= RUNTIME
        assert set(CompileContext.forms_of_context()) >= COMPILE
        second()
        assert not RUNTIME & set(RuntimeContext.forms_of_context())
        assert not COMPILE & set(CompileContext.forms_of_context())

    def test_all_or_none(self) -> None:
        """Where one of the names is taken, none is registered."""
        end = register_form("compile", "triton_version_hash", lambda: "of somebody else")
        try:
            with pytest.raises(ConfigurationError, match="triton_version_hash"):
                forms.register_torch_forms()
            assert not RUNTIME & set(RuntimeContext.forms_of_context())
        finally:
            end()

    def test_no_schema_without_them(self) -> None:
        """The schema says which form is missing when they have not been registered."""
        with pytest.raises(ConfigurationError, match="unknown form"):
            forms.torch_schema()


@pytest.mark.usefixtures("registered")
class TestKeys:
    """Isolation by torch's forms."""

    async def test_the_schema_has_what_counts_for_torch(self) -> None:
        """It selects torch's forms, the device and the scope, and the context has them all."""
        with isolate(threads=2):
            context = await isolation_context(forms.torch_schema())
        runtime, compile_ = context["runtime_context"] or {}, context["compile_context"] or {}
        assert runtime.keys() == RUNTIME | {"scope"}
        assert compile_.keys() == COMPILE | {"accelerator_properties", "platform", "runtime", "runtime_version"}
        assert runtime["inductor_configs"] == forms.inductor_configs_digest()
        assert runtime["scope"] == {"threads": 2}
        assert compile_["torch_version_hash"] == forms.torch_version_hash()

    async def test_every_selection_has_a_key_of_its_own(self) -> None:
        """Whatever is selected of torch's forms: the names of the forms are part of the key, whose values may be null."""
        selections = [
            IsolationSchema(dict.fromkeys(runtime, True), dict.fromkeys(compile_, True))
            for runtime in subsets(RUNTIME)
            for compile_ in subsets(COMPILE)
        ]
        keys = {await isolation_key(schema) for schema in selections}
        assert len(keys) == len(selections) == 64

    async def test_a_setting_changes_the_key_and_back(self) -> None:
        """The key follows each of the three runtime forms, and is the old one when the setting is."""
        schema = forms.torch_schema()
        keys = [await isolation_key(schema)]
        with inductor.patch(max_autotune=True):
            keys.append(await isolation_key(schema))
        keys.append(await isolation_key(schema))
        torch.backends.cuda.matmul.allow_fp16_accumulation = True
        keys.append(await isolation_key(schema))
        torch.backends.cuda.matmul.allow_fp16_accumulation = False
        torch.backends.cudnn.benchmark = True
        keys.append(await isolation_key(schema))
        assert keys[0] == keys[2]
        assert len(set(keys)) == 4

    async def test_only_selected_settings_recompute(self) -> None:
        """A changed setting that the schema leaves out is a hit; one that it selects is computed anew, once for each value."""
        counter = ComputeCounter()
        async with FastCache(MemoryTier()) as cache:

            @cache.memoize(ischema=IsolationSchema({"matmul_precision": True}, False))
            @counter.wrap
            async def fastest(size: int) -> str:
                return f"einsum for {size}"

            for precision in ("highest", "high", "highest", "high"):
                torch.set_float32_matmul_precision(precision)
                torch.backends.cudnn.benchmark = precision == "high"
                with inductor.patch(max_autotune=precision == "high"):
                    assert await fastest(256) == "einsum for 256"
            torch.backends.cudnn.benchmark = False
            await fastest(256)
        counter.assert_computed(2)

    async def test_sync_callers_bring_their_own_settings(self) -> None:
        """A plain thread's call is isolated by the settings of that thread, also where the key has to be waited for."""
        counter = ComputeCounter()
        async with FastCache(MemoryTier()) as cache:

            @cache.memoize(ischema=forms.torch_schema())
            @counter.wrap
            def compiled(source: str) -> object:
                return inductor.max_autotune

            def call(autotune: bool) -> object:
                with inductor.patch(max_autotune=autotune):
                    return compiled("x")

            with ThreadPoolExecutor(1) as threads:
                loop = asyncio.get_running_loop()
                seen = [await loop.run_in_executor(threads, call, autotune) for autotune in (True, False, True)]
        assert seen == [True, False, True]
        counter.assert_computed(2)

    async def test_a_setting_without_a_key_is_an_error_of_the_call(self) -> None:
        """A setting that cannot be part of a key fails the calls that need it, naming the form, before they compute."""
        counter = ComputeCounter()
        async with FastCache(MemoryTier()) as cache:

            @cache.memoize(ischema=forms.torch_schema())
            @counter.wrap
            async def compiled(source: str) -> str:
                return source

            with (
                inductor.patch(external_matmul=[lambda: None]),
                pytest.raises(ConfigurationError, match="inductor_configs"),
            ):
                await compiled("x")
        counter.assert_computed(0)

    @pytest.mark.integration
    async def test_processes_agree(self) -> None:
        """Another process, with another hash seed, has the same key for the same settings."""
        code = (
            "import asyncio, acache.contrib.torch as t; from acache import isolation_key; t.register_torch_forms(); "
            "print(asyncio.run(isolation_key(t.torch_schema())), end='')"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-c", code),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))},
        )
        output, _ = await child.communicate()
        assert output.decode() == await isolation_key(forms.torch_schema())


def subsets(names: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield every selection of ``names``."""
    for size in range(len(names) + 1):
        yield from combinations(sorted(names), size)


def test_torch_types_are_arguments() -> None:
    """Dtypes, devices, layouts, memory formats and sizes are part of keys: equal ones alike, others apart, and not as texts."""
    values = [
        (torch.float32, torch.float),
        (torch.float16, torch.half),
        (torch.device("cpu"), torch.device("cpu")),
        (torch.device("cuda", 1), torch.device("cuda:1")),
        (torch.strided, torch.strided),
        (torch.channels_last, torch.channels_last),
        (torch.Size([2, 3]), torch.zeros(2, 3).size()),
    ]
    encoded = [(canonical(one), canonical(same)) for one, same in values]
    assert all(one == same for one, same in encoded)
    assert len({one for one, _ in encoded} | {canonical("torch.float32"), canonical((2, 3))}) == len(values) + 2
