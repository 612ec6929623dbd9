"""`cllm evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cllm.cli.options import (
    cache_option,
    computing_options,
    json_option,
    model_argument,
    paths_argument,
)
from cllm.cli.output import write
from cllm.cli.progress import corpus_progress, evaluation_progress
from cllm.cli.summary import skipped_files, unknown_tokens


@click.command
@model_argument
@paths_argument
@json_option
@computing_options
@cache_option
def evaluate(
    checkpoint: Path,
    paths: tuple[Path, ...],
    as_json: bool,
    model: str,
    threads: int,
    cache: Path | None,
) -> None:
    """Measure how well MODEL predicts the text of files and folders, PATH...

    MODEL is a .cllm file or the folder of a run (its best, else its newest). The text is cut into
    windows as in training; each token but the first is predicted once. Prints the loss (nats per
    token), the perplexity (its exponential), bits per byte (which compares models of different
    vocabularies), and over how many tokens and bytes.

    Only loss and perplexity over the same tokens compare: a token that is not in the vocabulary is
    easily predicted to be unknown. Bits per byte are given where the tokens keep the whole text: by
    the tokenizers bytes and bpe without --lowercase.
    """
    from cllm.plan import Operation
    from cllm.registry import find_model
    from cllm.text.batches import Batches
    from cllm.text.corpus import load_corpus
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.evaluation import evaluate, lost
    from cllm.training.run import find_checkpoint

    model_class = find_model(model)
    saved = Checkpoint.load(find_checkpoint(checkpoint))
    with corpus_progress("reading") as progress:
        corpus = load_corpus(paths, tokenizer=saved.tokenizer, cache=cache, progress=progress)
    # A text shorter than a window is one short window.
    seq_len = min(saved.settings.seq_len, len(corpus.tokens))
    batches = Batches(corpus.tokens, saved.settings.batch_size, seq_len)
    evaluator = model_class.create(
        saved.config,
        saved.settings.batch_size,
        seq_len,
        saved.parameters,
        operations=[Operation.EVALUATION],
        threads=threads,
    )
    measured = evaluate(evaluator, batches, evaluation_progress(len(batches)))
    lacks = lost(saved.tokenizer)
    bits = None if lacks else measured.bits_per_byte(corpus.text_bytes)
    result = {
        "loss": measured.loss,
        "perplexity": measured.perplexity,
        "bits_per_byte": bits,
        "tokens": measured.tokens,
        "unknown_tokens": corpus.unknown,
        "bytes": corpus.text_bytes,
        "files": corpus.files,
        "skipped": corpus.skipped,
    }
    if as_json:
        write(json.dumps(result, indent=2) + "\n")
        return
    defined = f"not defined: the tokenizer loses {lacks}" if bits is None else f"{bits:.4f}"
    lines = [
        f"loss           {measured.loss:.4f} nats per token",
        f"perplexity     {measured.perplexity:.5g}",
        f"bits per byte  {defined}",
        f"tokens         {measured.tokens:,}{unknown_tokens(corpus)}",
        f"bytes          {corpus.text_bytes:,} in {corpus.files:,} files",
        f"skipped        {skipped_files(corpus)}",
    ]
    write("\n".join(lines) + "\n")
