"""Torch is an extra: these tests pass with it and without."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed, the import says what to install, and is still about torch."""
    modules: dict[str, Any] = sys.modules
    for name in ("torch", "acache.contrib.torch"):
        monkeypatch.delitem(modules, name, raising=False)
    monkeypatch.setitem(modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"acache\[torch\]") as raised:
        import_module("acache.contrib.torch")
    assert raised.value.name == "torch"


@pytest.mark.integration
def test_torch_is_not_imported_for_acache() -> None:
    """Neither acache nor the package of its companions imports torch."""
    code = "import sys, acache, acache.contrib; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
