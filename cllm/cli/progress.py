"""What commands show while they work, on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from cllm.cli.output import discard

if TYPE_CHECKING:
    from cllm.text.corpus import Progress
    from cllm.training.run import Record
    from cllm.training.trainer import Trainer


def say(text: str) -> None:
    """Print for people; stdout is for results. That nobody listens any more stops nothing."""
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):  # a pipe or disk; a stream that was closed
        discard(sys.stderr)


@contextlib.contextmanager
def corpus_progress(task: str) -> Iterator[Progress]:
    """A bar for `load_corpus`; it stays while a vocabulary is learned from what was read."""
    from tqdm import tqdm

    with tqdm(desc=task, unit="B", unit_scale=True, leave=False, disable=_plain()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def evaluation_progress(count: int) -> Iterable[int]:
    """The numbers below `count`, with a bar."""
    from tqdm import tqdm

    return tqdm(range(count), unit=" batches", leave=False, disable=_plain())


@contextlib.contextmanager
def show_training(trainer: Trainer) -> Iterator[Callable[[Record], None]]:
    """A bar for the steps, and a line for each checkpoint."""
    from tqdm import tqdm

    total = trainer.total_steps
    with tqdm(
        total=total, initial=trainer.position.step, unit=" steps", leave=False, disable=_plain()
    ) as bar:

        def show(record: Record) -> None:
            step = record.step
            terms = "".join(f", {name} {term:.3f}" for name, term in step.lattice_terms.items())
            bar.set_postfix_str(
                f"loss {step.loss:.3f}{terms}, learning rate {step.learning_rate:.1e}", False
            )
            bar.update()
            if record.saved is not None:
                measured = record.validation
                validation = (
                    f"  validation {measured.loss:.4f} (perplexity {measured.perplexity:.5g})"
                    if measured
                    else ""
                )
                bar.clear()
                say(
                    f"step {step.step:,}/{total:,}  epoch {step.epoch}  loss {step.loss:.4f}"
                    f"{terms}{validation}  {record.tokens_per_second:,.0f} tokens/s"
                )
                bar.refresh()

        yield show


def _plain() -> bool:
    # None where standard error was closed before the start.
    return sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty()
