"""What the README shows works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.integration
def test_the_first_example_runs(tmp_path: Path) -> None:
    """The fifteen lines of the README run as they stand, compute once, and store below the home directory."""
    block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    script = tmp_path / "program.py"
    script.write_text(block + "\nasyncio.run(main())\n")
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "computed=1, joined=999" in done.stdout
    assert list((tmp_path / ".cache" / "app").rglob("??/*"))


def test_what_the_readme_names_exists() -> None:
    """Files and commands named in the README are there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for name in re.findall(r"`(\w+\.py)`", README):
        assert (ROOT / "examples" / name).is_file()
    for path in re.findall(r"`(docs/[\w./]+)`", README):
        assert (ROOT / path).is_file()
