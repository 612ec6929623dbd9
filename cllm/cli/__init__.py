"""The command line: `cllm`.

Promises: bad input is one line on stderr and exit status 2, with nothing lost; an interrupted
command ends with 130 (SIGINT), 143 (SIGTERM) or 129 (SIGHUP), a failed one with 1; no traceback
unless `--traceback` asks for it. A lost standard error stops nothing.
Leaves out: the commands (one file each); what is heavy is imported only by the command run.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem

import cllm
from cllm.cli.interrupt import unwinding
from cllm.cli.progress import say

COMMANDS = {
    "train": ("cllm.cli.train:train", "Train a model on text files."),
    "generate": ("cllm.cli.generate:generate", "Write text with a trained model."),
    "evaluate": ("cllm.cli.evaluate:evaluate", "Measure how well a model predicts a text."),
    "info": ("cllm.cli.info:info", "Describe a checkpoint."),
    "lattice": (
        "cllm.harness.lattice.command:lattice",
        "Show the vocabulary of a model on the lattice.",
    ),
    "verify": ("cllm.harness.command:verify", "Hold the optimized model against the reference."),
    "check": (
        "cllm.harness.conformance.command:check",
        "Hold any candidate to every check that applies.",
    ),
    "bench": ("cllm.harness.bench.command:bench", "Measure speed, against other libraries too."),
    "compare": (
        "cllm.harness.compare.command:compare",
        "Say whether one build is slower than another.",
    ),
    "history": (
        "cllm.harness.history.command:history",
        "Keep what was measured, and find it again.",
    ),
    "report": (
        "cllm.harness.publish.command:report",
        "Show what was measured as a page, Markdown and JUnit XML.",
    ),
    "dashboard": ("cllm.harness.dashboard.command:dashboard", "Look at the history of results."),
    "export": (
        "cllm.harness.export.command:export",
        "Write results of the history in other tools' formats.",
    ),
    "completion": ("cllm.cli.completion:completion", "Print the shell's completion script."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is used, and lists them without."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of a first encounter."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so."""
        found = [
            CompletionItem(name, help=help)
            for name, (_, help) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + super(click.Group, self).shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `cllm --help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.group(
    "cllm",
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`cllm COMMAND --help` tells more. Completion: `cllm completion --help`.",
)
@click.version_option(cllm.__version__, message="cllm %(version)s")
@click.option("--traceback", is_flag=True, help="Show where in the code an error comes from.")
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Train a small transformer language model on your text, and write text with it."""
    ctx.ensure_object(dict)["traceback"] = traceback
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the entry point of `cllm`."""
    options = {"traceback": False}
    status = 0
    _prepare_streams()
    try:
        with unwinding():
            status = cli.main(arguments, prog_name="cllm", obj=options, standalone_mode=False) or 0
    except click.Abort:  # Ctrl-C
        say("cllm: interrupted")
        status = 130
    except Exception as error:
        if options["traceback"]:
            say(traceback.format_exc())
        status, message = _explain(error)
        say(f"cllm: error: {' '.join(message.split())}")
    sys.exit(status)


def _prepare_streams() -> None:
    """Make any text printable, and keep files from taking the descriptor of a closed stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest descriptor that is free, this one
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _explain(error: Exception) -> tuple[int, str]:
    """The exit status and the message."""
    match error:
        case click.UsageError(ctx=click.Context(command_path=command)):
            return error.exit_code, f"{error.format_message()} (`{command} --help` tells more)"
        case click.ClickException():
            return error.exit_code, error.format_message()
        case cllm.CllmError():
            return 2, str(error)
        case OSError(strerror=what, filename=where):
            return 2, f"{where}: {what}" if where else what or str(error)
        case MemoryError():
            return 2, f"not enough memory: {error}"
        case FloatingPointError():
            return 1, str(error)
    kind = type(error).__name__
    return 1, f"unexpected {kind}: {error} (`cllm --traceback ...` says where)"
