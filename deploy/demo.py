"""The whole path on real images: train, publish, serve, ask. Run by `make demo`.

Three processes, as in production: `python -m training` writes a bundle, `python -m service` loads
it, and this program is the client, which knows nothing of either but the HTTP interface.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image
from rich.console import Console
from rich.table import Table

from training.sources import Dataset, open_source

DATA = "builtin:fashion"
RECIPE = Path(__file__).parent.parent / "training/recipes/demo.toml"
NAME = "fashion"
HOST = "127.0.0.1"
TASKS = ("category", "footwear", "long_sleeves", "worn_on")  # as many as 80 columns hold
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0

console = Console()


class DemoError(Exception):
    """Something a person has to do something about; the text says what."""


@dataclass(frozen=True)
class Photo:
    """One image the model has never seen, as a PNG file, with the right answers."""

    path: Path
    truth: dict[str, str]  # task -> class name


def main() -> int:
    options = parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the service ends too
    try:
        require_free_port(options.port)
        headline(1, f"Train on {DATA} and publish to {options.repository}")
        train(options.repository)
        photos = write_photos(options.repository / "images")
        headline(2, "Serve what was published")
        with service(options.repository, options.port) as (process, url):
            headline(3, f"Ask {url}/v1/predict about images the model has never seen")
            right, asked = show_answers(url, photos)
            console.print(f"\n{right} of {asked} answers are right.")
            if not options.once:
                go_on_serving(process, url, photos[0].path)
    except DemoError as error:
        console.print(f"\n[bold red]make demo stopped:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, publish, serve and ask.")
    parser.add_argument("--repository", type=Path, default=Path("build/demo"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--once", action="store_true", help="stop after the answers")
    return parser.parse_args()


def headline(step: int, text: str) -> None:
    console.print(f"\n[bold]{step}. {text}[/]\n", soft_wrap=True)


def require_free_port(port: int) -> None:
    """Find out before the training, not after it, that something else has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"port {port} cannot be used ({error.strerror}); choose another one: "
                f"make demo DEMO_PORT={port + 1}"
            ) from error


def train(repository: Path) -> None:
    command = [sys.executable, "-m", "training", "train", "--data", DATA, "--config", str(RECIPE)]
    # An interrupted demo is simply run again.
    command += ["--repository", str(repository), "--name", NAME, "--restart"]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise DemoError(f"training ended with exit code {code}; its message is above")


def write_photos(folder: Path) -> list[Photo]:
    """Write one held-out test image of each class to a PNG file."""
    data = open_source(DATA)
    category = data.tasks.position("category")
    unseen = data.indices("test")
    photos = []
    folder.mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(data.tasks[category].classes):
        index = int(unseen[data.labels[unseen, category] == label][0])
        path = folder / f"{name.lower().replace('/', '-').replace(' ', '-')}.png"
        pixels = data.images.read(index)
        if isinstance(pixels, bytes):
            path.write_bytes(pixels)
        else:
            Image.fromarray(pixels).save(path)
        photos.append(Photo(path, truth(data, index)))
    return photos


def truth(data: Dataset, index: int) -> dict[str, str]:
    positions = data.tasks.select(TASKS)
    return {
        data.tasks[task].name: data.tasks[task].classes[data.labels[index, task]]
        for task in positions
    }


@contextlib.contextmanager
def service(repository: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the service until the block ends; yields its process and base URL once it is ready."""
    url = f"http://{HOST}:{port}"
    log = repository / "service.log"
    command = [sys.executable, "-m", "service", "--repository", str(repository), "--model", NAME]
    command += ["--host", HOST, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(process, url, log)
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    started = time.monotonic()
    while time.monotonic() - started < READY_LIMIT_S:
        if process.poll() is not None:
            raise DemoError(f"the service ended with exit code {process.returncode}; see {log}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v2/health/ready").is_success:
                model = httpx.get(f"{url}/v1/model").raise_for_status().json()
                waited = time.monotonic() - started
                name = f"{model['name']} version {model['version']}"
                console.print(f"{name} is ready after {waited:.1f} s.")
                return
        time.sleep(0.1)
    raise DemoError(f"the service is not ready after {READY_LIMIT_S:.0f} s; see {log}")


def ask(url: str, path: Path, tasks: Sequence[str]) -> dict[str, dict[str, object]]:
    """POST one image file; returns the prediction for each task."""
    response = httpx.post(
        f"{url}/v1/predict",
        files={"image": (path.name, path.read_bytes(), "image/png")},
        data={"tasks": ",".join(tasks)},
    )
    if response.is_error:
        raise DemoError(f"the service answered {response.status_code}: {response.text}")
    return {answer["task"]: answer for answer in response.json()["results"][0]["predictions"]}


def show_answers(url: str, photos: Sequence[Photo]) -> tuple[int, int]:
    """Print a row for each image; returns how many answers are right, and how many there are."""
    table = Table("image", *TASKS, box=None, padding=(0, 1))
    right = 0
    for photo in photos:
        answers = ask(url, photo.path, TASKS)
        cells = []
        for task in TASKS:
            label, expected = answers[task]["label"], photo.truth[task]
            right += label == expected
            probability = float(str(answers[task]["probability"]))
            mark = "[green]✓[/]" if label == expected else "[red]✗[/]"
            cells.append(f"{mark} {label} {probability:.2f}")
        table.add_row(photo.path.stem, *cells)
    console.print(table)
    console.print("Beside each answer: its probability; of yes, for a question of yes or no.")
    return right, len(photos) * len(TASKS)


def go_on_serving(process: subprocess.Popen[bytes], url: str, photo: Path) -> None:
    console.print(
        f"\nServing on {url} (its API: {url}/docs). Ctrl-C ends it. From another shell:\n"
    )
    console.print(
        f"  curl -F image=@{photo} -F tasks=category,footwear {url}/v1/predict\n", soft_wrap=True
    )
    code = process.wait()
    raise DemoError(f"the service ended by itself with exit code {code}; see its log")


if __name__ == "__main__":
    sys.exit(main())
