"""`cllm train`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cllm.cli.interrupt import Interrupt
from cllm.cli.options import (
    cache_option,
    lattice_option,
    lattice_weights_option,
    paths_argument,
    settings_options,
    size_option,
)
from cllm.cli.progress import corpus_progress, say, show_training
from cllm.cli.request import Request
from cllm.cli.summary import say_corpus, say_model
from cllm.errors import CllmError
from cllm.text.tokenizer import KINDS
from cllm.training.settings import RunSettings, Settings

if TYPE_CHECKING:
    from cllm.text.corpus import Corpus
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.run import RunFolder
    from cllm.training.trainer import Trainer


@click.command
@paths_argument
@click.option(
    "--tokenizer",
    type=click.Choice(KINDS),
    default="bpe",
    show_default=True,
    help="Kind of token; whitespace loses the whitespace, and the words beyond the vocabulary.",
)
@size_option("vocab_size", 2000, "V, most tokens to tell apart; a small text has fewer.")
@click.option(
    "--lowercase/--no-lowercase", show_default=True, help="Whether capitals become small letters."
)
@size_option("embed_dim", 128, "D, width of an embedding.")
@size_option("num_layers", 4, "L, layers.")
@size_option("num_heads", 4, "H, attention heads; has to divide the width of an embedding.")
@size_option("ff_dim", 512, "F, width of the feed-forward layer.")
@lattice_option
@lattice_weights_option
@settings_options(Settings)
@settings_options(RunSettings)
@cache_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for checkpoints and metrics; made where it is missing.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the newest checkpoint in --output. Options that are not given are then the "
    "checkpoint's, but a --model module:Class has to be given again. Others may be given for "
    "--epochs (the schedule follows) and from --model to --log-every. A folder that has no "
    "checkpoint yet, and nothing else than a run's files, starts from the beginning.",
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    output: Path,
    resume: bool,
    cache: Path | None,
    **options: Any,
) -> int:
    """Train a model on text files and on all those in folders, PATH...

    Each file is read once, as UTF-8. Skipped and counted are hidden files, binary ones, and those
    that by their suffix are images, audio, video, archives, office documents, compiled code, fonts,
    databases or numbers (cllm.text.text_files.SKIPPED_SUFFIXES).

    The folder --output gets step-N.cllm (the newest --keep), best.cllm (the lowest validation
    loss), and metrics.jsonl, a line for every --log-every steps: step, epoch, loss (nats per
    token), learning_rate, tokens_per_second, and where it was measured validation_loss and
    perplexity; with --lattice loss also its terms geometric, symmetry and prime, which are
    trained on as well, but are no part of loss and validation_loss.

    Ctrl-C saves and stops; so do SIGTERM and SIGHUP. A resumed run ends with the same bytes as
    one that was never stopped.
    """
    from cllm.training.run import RunFolder
    from cllm.training.run import train as run

    given = {name for name in options if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    if options["optimizer"] == "adam" and "weight_decay" not in given:
        options["weight_decay"] = 0.0
    if not resume:
        Request.parse(options)  # refused before anything is made
    _check_output(paths, output, resume)
    with RunFolder(output) as folder:
        trainer, start = _prepare(folder, paths, resume, cache, options, given)
        with Interrupt() as interrupt, show_training(trainer) as show:
            for record in run(trainer, folder, start, lambda: interrupt.received > 0):
                show(record)
    if interrupt.received and not trainer.finished:
        again = shlex.join(["cllm", "train", *map(str, paths), "--output", str(output), "--resume"])
        say(f"stopped after step {trainer.position.step:,}; to go on: {again}")
    else:
        say(f"finished; text from it: cllm generate {shlex.quote(str(output))} -p ...")
    return 128 + interrupt.received if interrupt.received else 0


def _prepare(
    folder: RunFolder,
    paths: tuple[Path, ...],
    resume: bool,
    cache: Path | None,
    options: dict[str, Any],
    given: set[str],
) -> tuple[Trainer, Checkpoint]:
    """A trainer, at the beginning or where the newest checkpoint is, and what it saves from."""
    from cllm.registry import find_model
    from cllm.text.corpus import load_corpus
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.trainer import Trainer

    newest, saved = (folder.newest() if resume else None) or (None, None)
    if newest and saved:
        request = Request.resume(options, given, saved, newest)
    else:
        request = Request.parse(options)
        if resume:
            say(
                f"{folder.path} has no checkpoint yet: training starts from the beginning, by the "
                "options given now and the defaults of the others"
            )
        elif folder.holds_run:
            raise CllmError(f"{folder.path} holds a run: add --resume, or choose another folder")
    model_class = find_model(request.run_settings.model)
    learns = request.tokenizer.kind != "bytes"
    task = "reading, learning the vocabulary" if learns else "reading"
    with corpus_progress(task) as progress:
        corpus = load_corpus(paths, tokenizer=request.tokenizer, cache=cache, progress=progress)
    say_corpus(corpus, request)
    if newest and saved:
        _check_text(corpus, saved, newest)
    trainer = Trainer(
        model_class,
        replace(request.config, vocab_size=corpus.tokenizer.vocab_size),
        request.settings,
        *corpus.split(request.settings.validation_fraction),
        threads=request.run_settings.threads,
    )
    isa = getattr(model_class, "isa", "numpy")
    if saved:
        trainer.restore(saved.position, saved.parameters, saved.moments)
        if saved.isa != isa:
            say(
                f"cllm: warning: {newest} was trained with the instruction set {saved.isa}, this "
                f"is {isa}: the result may differ in the last digits"
            )
    say_model(trainer, request, isa)
    start = Checkpoint(
        config=trainer.model.config,
        tokenizer=corpus.tokenizer,
        tokenizer_settings=request.tokenizer,
        settings=request.settings,
        run_settings=request.run_settings,
        corpus_key=corpus.key,
        position=trainer.position,
        parameters=trainer.model.parameters,
        moments=trainer.model.moments,
        validation_loss=None,
        best_validation_loss=saved.best_validation_loss if saved else None,
        isa=isa,
    )
    return trainer, start


def _check_output(paths: tuple[Path, ...], output: Path, resume: bool) -> None:
    """Raise `CllmError` for a folder that cannot be the run's."""
    if resume and not output.is_dir():
        raise CllmError(f"{output}: there is no such folder to resume from")
    for path in paths:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise CllmError(
                f"--output {output} is in {path}: the metrics would become part of the text"
            )


def _check_text(corpus: Corpus, saved: Checkpoint, path: Path) -> None:
    """Raise `CllmError` unless the text is, token by token, what the checkpoint was trained on."""
    same = corpus.key == saved.corpus_key
    if not same or corpus.tokenizer.to_json() != saved.tokenizer.to_json():
        raise CllmError(
            f"the text is not the one that {path} was trained on: its key is {corpus.key:.12}, "
            f"the checkpoint's {saved.corpus_key:.12}"
        )
