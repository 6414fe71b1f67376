"""The report: every task is in it, nothing outside it is asked for, names are text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from model.repository import Repository
from model.tasks import Task
from tests.training.conftest import PackMaker, tiny, tiny_images, tiny_network
from tests.training.test_trainer import Quiet
from training.cli import main
from training.decoding import ImageSet
from training.evaluation import evaluate
from training.report import mistakes, write_report
from training.sources import MISSING

NASTY = Task(name='<b>&"shade"', classes=("<i>", "$m$", "light"))
TASKS = (Task(name="bright"), NASTY, Task(name="unlabelled"))


class Page(HTMLParser):
    """Everything that a page refers to, its tags, and the balance of those that need an end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._heading = tag == "h3"
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.headings.append(data)
            self._heading = False


def report(with_images: bool, **changes: object) -> str:
    images = tiny_images(24)
    labels = images.labels.copy()
    labels[:, 2] = MISSING
    network = tiny_network(tiny(**changes), TASKS).eval()
    images = ImageSet(images.pixels, labels)
    evaluation = evaluate(network, images, "test", Quiet(), resamples=5)
    return write_report("m <1>", network, images, evaluation, with_images)


@pytest.fixture(scope="module")
def text() -> str:
    return report(with_images=True)


def test_every_task_is_there_as_text(text: str) -> None:
    page = Page(text)
    assert page.headings == [task.name for task in TASKS]
    assert not {"b", "i", "script", "link", "iframe"} & set(page.tags)
    assert "&lt;b&gt;&amp;" in text


def test_nothing_outside_is_asked_for(text: str) -> None:
    page = Page(text)
    assert page.links
    for link in page.links:
        assert link.startswith(("data:image/png;base64,", "#")), link
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "://" not in without_namespaces
    assert "@import" not in text


def test_ids_are_unique_and_references_lead_to_them(text: str) -> None:
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    inside = {link[1:] for link in page.links if link.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert inside <= set(page.ids)


def test_themes_and_narrow_windows_are_provided_for(text: str) -> None:
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width" in text
    assert "#01020" not in text
    assert not re.search(r'<svg[^>]* width="', text)


def test_without_images_there_is_no_pixel_of_the_data() -> None:
    plain = report(with_images=False)
    assert "data:image" not in re.sub(r"<svg.*?</svg>", "", plain, flags=re.DOTALL)
    assert "Worst mistakes" not in plain


def test_an_unrouted_network_has_no_overlap(text: str) -> None:
    assert "Overlap of routes" in text
    assert "Overlap of routes" not in report(with_images=False, routed_layers="none")


def test_mistakes_are_the_surest_wrong_answers() -> None:
    scores = np.array([0.9, 0.2, 0.1, 0.6], dtype=np.float32)
    found = mistakes(Task(name="t"), scores, np.array([0, 1, 1, 1], dtype=np.int16))
    assert [(one.image, one.said, one.label) for one in found] == [
        (0, "yes", "no"), (2, "no", "yes"), (1, "no", "yes")
    ]  # fmt: skip
    assert [one.probability for one in found] == pytest.approx([0.9, 0.9, 0.8])


def test_evaluate_writes_it(make_pack: PackMaker, tmp_path: Path) -> None:
    source, root = f"pack:{make_pack()}", tmp_path / "models"
    network = tiny_network(tiny(), tuple(Task(name=name) for name in ("bright", "left")))
    Repository(root).publish("m", network.eval(), metrics={}, card="")
    page = tmp_path / "report.html"
    arguments = ["evaluate", "--data", source, "--repository", str(root), "--name", "m"]
    assert main([*arguments, "--report", str(page), "--no-images", "--resamples", "3"]) == 0
    assert Page(page.read_text(encoding="utf-8")).headings == ["bright", "left"]
    assert main([*arguments, "--report", str(tmp_path / "no" / "report.html")]) == 2
