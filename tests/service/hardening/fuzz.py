"""``python -m tests.service.hardening.fuzz``: schemathesis against a server process.

Usage:
    python -m tests.service.hardening.fuzz [--budget 600] [--seed 1]

Half of the budget (seconds) goes to a server that asks for API keys, half to an open one. What is
checked: no answer of 500 and above, none that the server's own description does not document, in
status, media type, headers or schema; methods that are not there get 405; keys are asked for.
Exit code: 0 when nothing was found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from service.key_file import make_key, write_keys
from tests.conftest import ROOT
from tests.service.server_process import Server, serving
from tests.service.small_model import publish_small

_HERE = Path(__file__).parent


def fuzz(server: Server, budget_s: float, seed: int, key: str | None = None) -> int:
    """Run schemathesis for about ``budget_s`` seconds; its exit code."""
    command = [str(Path(sys.executable).parent / "schemathesis")]
    command += ["--config-file", str(_HERE / "schemathesis.toml"), "run"]
    command += [f"{server.url}/openapi.json", "--max-time", str(max(1, round(budget_s)))]
    command += ["--phases", "examples,coverage,fuzzing", "--seed", str(seed), "--no-color"]
    command += ["--continue-on-failure", "--no-shrink", "--suppress-health-check", "all"]
    if key is not None:
        command += ["--header", f"Authorization:Bearer {key}"]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.service.hardening.hooks", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:  # it keeps notes where it runs
        return subprocess.run(
            command, env=os.environ | hooks, cwd=folder, check=False, timeout=budget_s * 2 + 120
        ).returncode


def fuzz_both(repository: Path, budget_s: float, seed: int, folder: Path) -> int:
    """An open server and one with keys, half of the time each; the number that failed."""
    keys = folder / "keys.json"
    key, entry = make_key(["predict", "admin"])
    write_keys(keys, [entry])
    failed = 0
    with serving(repository, "--open-admin") as server:
        failed += fuzz(server, budget_s / 2, seed) != 0
    with serving(repository, "--api-keys-file", str(keys)) as server:
        failed += fuzz(server, budget_s / 2, seed + 1, key) != 0
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Run schemathesis against the service.")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for all of it")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        publish_small(repository)
        return 1 if fuzz_both(repository, given.budget, given.seed, Path(folder)) else 0


if __name__ == "__main__":
    sys.exit(main())
