"""What the disk tier makes of stored bytes that are not a live entry of its own: D11 to D14, V2, T1, T4, T11, D29."""

from __future__ import annotations

import os
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from acache.codecs import FORMAT, Signer, encode_frame, get_codec, version_digest
from acache.events import TierEvent
from acache.exceptions import EntryRejectedError, ValueUnPicklingError
from acache.files import QUARANTINE_LIMIT
from acache.testing.files import FaultyFileSystem
from acache.types import Entry, Hit, Key, Written
from tests.disk.helpers import key, path_of, plant, quarantined, temporaries

if TYPE_CHECKING:
    from acache.testing import ManualClock
    from acache.tiers import DiskTier
    from tests.disk.conftest import MakeTier

#: What loading an :class:`Exploding` adds to.
EXPLODED: list[str] = []


def explode(trace: str) -> None:
    """Leave a trace."""
    EXPLODED.append(trace)


class Exploding:
    """A payload: loading it shows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ("boom",)


class Gone:
    """A class that later versions of a program do not have."""


def frame(key: Key, value: object = "value", *, version: int = 0, signer: Signer | None = None) -> bytes:
    """Return a valid entry that never expires."""
    codec = get_codec("pickle")
    parts = encode_frame(Entry(value, 0.0), key, codec=codec, version_digest=version_digest(version), signer=signer)
    return b"".join(parts)


def future_frame(key: Key) -> bytes:
    """Return an entry of the next format, of which only the beginning is known."""
    start = frame(key)[:6] + (FORMAT + 1).to_bytes(2, "little")
    return start + zlib.crc32(start).to_bytes(4, "little") + b"whatever comes then"


def damages(data: bytes) -> list[bytes]:
    """Return every truncation, every flip of one bit, zeroed tails and appended bytes."""
    cut = [data[:length] for length in range(len(data))]
    flipped = [
        data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)
    ]
    zeroed = [data[:at] + bytes(len(data) - at) for at in range(0, len(data), 7)]
    return [*cut, *flipped, *(bad for bad in zeroed if bad != data), data + b"\0", data + data]


@pytest.mark.parametrize("on_corrupt", ["miss", "raise"])
async def test_every_damage_is_found_and_heals(make_tier: MakeTier, on_corrupt: str) -> None:
    """No truncation and no flipped bit is ever a value: each is a miss, or an error if asked, and the next insert heals."""
    tier = make_tier(on_corrupt=on_corrupt)
    good = frame(key(1))
    path = plant(tier, key(1), good)
    assert await tier.get(key(1)) == Hit("value")
    for number, bad in enumerate(damages(good)):
        path.write_bytes(bad)
        if on_corrupt == "raise":
            with pytest.raises(ValueUnPicklingError):
                await tier.get(key(1))
        else:
            assert await tier.get(key(1)) is None
        assert await tier.insert(key(1), number) is True
        assert await tier.get(key(1)) == Hit(number)
    assert len(quarantined(tier)) <= QUARANTINE_LIMIT
    assert tier.statistics().rejections == len(damages(good))


@pytest.mark.parametrize("write", ["insert", "set"])
async def test_every_damage_gives_way(tier: DiskTier, write: str) -> None:
    """A write over a damaged entry stores, without a read before it."""
    good = frame(key(1))
    path = plant(tier, key(1), good)
    for bad in damages(good)[::5]:
        path.write_bytes(bad)
        assert await getattr(tier, write)(key(1), "new") is True
        assert await tier.get(key(1)) == Hit("new")


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_large_files_are_checked_before_they_are_read(make_tier: MakeTier, size: int) -> None:
    """A file that is not as large as it says is not read to its end: a sparse one of 1 TB costs nothing (T11)."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    path = plant(tier, key(1), frame(key(1), b"x" * size))
    assert await tier.get(key(1)) == Hit(b"x" * size)
    os.truncate(path, 1 << 40)
    files.heal()
    assert await tier.get(key(1)) is None
    assert files.calls.count("pread") == 2  # once to reject it, once more under the lock to take it away
    assert await tier.insert(key(1), "new")


async def test_planted_code_never_runs(make_tier: MakeTier) -> None:
    """With a signer, nothing that is unsigned, wrongly signed, of another key or version is ever unpickled (T1, T4)."""
    signer = Signer(b"k" * 32)
    tier = make_tier(signer=signer)
    bomb = Exploding()
    plants = {
        "unsigned": frame(key(1), bomb),
        "signature": frame(key(1), bomb, signer=Signer(b"x" * 32)),
        "corrupt": frame(key(1), bomb, signer=signer)[:-1],
        "foreign": frame(key(2), bomb, signer=signer),
    }
    with tier.events.capture() as events:
        for planted in plants.values():
            plant(tier, key(1), planted)
            assert await tier.get(key(1)) is None
            assert not path_of(tier, key(1)).exists()
        plant(tier, key(1), frame(key(1), bomb, signer=signer, version=1))
        assert await tier.get(key(1)) is None
    rejected = [event for event in events if isinstance(event, TierEvent) and event.outcome == "rejected"]
    assert [event.reason for event in rejected] == list(plants)
    assert len(quarantined(tier)) == 4
    assert EXPLODED == []
    plant(tier, key(1), frame(key(1), bomb, signer=signer))
    assert await tier.get(key(1)) == Hit(None)
    assert EXPLODED == ["boom"]
    EXPLODED.clear()


async def test_entry_of_another_key(tier: DiskTier) -> None:
    """Two entries that were swapped are two misses, not two wrong values (T4)."""
    await tier.set(key(1), 1)
    await tier.set(key(2), 2)
    one, two = path_of(tier, key(1)), path_of(tier, key(2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert await tier.get_many([key(1), key(2)]) == {}
    assert len(quarantined(tier)) == 2


async def test_signed_entry_without_a_key(make_tier: MakeTier) -> None:
    """Who cannot verify a signature has no right to take the entry away; an insert of his own replaces it."""
    signing, plain = make_tier(signer=Signer(b"k" * 32)), make_tier()
    await signing.set(key(1), "signed")
    assert await plain.get(key(1)) is None
    assert await signing.get(key(1)) == Hit("signed")
    assert await plain.insert(key(1), "plain") is True
    assert await plain.get(key(1)) == Hit("plain")


async def test_key_rotation(make_tier: MakeTier) -> None:
    """Entries of the old key live as long as it is verified (T3)."""
    old, both = make_tier(signer=Signer(b"1" * 32)), make_tier(signer=Signer(b"2" * 32, verify=[b"1" * 32]))
    await old.set(key(1), "old")
    assert await both.get(key(1)) == Hit("old")
    assert await both.set(key(1), "new")
    assert await make_tier(signer=Signer(b"2" * 32)).get(key(1)) == Hit("new")
    assert await old.get(key(1)) is None


@pytest.mark.parametrize("on_corrupt", ["miss", "raise"])
async def test_version_mismatch(make_tier: MakeTier, on_corrupt: str) -> None:
    """After a change of version the old entry is a miss, removed, and replaced by an insert; so it is after going back."""
    tiers = [make_tier(version=version, on_corrupt=on_corrupt) for version in (1, 2)]
    assert await tiers[0].insert(key(1), "one")
    for number in (1, 0, 1, 0):
        path = path_of(tiers[number], key(1))
        assert path.exists()
        assert await tiers[number].get(key(1)) is None
        assert not path.exists()
        assert await tiers[number].insert(key(1), number) is True
        assert await tiers[number].get(key(1)) == Hit(number)
    assert [tier.statistics().rejections for tier in tiers] == [0, 0]
    assert quarantined(tiers[0]) == []


async def test_insert_over_another_version(make_tier: MakeTier) -> None:
    """An entry of another version does not stop an insert, nor a set, that did not read it before."""
    one, two = make_tier(version=1), make_tier(version="two")
    await one.set(key(1), "one")
    assert await two.insert(key(1), "two") is True
    assert await one.set(key(1), "one") is True
    assert await two.get(key(1)) is None


@pytest.mark.parametrize("on_corrupt", ["miss", "raise"])
async def test_future_format(make_tier: MakeTier, on_corrupt: str) -> None:
    """An entry of a later format is a miss that stays: neither read nor insert destroy it, only a set does (D14)."""
    tier = make_tier(on_corrupt=on_corrupt)
    path = plant(tier, key(1), future_frame(key(1)))
    assert await tier.get(key(1)) is None
    assert await tier.insert(key(1), "ours") is False
    assert path.read_bytes() == future_frame(key(1))
    assert (tier.statistics().rejections, quarantined(tier)) == (0, [])
    assert await tier.set(key(1), "ours") is True
    assert await tier.get(key(1)) == Hit("ours")


async def test_other_codec(tier: DiskTier) -> None:
    """An entry of another codec is no hit and no evidence: it stays until it is replaced."""
    json = get_codec("json")
    await tier.write(key(1), Entry("json", 0.0), replace=True, codec=json)
    assert await tier.get(key(1)) is None
    found = await tier.read(key(1), json)
    assert found is not None
    assert found.value == "json"
    assert await tier.insert(key(1), "pickle") is True
    assert await tier.get(key(1)) == Hit("pickle")


async def test_value_that_cannot_be_decoded(
    make_tier: MakeTier, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value whose class is gone is a miss that stays: a peer may have the class. An insert replaces it (V2)."""
    tier, raising = make_tier(), make_tier(on_corrupt="raise")
    await tier.set(key(1), Gone())
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    assert await tier.get(key(1)) is None
    with pytest.raises(ValueUnPicklingError) as caught:
        await raising.get(key(1))
    assert not isinstance(caught.value, EntryRejectedError)
    assert (path_of(tier, key(1)).exists(), quarantined(tier)) == (True, [])
    assert await tier.insert(key(1), "new") is True
    assert await tier.get(key(1)) == Hit("new")


async def test_expired_entry(tier: DiskTier, manual_clock: ManualClock) -> None:
    """An expired entry is a miss and does not stop an insert."""
    await tier.insert(key(1), "old", ttl=10)
    assert await tier.insert(key(1), "new") is False
    manual_clock.advance(11)
    assert await tier.get(key(1)) is None
    assert await tier.insert(key(1), "new") is True
    assert await tier.get(key(1)) == Hit("new")


async def test_quarantine_is_bounded(tier: DiskTier) -> None:
    """Only the last bad files are kept, under the names of their keys."""
    for number in range(QUARANTINE_LIMIT + 20):
        plant(tier, key(number), b"rubbish")
        assert await tier.get(key(number)) is None
    kept = quarantined(tier)
    assert len(kept) == QUARANTINE_LIMIT
    newest = {str(key(number)) for number in range(30, QUARANTINE_LIMIT + 20)}
    assert newest <= {name.partition(".")[0] for name in kept}


@pytest.mark.parametrize("use", ["get", "insert"])
async def test_peer_heals_first(make_tier: MakeTier, use: str) -> None:
    """A fresh entry that a peer publishes between our verdict and the removal is not taken away (D29)."""
    files = FaultyFileSystem()
    ours, peer = make_tier(files=files), make_tier()
    path = plant(ours, key(1), b"rubbish")
    fresh = path.with_name("fresh")
    fresh.write_bytes(frame(key(1), "fresh"))
    # The last moment there is: the call that would move the bad file away.
    files.fail(0, lambda: fresh.rename(path), once=True, only="rename")
    if use == "get":
        assert await ours.get(key(1)) is None
    else:
        assert await ours.insert(key(1), "late") is False
    assert files.struck == 1
    assert await peer.get(key(1)) == Hit("fresh")
    assert (quarantined(ours), temporaries(path.parent)) == ([], [])


@pytest.mark.parametrize("call", ["rename", "rename_new"])
async def test_one_clears_at_a_time(make_tier: MakeTier, call: str) -> None:
    """While one clears a dead entry away no other does, and who finds it cleared away wins: one insert wins, not two."""
    files = FaultyFileSystem()
    ours, peer = make_tier(files=files), make_tier(files=FaultyFileSystem())
    plant(ours, key(1), b"rubbish")
    outcome: list[object] = []

    def insert_as_peer() -> None:
        files.heal()
        try:
            outcome.append(peer._store(key(1), Entry("peer", 0.0), get_codec("pickle"), replace=False))
        except BlockingIOError:
            outcome.append("refused")

    # The dead entry is about to be moved aside; or it has been, and ours is about to take its place.
    files.fail(0 if call == "rename" else 1, insert_as_peer, once=True, only=call)
    assert await ours.insert(key(1), "ours") is (call == "rename")
    assert outcome == ["refused" if call == "rename" else Written.NEW]
    assert await peer.get(key(1)) == Hit("ours" if call == "rename" else "peer")


async def test_bad_entry_vanishes(make_tier: MakeTier) -> None:
    """A bad file that a peer takes away first is nobody's problem."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    path = plant(tier, key(1), b"rubbish")
    files.fail(0, path.unlink, once=True, only="rename")
    assert await tier.get(key(1)) is None
    plant(tier, key(1), b"rubbish")
    files.fail(0, path.unlink, once=True, only="rename")
    assert await tier.insert(key(1), "new") is True
    assert tier.statistics().failures == 0


async def test_peer_replaces_forever(make_tier: MakeTier) -> None:
    """A peer that stores dead entries as fast as they are cleared away does not hold an insert up for ever."""
    files = FaultyFileSystem()
    tier = make_tier(files=files)
    path = plant(tier, key(1), b"rubbish")
    files.fail(0, lambda: path.write_bytes(b"rubbish"), only="rename_new")
    assert await tier.insert(key(1), "new") is False
    assert tier.statistics().failures == 1
    files.heal()
    assert temporaries(path.parent) == []
    assert await tier.insert(key(1), "new") is True
