"""A job that reads from an S3 server, which goes away and returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.bulk import part_scorer
from service.bulk.errors import BulkError
from tests.object_store import BUCKET, ObjectStore, object_store
from tests.service.bulk.photos import contents, write_folder
from tests.service.bulk.test_job import files, run

pytest.importorskip("moto", reason="an S3-compatible server for tests is not installed")
pytest.importorskip("s3fs", reason="the extra `remote` is not installed")

URL = f"s3://{BUCKET}/photos"
COUNT = 23


def fill(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    for name, data in contents(COUNT).items():
        s3fs.S3FileSystem().pipe_file(f"{URL}/{name}", data)


@pytest.mark.slow
def test_a_store_that_goes_away_stops_the_job_and_it_goes_on_when_it_is_back(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    original = part_scorer._Output.take
    with object_store() as store:
        fill(store, monkeypatch)

        def cut_off(self: Any, batch: Any, answers: Any) -> object:
            store.process.kill()
            store.process.wait(10)
            return original(self, batch, answers)

        with monkeypatch.context() as patch:
            patch.setattr(part_scorer._Output, "take", cut_off)
            with pytest.raises(BulkError, match=r"png of the input cannot be read: .*goes on when"):
                run(repository, URL, out, images_per_part=4)
    assert 0 < len(files(out)) < 6
    with object_store(store.port) as again:
        fill(again, monkeypatch)
        assert run(repository, URL, out, images_per_part=4).resumed
    photos = write_folder(tmp_path / "photos", contents(COUNT))
    run(repository, photos, tmp_path / "whole", images_per_part=4)
    assert files(out) == files(tmp_path / "whole")
