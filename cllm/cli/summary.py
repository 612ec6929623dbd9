"""What `train` says before it starts, and `evaluate` of its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cllm.cli.progress import say
from cllm.cli.request import Request
from cllm.plan import format_bytes

if TYPE_CHECKING:
    from cllm.text.corpus import Corpus
    from cllm.training.trainer import Trainer


def skipped_files(corpus: Corpus) -> str:
    """How many files were skipped, by reason."""
    reasons = [f"{count:,} {reason}" for reason, count in sorted(corpus.skipped.items())]
    return ", ".join(reasons) or "none"


def unknown_tokens(corpus: Corpus) -> str:
    """The share of the tokens that are not in the vocabulary; empty where all are."""
    share = corpus.unknown / len(corpus.tokens)
    return f", {share:.2%} of them unknown" if share else ""


def say_corpus(corpus: Corpus, request: Request) -> None:
    """Files, bytes, tokens and vocabulary."""
    vocab_size = corpus.tokenizer.vocab_size
    fewer = f" (of {request.tokenizer.vocab_size:,} asked for)"
    say(f"files       {corpus.files:,}; skipped: {skipped_files(corpus)}")
    say(
        f"text        {format_bytes(corpus.text_bytes)}, {len(corpus.tokens):,} tokens"
        f"{unknown_tokens(corpus)}"
    )
    say(
        f"vocabulary  {vocab_size:,} {request.tokenizer.kind}"
        f"{fewer if vocab_size < request.tokenizer.vocab_size else ''}, "
        f"{corpus.distinct:,} of them in the text"
    )


def say_model(trainer: Trainer, request: Request, isa: str) -> None:
    """Implementation, parameters, memory and steps."""
    from cllm.training.tensor_file import SAVING_BYTES

    plan, settings = trainer.model.planned, request.settings
    saving = SAVING_BYTES * plan.config.num_parameters
    say(
        f"model       {request.run_settings.model} ({isa}), "
        f"{plan.config.num_parameters:,} parameters, threads: {plan.threads}"
    )
    if plan.config.lattice:
        say(f"lattice     {plan.config.lattice.told}")
    say(
        f"memory      {plan.nbytes / 2**20:,.1f} MiB, {saving / 2**20:,.1f} MiB more while a "
        "checkpoint is written"
    )
    say(
        f"steps       {trainer.total_steps:,}, {trainer.steps_per_epoch:,} an epoch; "
        f"{trainer.position.step:,} done"
    )
    if settings.warmup > trainer.total_steps:
        say(
            f"cllm: warning: the warm-up of {settings.warmup} steps is longer than the training: "
            "lower --warmup or raise --epochs"
        )
