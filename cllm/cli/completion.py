"""`cllm completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cllm.cli.output import write

HELP = """Print the script that completes commands and options in SHELL.

\b
bash:  eval "$(cllm completion bash)"   in ~/.bashrc
zsh:   eval "$(cllm completion zsh)"    in ~/.zshrc
fish:  cllm completion fish > ~/.config/fish/completions/cllm.fish
"""


@click.command(help=HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print click's own script."""
    script = get_completion_class(shell)
    assert script is not None
    write(script(ctx.find_root().command, {}, "cllm", "_CLLM_COMPLETE").source() + "\n")
