"""What an imported torch tells of its accelerator.

Torch is never imported for this: it takes seconds, and most processes do without it. So these facts may come late. They are
fixed from two moments on, at which the *stage* rises: when torch has been imported, and when its device has been
initialised, which must not happen for a look either (it takes memory, and forbids forking).
"""

from __future__ import annotations

import sys
from enum import Enum, auto
from typing import Any, Final, final

__all__ = ("ACCELERATOR_FORMS", "TORCH", "Stage", "Torch", "accelerator_properties", "runtime", "runtime_version")

#: The names of the forms below, which are probed again when the stage rises.
ACCELERATOR_FORMS: Final = ("accelerator_properties", "runtime", "runtime_version")
#: What is said of a device, where its torch knows of it.
_FACTS: Final = ("name", "major", "minor", "total_memory", "multi_processor_count", "gcnArchName")


@final
class Stage(Enum):
    """How much there is to see."""

    ABSENT = auto()
    IMPORTED = auto()
    #: Nothing more will come: the device is initialised, or torch was built without one.
    SETTLED = auto()


@final
class Torch:
    """Watches for torch; it is looked at for every key until it is settled, and so must be quick."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = Stage.ABSENT

    def has_moved(self) -> bool:
        """Tell whether there is more to see than at the last look."""
        if self.stage is Stage.SETTLED or "torch" not in sys.modules:
            return False
        return self.look() is not self.stage

    def look(self) -> Stage:
        """Return the stage of this moment."""
        torch = _imported()
        if torch is None:
            return Stage.ABSENT
        if not (_version(torch, "cuda") or _version(torch, "hip")):
            return Stage.SETTLED
        return Stage.SETTLED if torch.cuda.is_initialized() else Stage.IMPORTED


#: The torch of this process.
TORCH: Final = Torch()


def _imported() -> Any:
    """Return torch if its import has come to its end."""
    torch: Any = sys.modules.get("torch")
    if getattr(getattr(torch, "__spec__", None), "_initializing", False):
        return None  # another thread is importing it
    # What has the name only, or a part of what we look at, is none.
    whole = hasattr(torch, "version") and callable(getattr(getattr(torch, "cuda", None), "is_initialized", None))
    return torch if whole else None


def _version(torch: Any, platform: str) -> str | None:
    version: str | None = getattr(torch.version, platform, None)
    return version


def runtime() -> str | None:
    """Return ``"cuda"`` or ``"hip"``, whichever torch was built for, else ``None``."""
    torch = _imported()
    return next((name for name in ("hip", "cuda") if torch is not None and _version(torch, name)), None)


def runtime_version() -> str | None:
    """Return the version of that which torch was built with."""
    name = runtime()
    return None if name is None else _version(sys.modules["torch"], name)


def accelerator_properties() -> list[dict[str, object]] | None:
    """Return what is known of each kind of device this process sees, if they have been initialised.

    Each kind counts once: with one such device or with eight, compiled code is the same.
    """
    torch = _imported()
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    kinds = {tuple((fact, getattr(device, fact, None)) for fact in _FACTS) for device in devices}
    return [dict(kind) for kind in sorted(kinds, key=repr)]
