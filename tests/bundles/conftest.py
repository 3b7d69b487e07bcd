"""A place for bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a bundle may be dumped; there is none yet."""
    home = tmp_path / "bundles"
    home.mkdir(mode=0o700)
    return home / "results"
