"""Jobs on a small model: answers as the service's, interrupted anywhere, each image once."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from model.preprocess import ImageLimits
from model.repository import Repository
from service.bulk import part_scorer
from service.bulk.cli import main
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.job import Outcome, Request, run_job
from service.bulk.journal import Journal
from service.bulk.part_scorer import BulkOptions
from service.bulk.progress import Progress
from service.bulk.writers import Format
from service.core.prediction import ImageAnswer, ImageFailure
from service.core.run_options import RunOptions
from tests.service.bulk.photos import contents, write_folder, write_shard

COUNT = 23


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("photos"), contents(COUNT))


def run(repository: Path, source: Path | str, out: Path, **changes: Any) -> Outcome:
    console = changes.pop("console", Console(file=io.StringIO()))
    asked: dict[str, Any] = {
        "model": "small",
        "options": BulkOptions(str(repository), RunOptions(strategy="subnet", workers=1)),
        "format": "jsonl",
        "images_per_part": 8,
        "batch_images": 4,
    }
    return run_job(Request(str(source), out, **asked | changes), Progress(console))


def lines(out: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(out.glob("part-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def test_every_image_has_its_answers_or_its_error_in_order(
    repository: Path, photos: Path, tmp_path: Path
) -> None:
    outcome = run(repository, photos, tmp_path / "out")
    found = lines(tmp_path / "out")
    assert [one["image"] for one in found] == [f"{index:05}.png" for index in range(COUNT)]
    assert [one["image"] for one in found if "error" in one] == ["00002.png", "00005.png"]
    assert found[2]["code"] == "unsupported_image_type"
    assert (outcome.total.images, outcome.total.failed) == (COUNT, 2)
    assert outcome.total.rows == (COUNT - 2) * 12
    assert outcome.plan.parts == 3


def test_parquet_has_the_same_answers(repository: Path, photos: Path, tmp_path: Path) -> None:
    run(repository, photos, tmp_path / "lines")
    run(repository, photos, tmp_path / "tables", format="parquet")
    rows = [
        row
        for path in sorted((tmp_path / "tables").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    for line, row in zip(lines(tmp_path / "lines"), rows, strict=True):
        assert row["image"] == line["image"]
        if "error" in line:
            assert row["error"] == f"{line['code']}: {line['error']}"
            assert all(value is None for name, value in row.items() if name.startswith("t0."))
            continue
        assert row["error"] is None
        for answer in line["predictions"]:
            task = answer["task"]
            assert row[f"{task}.label"] == answer["label"]
            assert row[f"{task}.probability"] == pytest.approx(answer["probability"], abs=1e-6)
            if "probabilities" in answer:
                every = list(answer["probabilities"].values())
                assert row[f"{task}.probabilities"] == pytest.approx(every, abs=1e-6)
    metadata = pq.read_schema(next((tmp_path / "tables").glob("*.parquet"))).metadata
    assert metadata[b"digest"].decode() == Repository(repository).read("small").digest
    assert json.loads(metadata[b"tasks"])["shoe"]["threshold"] == 0.4


def test_answers_are_those_of_the_reference(repository: Path, photos: Path, tmp_path: Path) -> None:
    import torch

    from model.decision import answer
    from model.preprocess import load_image
    from model.rows import RowBatch
    from model.strategies import MaskedForward

    run(repository, photos, tmp_path / "out", tasks=("kind", "group:even"))
    bundle = Repository(repository).read("small")
    network, spec = bundle.network(), bundle.config.preprocess
    chosen = network.tasks.select(["kind", "group:even"])
    pixels = torch.from_numpy(load_image((photos / "00007.png").read_bytes(), spec).pixels)[None]
    logits = MaskedForward(network, torch.device("cpu"))(RowBatch.all_pairs(pixels, chosen))
    found = lines(tmp_path / "out")[7]["predictions"]
    assert len(found) == len(chosen)
    for row, task in enumerate(chosen):
        expected = answer(network.tasks[task], logits[row].numpy())
        assert (found[row]["task"], found[row]["label"]) == (expected.task, expected.label)
        assert found[row]["probability"] == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("batches", [1, 3, 4])
def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(
    repository: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
    format_: Format,
) -> None:
    run(repository, photos, tmp_path / "whole", format=format_)
    taken: list[list[str]] = []
    original = part_scorer._Output.take

    def failing(self: Any, batch: Any, answers: Sequence[ImageAnswer | ImageFailure]) -> object:
        if len(taken) == batches:
            raise OSError(28, "No space left on device")
        taken.append([answer.id for answer in answers])
        return original(self, batch, answers)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(part_scorer._Output, "take", failing)
        with pytest.raises(BulkError, match=r"No space left.*the same command goes on"):
            run(repository, photos, out, format=format_)
    before = files(out)
    outcome = run(repository, photos, out, format=format_)
    assert files(out) == files(tmp_path / "whole")
    assert outcome.resumed
    assert outcome.total.images == COUNT
    assert outcome.added.images == COUNT - 8 * len(before)
    assert run(repository, photos, out, format=format_).added.images == 0


def test_tar_shards_give_the_same_answers(repository: Path, photos: Path, tmp_path: Path) -> None:
    everything = contents(COUNT)
    names = sorted(everything)
    for shard, start in (("a", 0), ("b", 10)):
        part = {name: everything[name] for name in names[start : start + 13 if start else 10]}
        write_shard(tmp_path / f"shards/{shard}.tar", part)
    run(repository, tmp_path / "shards", tmp_path / "out")
    run(repository, photos, tmp_path / "whole")
    found, expected = lines(tmp_path / "out"), lines(tmp_path / "whole")
    assert len(found) == COUNT
    for one, other in zip(found, expected, strict=True):
        assert one["image"].split("/", 1)[1] == other["image"]
        probabilities = [row["probability"] for row in one.get("predictions", [])]
        assert probabilities == pytest.approx(
            [row["probability"] for row in other.get("predictions", [])], abs=1e-5
        )


def test_another_job_in_the_same_folder_is_refused(
    repository: Path, photos: Path, tmp_path: Path
) -> None:
    run(repository, photos, tmp_path / "out")
    with pytest.raises(BulkUsageError, match=r"differs in tasks \(was .*, is \('shoe',\)\)"):
        run(repository, photos, tmp_path / "out", tasks=("shoe",))
    with (
        Journal(tmp_path / "out").locked(),
        pytest.raises(BulkUsageError, match="another job writes there"),
    ):
        run(repository, photos, tmp_path / "out")


def test_it_goes_on_with_the_version_that_it_began_with(
    repository: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    models, out = tmp_path / "models", tmp_path / "out"
    shutil.copytree(repository, models)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", _full_disk)
        with pytest.raises(BulkError):
            run(models, photos, out)
    network = Repository(models).read("small").network()
    Repository(models).publish("small", network, {}, "# small\n")
    assert run(models, photos, out).plan.version == 1
    with pytest.raises(BulkUsageError, match="version"):
        run(models, photos, out, version=2)


def test_a_version_that_is_gone_cannot_be_gone_on_with(
    repository: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    models, out = tmp_path / "models", tmp_path / "out"
    shutil.copytree(repository, models)
    run(models, photos, out)
    Repository(models).publish("small", Repository(models).read("small").network(), {}, "# small\n")
    said = io.StringIO()
    run(models, photos, out, console=Console(file=said))
    assert "going on: 3 of 3 parts are there, small version 1; LATEST is 2 now" in said.getvalue()
    shutil.rmtree(models / "small/1")
    with pytest.raises(BulkUsageError, match=r"version 1, which is gone: .* another --out"):
        run(models, photos, out)


def test_another_model_precision_or_limit_is_another_job(
    repository: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(repository, photos, out)
    half = BulkOptions(str(repository), RunOptions(precision="bfloat16"))
    strict = BulkOptions(str(repository), limits=ImageLimits(max_pixels=99))
    for changes, message in (
        ({"model": "large"}, r"differs in model \(was 'small', is 'large'\)"),
        ({"options": half}, r"precision \(was 'float32', is 'bfloat16'\)"),
        ({"options": strict}, r"max_image_pixels \(was 25000000, is 99\)"),
    ):
        with pytest.raises(BulkUsageError, match=message):
            run(repository, photos, out, **changes)


def test_a_relative_input_is_the_same_from_elsewhere_only_if_it_is(
    repository: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.chdir(photos.parent)
    run(repository, Path(photos.name), out)
    monkeypatch.chdir(tmp_path)
    assert run(repository, photos, out).added.images == 0
    with pytest.raises(BulkUsageError, match="differs in input"):
        run(repository, Path(photos.name), out)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_full_disk_stops_the_job_and_leaves_no_half_file(
    repository: Path, photos: Path, tmp_path: Path, format_: Format
) -> None:
    out = tmp_path / "out"
    run(repository, photos, tmp_path / "whole", format=format_)
    for room, begun in ((20, False), (2000, True)):
        with files_up_to(room), pytest.raises(BulkError, match=r"File too large.* goes on"):
            run(repository, photos, out, format=format_)
        assert (out / ".bulk/plan.json").exists() is begun
        assert not files(out)
        assert not list((out / ".bulk").glob("0*"))
    run(repository, photos, out, format=format_)
    assert files(out) == files(tmp_path / "whole")


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_row_that_is_not_a_number_has_its_error_and_the_others_their_answers(
    repository: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from service.core.decisions import DecisionTable

    def first_row(self: DecisionTable, task_index: Any, logits: Any) -> Any:
        return np.array([1])

    monkeypatch.setattr(DecisionTable, "faulty_rows", first_row)
    run(repository, photos, tmp_path / "lines")
    first = lines(tmp_path / "lines")[0]["predictions"]
    assert first[1]["code"] == "non_finite_logits"
    assert "probability" in first[0]
    run(repository, photos, tmp_path / "tables", format="parquet")
    row = pq.read_table(tmp_path / "tables/part-000000.parquet").to_pylist()[0]
    assert row["t1.probability"] is None
    assert row["t0.probability"] is not None
    assert row["error"].startswith("non_finite_logits: ")


@pytest.fixture
def command(repository: Path, photos: Path, tmp_path: Path) -> Iterator[list[str]]:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    given = ["--repository", str(repository), "--model", "small", "--input", str(photos)]
    given += ["--out", str(tmp_path / "out"), "--format", "jsonl", "--threads", "1"]
    yield [*given, "--strategy", "subnet"]
    signal.signal(signal.SIGTERM, before)


def test_the_command_measures_a_batch_and_says_what_it_did(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bulk.scorer.MAX_BATCH_IMAGES", 2)
    assert main(command) == 3
    out = capsys.readouterr().out
    assert f"{COUNT} images in 1 files" in out
    assert "2 of them with an error" in out


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--tasks", "shoo"], 2, "did you mean 'shoe'"),
        (["--input", "/nowhere"], 2, "no such directory"),
        (["--model", "large"], 1, "has no model 'large'"),
        (["--out", "/proc/x"], 2, "cannot be written"),
        (["--precision", "float32", "--version", "9"], 1, "has no version 9"),
    ],
)
def test_errors_are_a_line_with_their_exit_code(
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    message: str,
) -> None:
    assert main([*command, "--batch-images", "4", *more]) == code
    assert message in capsys.readouterr().err
