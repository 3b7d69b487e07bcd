"""What the tests of the disk tier share: keys, where things lie, values that check themselves, child processes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from acache.files import TEMPORARY
from acache.types import Key

if TYPE_CHECKING:
    from acache.tiers import DiskTier

ROOT: Final = Path(__file__).parents[2]

#: What makes up a value that checks itself: who wrote it, how often, padding, and a digest of all that.
Proof = tuple[str, int, bytes, str]


def key(name: object) -> Key:
    """Return a key that looks like a real one."""
    return Key(hashlib.sha256(str(name).encode()).hexdigest())


def path_of(tier: DiskTier, key: Key) -> Path:
    """Return where the entry of ``key`` lies."""
    return Path(tier._shelf.path, key[62:], key[:62])


def plant(tier: DiskTier, key: Key, content: bytes) -> Path:
    """Put ``content`` where the entry of ``key`` belongs."""
    path = path_of(tier, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def temporaries(directory: str | Path) -> list[Path]:
    """Return the temporary files below ``directory``."""
    return sorted(Path(directory).rglob(TEMPORARY + "*"))


def quarantined(tier: DiskTier) -> list[str]:
    """Return what lies in quarantine."""
    path = Path(tier._shelf.path, ".quarantine")
    return sorted(each.name for each in path.iterdir()) if path.exists() else []


def open_files() -> list[str]:
    """Return the descriptors this process has open."""
    return sorted(path.name for path in Path("/dev/fd").iterdir())


def make_proof(writer: str, number: int, size: int) -> Proof:
    """Return a value that :func:`is_proof` accepts, and of which no part can be exchanged."""
    padding = hashlib.sha256(f"{writer} {number}".encode()).digest() * (size // 32)
    return writer, number, padding, _digest(writer, number, padding)


def is_proof(value: object) -> bool:
    """Tell whether the value is one that was written."""
    match value:
        case (str(writer), int(number), bytes(padding), str(digest)):
            return digest == _digest(writer, number, padding)
        case _:
            return False


def _digest(writer: str, number: int, padding: bytes) -> str:
    return hashlib.sha256(f"{writer} {number} ".encode() + padding).hexdigest()


class Child:
    """A command of :mod:`tests.disk.children` in a process of its own."""

    def __init__(self, command: str, *args: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.disk.children", command, *map(str, args)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def go(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def says(self) -> str:
        """Wait for its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def result(self) -> Any:
        """Wait for its end and return what it found; fail if it failed."""
        output, errors = self.process.communicate(timeout=90)
        assert (self.process.returncode, errors) == (0, ""), f"{self.process.returncode}: {errors}"
        return json.loads(output)

    def kill(self) -> None:
        """End it, whatever it does. Idempotent."""
        self.process.kill()
        self.process.communicate()
