"""``python -m training``: the commands, and what an error looks like to a person.

Commands import PyTorch and what needs it when they run, so that `--help` and wrong usage do not
wait.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from model.errors import TaskRouteError
from training.commands.add_task import add_task_command
from training.commands.compare import compare_command
from training.commands.evaluate import evaluate_command
from training.commands.extract import extract_command
from training.commands.init import init_command
from training.commands.merge import merge_command
from training.commands.prune import prune_command
from training.commands.refresh import refresh_command
from training.commands.remove_task import remove_task_command
from training.commands.rename_task import rename_task_command
from training.commands.rollback import rollback_command
from training.commands.train import train_command
from training.errors import EXIT_DONE, EXIT_ERROR, exit_code
from training.messages import say

_CLICK_INTERRUPTED = 130

app = typer.Typer(
    name="training",
    help="Train, evaluate and publish routed networks for many image attributes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut long option names off at 80 characters
)
app.command("train")(train_command)
app.command("init")(init_command)
app.command("refresh")(refresh_command)
app.command("rollback")(rollback_command)
app.command("prune")(prune_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("add-task")(add_task_command)
app.command("remove-task")(remove_task_command)
app.command("rename-task")(rename_task_command)
app.command("merge")(merge_command)
app.command("extract")(extract_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 error, 2 wrong usage, 3 refused by a gate.
    """
    try:
        app(args=arguments, prog_name="python -m training", standalone_mode=True)
    except TaskRouteError as error:
        say(Console(stderr=True), f"error: {error}")
        return exit_code(error)
    except SystemExit as end:  # click ends every command by it
        if end.code == _CLICK_INTERRUPTED:
            say(Console(stderr=True), "error: interrupted; a run that had begun has --resume")
            return EXIT_ERROR
        return end.code if isinstance(end.code, int) else EXIT_ERROR
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
