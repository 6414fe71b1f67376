"""``python -m service.client``: files to lines, and exit codes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client.__main__ import main
from tests.service.pictures import NOT_AN_IMAGE, picture
from tests.service.server_process import Server, serving
from tests.service.small_model import TASKS


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serving(repository, "--max-images", "3") as found:
        yield found


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture(seed=number))
    return [str(tmp_path / f"{number}.png") for number in range(5)]


def ask(server: Server, files: list[str], *flags: str) -> int:
    return main(["predict", *files, "--url", server.url, *flags])


def test_json_lines_have_every_file_in_order_whatever_the_batch(
    server: Server, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for batch in ("1", "2", "16"):  # 16: more than the server takes at once
        assert ask(server, files, "--batch", batch) == 0
        shown.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for lines in shown:
        assert [line["file"] for line in lines] == files
        for line, first in zip(lines, shown[0], strict=True):
            found, expected = line["predictions"], first["predictions"]
            assert [x["task"] for x in found] == [task.name for task in TASKS]
            for mine, other in zip(found, expected, strict=True):
                assert mine["probability"] == pytest.approx(other["probability"], abs=1e-5)
    different = {json.dumps(line["predictions"]) for line in shown[0]}
    assert len(different) >= 3, "all answers alike: the order would not show"


def test_csv_has_a_row_for_each_answer_and_each_failure(
    server: Server, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_bytes(NOT_AN_IMAGE)
    mixed = [files[0], str(tmp_path / "text.jpg"), str(tmp_path / "none.jpg"), files[1]]
    out = tmp_path / "answers.csv"
    flags = ("--tasks", "shoe,kind", "--format", "csv", "--out", str(out), "--priority", "bulk")
    before = server.metric('taskroute_predictions_total{outcome="ok",priority="bulk"}')
    assert ask(server, mixed, *flags) == 3
    assert server.metric('taskroute_predictions_total{outcome="ok",priority="bulk"}') > before
    assert "2 of 4 files" in capsys.readouterr().err
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [Path(row["file"]).name for row in rows] == [
        *("0.png", "0.png", "text.jpg", "none.jpg", "1.png", "1.png"),
    ]
    assert [row["error"].split(":")[0] for row in rows] == [
        *("", "", "unsupported_image_type", "unreadable_file", "", ""),
    ]
    assert 0 <= float(rows[0]["probability"]) <= 1
    assert rows[0]["threshold"] == "0.4"


def test_only_bad_files_is_no_fault_of_the_server(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, [str(tmp_path)]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "unreadable_file"


def test_a_wrong_task_ends_it_with_the_servers_words(
    server: Server, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, files, "--tasks", "sho") == 1
    assert "did you mean 'shoe'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["predict"], ["predict", "x", "--format", "xml"], ["predict", "x", "--batch", "0"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_the_module_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--help"])
    assert caught.value.code == 0
    assert "--timeout-s" in capsys.readouterr().out
