"""The command line: a flag for every setting, --print-config, mistakes explained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pydantic
import pytest

from service import cli
from service.flags import flag, parser
from service.settings import Settings

GIVEN = ["--repository", "models", "--model", "fashion"]


@pytest.fixture(autouse=True)
def untouched_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variables from outside, nothing served, logging as it was."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TASKROUTE_{name.upper()}", raising=False)
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    handlers, level, disabled = list(root.handlers), root.level, access.disabled
    yield
    root.handlers[:], root.level, access.disabled = handlers, level, disabled
    logging.captureWarnings(False)


def test_every_setting_is_a_flag_with_its_description() -> None:
    text = " ".join(parser().format_help().split())
    for name, field in Settings.model_fields.items():
        assert f"{flag(name)} " in text
        assert (field.description or "?").split("; ")[0].split()[0] in text


def test_print_config_prints_what_is_in_force(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKROUTE_MAX_IMAGES", "3")
    assert cli.main([*GIVEN, "--max-batch-rows", "17", "--print-config"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == set(Settings.model_fields)
    assert (shown["max_batch_rows"], shown["max_images"], shown["model"]) == (17, 3, "fashion")


def test_a_switch_needs_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*GIVEN, "--open-admin", "--keep-previous", "false", "--print-config"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["open_admin"], shown["keep_previous"]) == (True, False)


def test_print_config_masks_secrets() -> None:
    class WithSecret(Settings):
        key: pydantic.SecretStr = pydantic.SecretStr("hunter2")

    shown = WithSecret(repository="models", model="fashion").effective()
    assert "hunter2" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--repository (TASKROUTE_REPOSITORY) is required"),
        ([*GIVEN, "--port", "many"], "--port (TASKROUTE_PORT) is 'many'"),
        ([*GIVEN, "--workers", "2"], "run more replicas"),
        ([*GIVEN, "--strategy", "best"], "--strategy (TASKROUTE_STRATEGY) is 'best'"),
    ],
)
def test_wrong_settings_are_explained_by_flag_and_variable(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--max-batch", "1"], ["--no-such-flag"]])
def test_unknown_and_abbreviated_flags_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*GIVEN, *arguments])
    assert caught.value.code == 2


def test_unknown_variables_are_warned_about_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKROUTE_MAX_IMAGE", "3")
    assert cli.main([*GIVEN, "--print-config"]) == 0
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "warning"
    assert "TASKROUTE_MAX_IMAGE is no setting" in line["message"]
    assert "did you mean TASKROUTE_MAX_IMAGES?" in line["message"]


def test_otherwise_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(cli, "serve", served.append)
    assert cli.main([*GIVEN, "--port", "0"]) == 0
    assert served[0].port == 0
