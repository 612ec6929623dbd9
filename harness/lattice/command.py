"""`cllm lattice`."""

from __future__ import annotations

from pathlib import Path

import click

from cllm.cli.options import model_argument
from cllm.cli.progress import say
from cllm.files import atomic_file
from cllm.harness.display import Display

OUTPUT = Path("reports/lattice")


@click.group()
def lattice() -> None:
    """Look at the lattice that the tokens of a model lie on."""


@lattice.command()
@model_argument
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="Folder for index.html and lattice.png.",
)
@click.option(
    "--token",
    "texts",
    metavar="TEXT",
    multiple=True,
    help="Show the neighbours of this token; may be given again.  [default: the first words]",
)
def show(checkpoint: Path, output: Path, texts: tuple[str, ...]) -> None:
    """Draw the vocabulary of MODEL, a .cllm file or the folder of a run, on the lattice.

    A page and a picture: the spiral of the tokens, colored by symmetry class and by prime
    structure; what each head has learned to weigh the distances with; and the neighbours of tokens
    on the lattice beside those in the trained embedding.
    """
    from cllm.harness.lattice import page, picture
    from cllm.harness.lattice.drawing import drawing_of
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.run import find_checkpoint

    path = find_checkpoint(checkpoint)
    with Display() as display:
        drawing = drawing_of(path, Checkpoint.load(path), texts, display.show)
    files = {
        "index.html": page.render(drawing).encode(errors="replace"),
        "lattice.png": picture.png(drawing),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_file(output / name) as file:
            file.write(content)
    click.echo(drawing.headline)
    say(f"Lattice: {output / 'index.html'} and {output / 'lattice.png'}")
