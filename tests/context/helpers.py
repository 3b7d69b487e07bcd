"""What tests of isolation share: the type of a fixture, and a torch that is none."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, Protocol


class Register(Protocol):
    """Registers a form until the test is over."""

    def __call__(
        self,
        kind: Literal["compile", "runtime"],
        name: str,
        probe: Callable[[], object],
        volatile: bool = False,
        *,
        replace: bool = False,
    ) -> Callable[[], None]: ...


class FakeTorch(ModuleType):
    """As much of torch as is looked at."""

    def __init__(self, cuda: str | None = "12.6", hip: str | None = None, devices: tuple[Any, ...] = ()) -> None:
        super().__init__("torch")
        self.version = SimpleNamespace(cuda=cuda, hip=hip)
        self.initialized = False
        self.cuda = SimpleNamespace(
            is_initialized=lambda: self.initialized,
            device_count=lambda: len(devices),
            get_device_properties=devices.__getitem__,
        )


#: Lets a module, or ``None``, be what has been imported as torch.
ImportTorch = Callable[[ModuleType | None], None]
