"""The real thing: a residual network and its adapters in a running service."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from model.repository import Repository
from tests.model.networks import TASKS, make_network
from tests.service.pictures import picture
from tests.service.server_process import serving

PICTURES = [picture(seed=seed) for seed in range(2)]


def answered(root: Path, strategy: str) -> list[list[float]]:
    """By picture: every task's probabilities, all classes of each."""
    files = [("image", (f"{i}.png", data, "image/png")) for i, data in enumerate(PICTURES)]
    with serving(root, "--model", "m", "--strategy", strategy) as server:
        response = httpx.post(f"{server.url}/v1/predict", files=files, timeout=60)
        assert response.status_code == 200, response.text
        assert httpx.get(f"{server.url}/v1/model").json()["strategy"] == strategy
    return [
        [
            value
            for row in result["predictions"]
            for value in row.get("probabilities", {"yes": row["probability"]}).values()
        ]
        for result in response.json()["results"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    [
        {"arch": "resnet18", "width": 0.125, "norm": "batch_per_task"},
        {"arch": "resnet18", "width": 0.125, "norm": "batch_per_domain", "adapters": "series"},
        {"arch": "resnet18", "width": 0.125, "norm": "batch_per_domain", "adapters": "parallel"},
    ],
)
def test_every_strategy_of_a_service_gives_the_same_answers(
    tmp_path: Path, backbone: dict[str, object]
) -> None:
    network = make_network(backbone=backbone, routing={"routed_layers": "last:4"})
    network.heads.weight.data.div_(20)  # logits of some units, for a limit on probabilities
    Repository(tmp_path).publish("m", network, {"tasks": {}, "macro": {}}, "# m\n")
    reference = answered(tmp_path, "masked")
    outputs = sum(len(task.classes) if task.outputs > 1 else 1 for task in TASKS)
    assert [len(one) for one in reference] == [outputs] * 2
    for strategy in ("mixed", "subnet"):
        for found, expected in zip(answered(tmp_path, strategy), reference, strict=True):
            assert found == pytest.approx(expected, abs=1e-5)
