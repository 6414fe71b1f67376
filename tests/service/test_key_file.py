"""Keys: what the file keeps, what it recognises, and what happens when it changes."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from service import keys
from service.key_file import KeyFileError, KeyRing, KeyScope, make_key, read_keys, write_keys
from tests.service.fakes import FakeClock


def a_file(folder: Path, *scopes: KeyScope) -> tuple[Path, str]:
    key, entry = make_key(scopes or ("predict",))
    path = folder / "keys.json"
    write_keys(path, [entry])
    return path, key


def test_the_file_has_no_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path, key = a_file(tmp_path)
    assert key.rsplit("_", 1)[1] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_two_keys_never_share_a_salt_or_a_digest() -> None:
    (_, first), (_, second) = make_key(["predict"]), make_key(["predict"])
    assert {first.id, first.salt, first.sha256}.isdisjoint({second.id, second.salt, second.sha256})


def test_only_the_whole_key_is_recognised(tmp_path: Path) -> None:
    path, key = a_file(tmp_path, "admin", "predict")
    ring = KeyRing(path, FakeClock())
    found = ring.find(key)
    assert found is not None
    assert found.scopes == {"admin", "predict"}
    prefix, key_id, secret = key.split("_")
    wrong = [
        "",
        "_",
        "é",
        secret,
        key[:-1],
        key + "0",
        key.upper(),
        f"xx_{key_id}_{secret}",
        f"{prefix}_{key_id}_",
        f"{prefix}_{'0' * 12}_{secret}",
        key + "0" * 100_000,
    ]
    assert [text for text in wrong if ring.find(text)] == []


def test_a_changed_file_is_read_within_a_second(tmp_path: Path) -> None:
    path, first = a_file(tmp_path)
    clock = FakeClock()
    ring = KeyRing(path, clock)
    second, entry = make_key(["predict"])
    write_keys(path, [entry])
    assert ring.find(first)
    clock.advance(1)
    assert ring.find(first) is None
    assert ring.find(second) == entry


@pytest.mark.parametrize("damage", ["broken", "gone"])
def test_a_file_that_breaks_leaves_the_keys_in_force(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path, key = a_file(tmp_path)
    clock = FakeClock()
    ring = KeyRing(path, clock)
    good = path.read_text()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(good[:40])
    clock.advance(1)
    assert ring.find(key)
    clock.advance(1)
    assert ring.find(key)
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    path.write_text(good)
    os.utime(path, ns=(1, 1))
    clock.advance(1)
    assert ring.find(key)
    assert caplog.records[-1].getMessage() == "keys reloaded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "short"}, "keys.0.id"),
        ({"scopes": []}, "keys.0.scopes"),
        ({"scopes": ["root"]}, "keys.0.scopes"),
        ({"salt": "xyz"}, "keys.0.salt"),
        ({"secret": "oops"}, "keys.0.secret"),
    ],
)
def test_a_wrong_entry_is_named_and_not_quoted(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path, _ = a_file(tmp_path)
    document = json.loads(path.read_text())
    document["keys"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match=message) as caught:
        KeyRing(path, FakeClock())
    assert "oops" not in str(caught.value)


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    _, entry = make_key(["predict"])
    write_keys(tmp_path / "keys.json", [entry, entry])
    with pytest.raises(KeyFileError, match=entry.id):
        read_keys(tmp_path / "keys.json")


def test_the_command_line_adds_lists_and_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    file = ["--file", str(path)]
    assert keys.main(["add", "--scope", "predict", "--name", "shop", *file]) == 0
    first = capsys.readouterr().out.strip()
    path.chmod(0o640)
    assert keys.main(["add", "--scope", "predict", "--scope", "admin", *file]) == 0
    second = capsys.readouterr().out.strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    ring = KeyRing(path, FakeClock())
    assert ring.find(first)
    assert ring.find(second)
    assert keys.main(["list", *file]) == 0
    shown = capsys.readouterr().out
    assert "\tshop\n" in shown
    assert "admin,predict" in shown
    assert not [key for key in (first, second) if key.rsplit("_", 1)[1] in shown]
    assert keys.main(["remove", first.split("_")[1], *file]) == 0
    assert KeyRing(path, FakeClock()).find(first) is None
    assert keys.main(["remove", "nobody", *file]) == 1
    assert "has no key 'nobody'" in capsys.readouterr().err


def test_a_missing_file_is_told_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys.main(["list", "--file", str(tmp_path / "none.json")]) == 1
    assert "python -m service.keys add" in capsys.readouterr().err
