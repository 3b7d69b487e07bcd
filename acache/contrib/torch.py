"""PyTorch as part of the environment: what results that were made with it depend on.

The forms are those of PyTorch's own runtime cache (``torch/_inductor/runtime/caching/context.py``), with what it leaves out
although results depend on it. Settings may change at any moment, so their forms are volatile, and their probes quick:
about 50 microseconds for all. What was built does not change: those probes read all of torch's sources, once.

Importing this module imports torch and its compiler, which takes seconds: do it when a service starts. It also makes torch's
dtypes, devices, layouts and sizes arguments that can be part of a key; tensors are not, being too large and too often changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

from acache.context import IsolationSchema, register_form
from acache.context.forms import Kind
from acache.keys import canonical, register_key_type

__all__ = (
    "cpu_capability",
    "inductor_configs",
    "inductor_configs_digest",
    "matmul_precision",
    "register_torch_forms",
    "torch_determinism",
    "torch_schema",
    "torch_version_hash",
    "triton_version_hash",
)

try:
    # By name: torch is an extra, and type checkers do without it.
    _torch: Any = import_module("torch")
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("acache.contrib.torch needs PyTorch: install acache[torch]", name=error.name) from error
_codecache: Any = import_module("torch._inductor.codecache")
_config: Any = import_module("torch._inductor.config")
_triton: Any = import_module("torch._inductor.runtime.triton_compat")

for _kind in (_torch.dtype, _torch.device, _torch.layout, _torch.memory_format):
    register_key_type(_kind, str)
register_key_type(_torch.Size, tuple)

#: States of the compiler's settings whose digests are kept.
_MAX_STATES: Final = 256


# --- settings: runtime forms ------------------------------------------------------------------------------------------


def inductor_configs() -> dict[str, object]:
    """Return the settings of torch's compiler as torch itself puts them into the keys of its caches, private ones included.

    Torch leaves out what does not change the code that is compiled, and custom passes: for those, add a factor of your own
    with :func:`~acache.context.isolate`. Settings that were changed in another task or thread are not seen, as torch's
    compiler does not see them here. Takes a millisecond.
    """
    configs: dict[str, object] = _config.save_config_portable(ignore_private_configs=False)
    return configs


def inductor_configs_digest() -> str:
    """Return 64 hex digits that differ whenever :func:`inductor_configs` does.

    Raises :class:`~acache.exceptions.KeyEncodingError` for a setting that is no data and has no importable name, such as a
    lambda: its address would say nothing to another process.
    """
    assigned: bytes = _config.get_hash()
    # Torch notices assignments; what is changed inside a list or a dict, it does not.
    inside = [getattr(_config, name, None) for name in _containers(assigned)]
    return _digest(assigned, repr(inside))


@lru_cache(_MAX_STATES)
def _containers(assigned: bytes) -> tuple[str, ...]:  # noqa: ARG001 - stands for the settings that are read
    return tuple(name for name, value in inductor_configs().items() if isinstance(value, (list, dict, set)))


@lru_cache(_MAX_STATES)
def _digest(assigned: bytes, inside: str) -> str:  # noqa: ARG001 - they stand for the settings that are read
    return sha256(canonical(inductor_configs())).hexdigest()


def torch_determinism() -> dict[str, object]:
    """Return which algorithms torch may choose from, and what it leaves in memory that nothing was written to."""
    cudnn = _torch.backends.cudnn
    return {
        "deterministic_algorithms": _torch.are_deterministic_algorithms_enabled(),
        "warn_only": _torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": _torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn_enabled": cudnn.enabled,
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
    }


def matmul_precision() -> dict[str, object]:
    """Return how exactly torch multiplies matrices, on CUDA devices and, through oneDNN, on CPUs.

    A precision that was never set is ``"none"``, which is not the same text as that of the default once it has been set.
    """
    # Not torch.get_float32_matmul_precision(): it raises once a backend has been set apart from the others.
    cuda = _torch.backends.cuda.matmul
    return {
        "cuda_fp32_precision": cuda.fp32_precision,
        "cuda_fp16_accumulation": cuda.allow_fp16_accumulation,
        "cuda_fp16_reduced_precision_reduction": cuda.allow_fp16_reduced_precision_reduction,
        "cuda_fp16_split_k": cuda.allow_fp16_reduced_precision_reduction_split_k,
        "cuda_bf16_reduced_precision_reduction": cuda.allow_bf16_reduced_precision_reduction,
        "cuda_bf16_split_k": cuda.allow_bf16_reduced_precision_reduction_split_k,
        "cpu_fp32_precision": _torch.backends.mkldnn.matmul.fp32_precision,
    }


# --- what was built: compile forms ------------------------------------------------------------------------------------


def torch_version_hash() -> str:
    """Return 64 hex digits of torch's version, its build and the sources of its Python part: an edited torch is another one."""
    version = _torch.version
    build = (str(version.__version__), version.git_version, version.debug, _torch.compiled_with_cxx11_abi())
    return sha256(canonical((*build, _codecache.torch_key()))).hexdigest()


def triton_version_hash() -> str | None:
    """Return Triton's own digest of its version and sources; ``None`` where it is not installed."""
    digest: str | None = _triton.triton_key() if _triton.HAS_TRITON else None
    return digest


def cpu_capability() -> str:
    """Return the widest instructions that torch uses on this machine's CPU, such as ``"AVX2"``."""
    capability: str = _torch.backends.cpu.get_cpu_capability()
    return capability


# --- all of them ------------------------------------------------------------------------------------------------------

_FORMS: Final[tuple[tuple[Kind, str, Callable[[], object]], ...]] = (
    ("runtime", "inductor_configs", inductor_configs_digest),
    ("runtime", "matmul_precision", matmul_precision),
    ("runtime", "torch_determinism", torch_determinism),
    ("compile", "cpu_capability", cpu_capability),
    ("compile", "torch_version_hash", torch_version_hash),
    ("compile", "triton_version_hash", triton_version_hash),
)
#: The forms every process has that count for torch too; without the scope, ``isolate()`` would go unheard.
_BUILT_IN: Final = {
    "runtime": ("scope",),
    "compile": ("accelerator_properties", "platform", "runtime", "runtime_version"),
}


def register_torch_forms() -> Callable[[], None]:
    """Add torch's forms to every schema that selects them; the function returned ends that.

    They may be registered many times, and last until all have ended it. The default schema selects every form there is, and
    with these no call is served without a key: give functions that have nothing to do with torch a schema of their own.
    Raises :class:`~acache.exceptions.ConfigurationError`, and registers none, if one of the names is taken.
    """
    with ExitStack() as ends:
        for kind, name, probe in _FORMS:
            ends.callback(register_form(kind, name, probe, volatile=kind == "runtime"))
        return ends.pop_all().close


def torch_schema() -> IsolationSchema:
    """Return a schema for functions that use torch: torch's forms, the device, and the factors of ``isolate()``.

    Raises :class:`~acache.exceptions.ConfigurationError` where :func:`register_torch_forms` has not been called.
    """
    return IsolationSchema(runtime_context=_selected("runtime"), compile_context=_selected("compile"))


def _selected(kind: Kind) -> dict[str, bool]:
    return dict.fromkeys((*(name for each, name, _ in _FORMS if each == kind), *_BUILT_IN[kind]), True)
