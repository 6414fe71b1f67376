"""The Visual Decathlon's annotation files and images, as unpacked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.sources.photos import write_photos
from training.errors import DataError, SourceError
from training.sources import MISSING, Dataset, open_source

# Ids are unique over the domains, and the first domain's do not begin at 1.
CATEGORIES = {
    "aircraft": {10000001: "707-320", 10000002: "Cessna", 10000003: "DC-3"},
    "daimlerpedcls": {20000001: "non-pedestrian", 20000002: "pedestrian"},
    "imagenet12": {30000001: "crane", 30000002: "maillot", 30000003: "crane"},
}
COUNTS = {"train": 6, "val": 3, "test": 4}


def coco(domain: str, split: str) -> dict[str, Any]:
    ids = list(CATEGORIES[domain])
    images = [
        {
            "id": ids[0] * 10 + 100 * len(split) + number,
            "file_name": f"data/{domain}/{split}/{number % len(ids):04d}/{number:06d}.jpg",
            "width": 96,
            "height": 72,
        }
        for number in range(COUNTS[split])
    ]
    return {
        "info": {"description": domain},
        "licenses": [],
        "images": images,
        "annotations": [
            {
                "id": image["id"],
                "image_id": image["id"],
                "category_id": ids[number % len(ids)],
                "bbox": [0, 0, 96, 72],
            }
            for number, image in enumerate(images)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": domain}
            for number, name in CATEGORIES[domain].items()
        ],
    }


def write(root: Path, domain: str, split: str, content: dict[str, Any], suffix: str = "") -> None:
    path = root / f"annotations/{domain}_{split}{suffix}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "decathlon-1.0"
    for domain in CATEGORIES:
        for split in COUNTS:
            content = coco(domain, split)
            write_photos(root, [image["file_name"] for image in content["images"]])
            stripped = split == "test" and domain != "aircraft"
            if stripped:
                del content["annotations"]
            write(root, domain, split, content, "_stripped" if stripped else "")
    return root


def read(root: Path, choices: str = "") -> Dataset:
    return open_source(f"decathlon:{root}{choices}")


def test_each_domain_is_a_task_of_its_own_images(root: Path) -> None:
    dataset = read(root)
    assert dataset.tasks.names == ("aircraft", "daimlerpedcls", "imagenet12")
    assert dataset.tasks[0].classes == ("707-320", "Cessna", "DC-3")
    assert dataset.tasks[1].classes == ("non-pedestrian", "pedestrian")
    assert dataset.counts() == {"train": 18, "val": 9, "test": 4}
    assert dataset.labels[:13, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert dataset.labels[13:22, 1].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert ((dataset.labels != MISSING).sum(axis=1) == 1).all()
    assert dataset.images.name(13) == "data/daimlerpedcls/train/0000/000000.jpg"
    assert dataset.images.read(13) == (root / dataset.images.name(13)).read_bytes()


def test_withheld_test_labels_are_said(root: Path) -> None:
    assert read(root).notes == ("no test labels: daimlerpedcls, imagenet12",)


def test_categories_of_one_name_are_told_apart(root: Path) -> None:
    assert read(root).tasks[2].classes == ("crane (30000001)", "maillot", "crane (30000003)")


def test_domains_can_be_chosen(root: Path) -> None:
    dataset = read(root.parent, ",domains=imagenet12+aircraft")
    assert dataset.tasks.names == ("imagenet12", "aircraft")
    assert len(dataset.images) == 9 + 13
    with pytest.raises(
        SourceError, match=r"no domain 'svhn'; .* has aircraft, daimlerpedcls, imag"
    ):
        read(root, ",domains=aircraft+svhn")
    with pytest.raises(SourceError, match="a domain twice"):
        read(root, ",domains=aircraft+aircraft")


def test_images_may_lie_beside_the_annotations(root: Path) -> None:
    expected = read(root).labels.tolist()
    for domain in CATEGORIES:
        (root / "data" / domain).rename(root / domain)
    (root / "data").rmdir()
    assert read(root).labels.tolist() == expected


def _second_annotation(content: dict[str, Any]) -> None:
    content["annotations"].append(content["annotations"][0])


def _no_annotation(content: dict[str, Any]) -> None:
    content["annotations"].pop()


def _unknown_category(content: dict[str, Any]) -> None:
    content["annotations"][1]["category_id"] = 7


def _no_file_name(content: dict[str, Any]) -> None:
    del content["images"][2]["file_name"]


def _another_image(content: dict[str, Any]) -> None:
    content["images"][2]["file_name"] = "data/aircraft/val/nowhere.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_second_annotation, r"aircraft_val\.json has 3 images and 4 annotations of 3 images"),
        (_no_annotation, r"aircraft_val\.json has 3 images and 2 annotations of 2 images"),
        (_unknown_category, r"aircraft_val\.json has category 7, which its domain's training file"),
        (_no_file_name, r"aircraft_val\.json is no annotation file: images\.2\.file_name: "),
        (_another_image, r"1 of the 31 images .*annotations lists .*val/nowhere\.jpg"),
    ],
)
def test_mistakes(root: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = coco("aircraft", "val")
    change(content)
    write(root, "aircraft", "val", content)
    with pytest.raises(DataError, match=message):
        read(root)


def test_missing_and_broken_files_are_named(root: Path) -> None:
    path = root / "annotations/aircraft_val.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=r"aircraft_val\.json is no annotation file: .*Invalid JSON"
    ):
        read(root)
    path.unlink()
    with pytest.raises(DataError, match=r"no file annotations/aircraft_val\.json"):
        read(root)
    for path in list((root / "annotations").iterdir()):
        path.unlink()
    with pytest.raises(DataError, match=r"annotations has no file NAME_train\.json"):
        read(root)
    (root / "annotations").rmdir()
    with pytest.raises(DataError, match="there is no folder annotations in"):
        read(root)
