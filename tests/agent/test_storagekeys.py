"""Data keys: wrapped on the volume before they are used, in memory only when open, never made anew beside images."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from errno import EACCES, EIO
from pathlib import Path

import pytest

from pacs_operator.agent import storagekeys
from pacs_operator.agent.storagekeys import Place, StorageKeys, StorageKeysError
from pacs_operator.domain.errors import VaultError
from pacs_operator.vault.pods import DataKey

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
YEAR = timedelta(days=365)
LINEAGE = "0123456789abcdef0123456789abcdef"


class MemoryVault:
    """Wraps by number; for faults. What Vault itself does is in tests/vault/test_data_keys.py."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, bytes]] = []
        self.version = 1
        self.down = False
        self.lies = False

    def make_data_key(self, lineage_id: str, key: str, context: str) -> DataKey:
        self._answer()
        plain = secrets.token_bytes(32)
        self.made.append((key, context, plain))
        return DataKey(plain, f"vault:v{self.version}:{len(self.made)}")

    def unwrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> bytes:
        self._answer()
        found = self.made[int(wrapped.rpartition(":")[2]) - 1]
        assert found[:2] == (key, context)
        return bytes(32) if self.lies else found[2]

    def rewrap_data_key(self, lineage_id: str, key: str, context: str, wrapped: str) -> str:
        self._answer()
        return f"vault:v{self.version}:{wrapped.rpartition(':')[2]}"

    def _answer(self) -> None:
        if self.down:
            raise VaultError("Vault is away", action="wait", reason="VaultUnreachable")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(storagekeys, "require_memory", lambda folder: None)
    (tmp_path / "objects").mkdir()
    return Place(tmp_path / "keys", tmp_path / "objects", tmp_path / "ring")


def keys(vault: MemoryVault, place: Place, lineage: str = LINEAGE) -> StorageKeys:
    return StorageKeys(vault, lineage, "radiology-archive.orthanc", place, YEAR)


def ring(place: Place) -> list[str]:
    return place.ring.read_text().splitlines()


def test_the_first_key_is_made_once_and_survives_a_restart(place: Place) -> None:
    vault = MemoryVault()
    assert keys(vault, place).keep(NOW) == 1
    first = ring(place)
    assert first == ["pacs-keys 1", f"lineage {LINEAGE}", "active 1", f"key 1 {vault.made[0][2].hex()}", "end"]
    assert place.ring.stat().st_mode & 0o777 == 0o600
    place.ring.unlink()
    assert keys(vault, place).keep(NOW + timedelta(days=1)) == 1
    assert ring(place) == first and len(vault.made) == 1


def test_no_open_key_lies_on_the_volume(place: Place) -> None:
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    text = b"".join(path.read_bytes() for path in place.wrapped.iterdir())
    assert vault.made[0][2] not in text and vault.made[0][2].hex().encode() not in text
    assert b"vault:v1:1" in text


def test_an_old_key_gets_a_successor_and_stays(place: Place) -> None:
    vault = MemoryVault()
    one = keys(vault, place)
    assert one.keep(NOW) == 1
    assert one.keep(NOW + YEAR - timedelta(seconds=1)) == 1
    assert one.keep(NOW + YEAR) == 2
    assert [line.split()[1] for line in ring(place) if line.startswith("key ")] == ["1", "2"]
    assert "active 2" in ring(place)


@pytest.mark.parametrize("due", ["age", "count"])
def test_a_key_that_has_no_room_in_the_list_is_not_made_and_the_newest_serves_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, due: str
) -> None:
    vault, feed = MemoryVault(), {"now": NOW + YEAR} if due == "age" else {"now": NOW, "full": 2}
    kept = keys(vault, place)
    kept.keep(NOW - YEAR)
    assert kept.keep(NOW) == 2
    three = len(place.ring.read_bytes()) + len("key 3 \n") + 64
    monkeypatch.setattr(storagekeys, "MAX_RING", three)
    before = ring(place)
    assert kept.keep(**feed) == 2
    assert kept.refused is not None and kept.refused.reason == "StorageKeysFull"
    assert (len(vault.made), ring(place), len(list(place.wrapped.iterdir()))) == (2, before, 2)
    place.ring.unlink()
    assert keys(vault, place).keep(**feed) == 2 and ring(place) == before, "a restart serves too"
    monkeypatch.setattr(storagekeys, "MAX_RING", three + 1)
    assert kept.keep(**feed) == 3
    assert kept.refused is None and len(place.ring.read_bytes()) == three


def test_without_vault_a_running_archive_keeps_its_list_and_a_starting_one_gets_none(place: Place) -> None:
    vault = MemoryVault()
    running = keys(vault, place)
    running.keep(NOW)
    before = place.ring.read_text()
    vault.down = True
    assert running.keep(NOW + timedelta(days=1)) == 1
    with pytest.raises(VaultError):
        running.keep(NOW + YEAR)
    assert place.ring.read_text() == before
    place.ring.unlink()
    with pytest.raises(VaultError):
        keys(vault, place).keep(NOW)
    assert not place.ring.exists()


def test_an_agent_that_restarts_needs_no_vault_for_keys_that_are_in_memory(place: Place) -> None:
    """Its twin: the same, without the list in memory, is a start, and waits."""
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    before = place.ring.read_text()
    vault.down = True
    assert keys(vault, place).keep(NOW) == 1
    assert place.ring.read_text() == before
    place.ring.unlink()
    with pytest.raises(VaultError):
        keys(vault, place).keep(NOW)


@pytest.mark.parametrize("change", [("end", ""), (LINEAGE, "f" * 32), ("key 1", "key 2"), ("key 1 ", "key 1 zz")])
def test_a_list_that_is_not_this_archives_or_not_whole_is_not_taken(place: Place, change: tuple[str, str]) -> None:
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    whole = place.ring.read_text()
    place.ring.write_text(whole.replace(*change))
    vault.down = True
    with pytest.raises(VaultError):
        keys(vault, place).keep(NOW)
    vault.down = False
    assert keys(vault, place).keep(NOW) == 1
    assert place.ring.read_text() == whole


def test_vault_that_goes_away_between_two_keys_leaves_room_for_what_a_person_restores(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = MemoryVault()
    before = keys(vault, place)
    before.keep(NOW)
    before.keep(NOW + YEAR)
    whole = place.ring.read_bytes()
    place.ring.unlink()
    starting, opened = keys(vault, place), vault.unwrap_data_key

    def once(*arguments: str) -> bytes:
        plain, vault.down = opened(*arguments), True
        return plain

    monkeypatch.setattr(vault, "unwrap_data_key", once)
    for _ in range(2):
        with pytest.raises(VaultError):
            starting.keep(NOW + YEAR)
    place.ring.write_bytes(whole)
    assert starting.keep(NOW + YEAR) == 2 and place.ring.read_bytes() == whole


@pytest.mark.parametrize("errno", [EIO, EACCES])
def test_a_disk_that_does_not_say_what_it_holds_gets_no_first_key(
    place: Place, monkeypatch: pytest.MonkeyPatch, errno: int
) -> None:
    """Its twin is an empty one: taken for that, key 1 would be written over by another."""
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    before = (place.wrapped / "1.json").read_bytes()
    place.ring.unlink()

    def sick(folder: object) -> None:
        raise OSError(errno, "sick")

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", sick)
        patched.setattr(os, "listdir", sick)
        with pytest.raises(OSError, match="sick"):
            keys(vault, place).keep(NOW)
    assert len(vault.made) == 1 and (place.wrapped / "1.json").read_bytes() == before


def test_images_that_cannot_be_listed_may_be_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, scandir = MemoryVault(), os.scandir
    (place.objects / "ab").mkdir()

    def sick(folder: str) -> object:
        if Path(folder) == place.objects / "ab":
            raise OSError(EIO, "sick")
        return scandir(folder)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", sick)
        with pytest.raises(OSError, match="sick"):
            keys(vault, place).keep(NOW)
    assert vault.made == []
    assert keys(vault, place).keep(NOW) == 1


def test_images_without_a_key_are_not_given_a_new_one(place: Place) -> None:
    vault = MemoryVault()
    (place.objects / "ab").mkdir()
    (place.objects / "ab" / "object").write_bytes(b"PACE")
    with pytest.raises(StorageKeysError) as refused:
        keys(vault, place).keep(NOW)
    assert (refused.value.reason, refused.value.retry) == ("StorageKeysLost", False)
    assert vault.made == [] and not place.ring.exists()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_key_whose_file_is_gone_stays_in_memory_and_its_number_is_not_given_again(
    place: Place, restarted: bool
) -> None:
    """As after a restore of an older folder: what is in memory may be all there is of it."""
    vault = MemoryVault()
    one = keys(vault, place)
    one.keep(NOW)
    one.keep(NOW + YEAR)
    before, file = ring(place), place.wrapped / "2.json"
    content = file.read_bytes()
    file.unlink()
    one = keys(vault, place) if restarted else one
    for later in (YEAR - timedelta(seconds=1), YEAR):  # the twin: one that is there gets its successor
        with pytest.raises(StorageKeysError) as refused:
            one.keep(NOW + later)
        assert refused.value.reason == "StorageKeysLost"
        assert before[3:5] == ring(place)[3:5], "both keys, as they were"
        assert ring(place)[2] == f"active {1 if later < YEAR else 3}", "nothing new is sealed with it"
    file.write_bytes(content)
    assert one.keep(NOW + YEAR) == 3
    assert [line.split()[:2] for line in ring(place)[3:-1]] == [["key", "1"], ["key", "2"], ["key", "3"]]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_a_folder_of_keys_that_is_lost_changes_nothing_in_memory(place: Place, restarted: bool, images: bool) -> None:
    vault = MemoryVault()
    one = keys(vault, place)
    one.keep(NOW)
    if images:
        (place.objects / "object").write_bytes(b"PACE")
    before, content = ring(place), (place.wrapped / "1.json").read_bytes()
    (place.wrapped / "1.json").unlink()
    one = keys(vault, place) if restarted else one
    with pytest.raises(StorageKeysError) as refused:
        one.keep(NOW + YEAR)
    assert refused.value.reason == "StorageKeysLost"
    assert (one.active, ring(place), len(vault.made)) == (1, before, 1)
    (place.wrapped / "1.json").write_bytes(content)
    assert one.keep(NOW) == 1 and ring(place) == before


def test_another_archives_keys_are_refused(place: Place) -> None:
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    place.ring.unlink()
    with pytest.raises(StorageKeysError) as refused:
        keys(vault, place, "f" * 32).keep(NOW)
    assert refused.value.reason == "StorageKeysForeign"
    assert not place.ring.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"id": 1}'])
def test_a_damaged_file_is_named(place: Place, content: bytes) -> None:
    vault = MemoryVault()
    keys(vault, place).keep(NOW)
    (place.wrapped / "1.json").write_bytes(content)
    with pytest.raises(StorageKeysError, match=r"1\.json"):
        keys(vault, place).keep(NOW)


def test_a_key_that_does_not_open_to_what_was_made_is_not_used(place: Place) -> None:
    vault = MemoryVault()
    vault.lies = True
    with pytest.raises(StorageKeysError, match="does not unwrap"):
        keys(vault, place).keep(NOW)
    assert not place.ring.exists()


def test_a_rotated_transit_key_wraps_anew_within_a_day_and_changes_no_key(place: Place) -> None:
    vault = MemoryVault()
    one = keys(vault, place)
    one.keep(NOW)
    file, open_keys = place.wrapped / "1.json", ring(place)
    before = file.read_bytes()
    one.rewrap(NOW)
    assert file.read_bytes() == before, "the same version is nothing new"
    vault.version = 2
    one.rewrap(NOW + timedelta(hours=23))
    assert file.read_bytes() == before
    one.rewrap(NOW + timedelta(days=1))
    assert b"vault:v2:1" in file.read_bytes() and ring(place) == open_keys
    place.ring.unlink()
    keys(vault, place).keep(NOW + timedelta(days=2))
    assert ring(place) == open_keys


def test_a_wrapping_that_does_not_open_never_takes_the_place_of_one_that_does(place: Place) -> None:
    vault = MemoryVault()
    one = keys(vault, place)
    one.keep(NOW)
    before = (place.wrapped / "1.json").read_bytes()
    vault.version, vault.lies = 2, True
    with pytest.raises(StorageKeysError, match="does not unwrap"):
        one.rewrap(NOW)
    assert (place.wrapped / "1.json").read_bytes() == before


@pytest.mark.parametrize("answer", ["", "vault:v2:no base64!", "vault:v2:" + "A" * 600])
def test_an_answer_that_is_no_wrapping_is_refused(place: Place, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = MemoryVault()
    monkeypatch.setattr(vault, "make_data_key", lambda *_: DataKey(bytes(32), answer))
    with pytest.raises(StorageKeysError):
        keys(vault, place).keep(NOW)
    assert not place.ring.exists() and not list(place.wrapped.iterdir())


def test_killed_after_the_wrapped_key_was_written_it_is_taken_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = MemoryVault()

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(storagekeys, "sync_folder", killed)
        keys(vault, place).keep(NOW)
    assert not place.ring.exists()
    assert keys(vault, place).keep(NOW) == 1
    assert len(vault.made) == 1
