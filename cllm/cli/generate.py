"""`cllm generate`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cllm.cli.options import computing_options, model_argument
from cllm.cli.output import write
from cllm.cli.progress import say


@click.command
@model_argument
@click.option("-p", "--prompt", default="", help="Beginning of the text; empty: a new text.")
@click.option(
    "-n",
    "--tokens",
    "count",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Most tokens to draw; the text may end before.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Below 1 likely tokens become likelier; 0 is --greedy.",
)
@click.option(
    "--top-k", type=click.IntRange(min=1), help="Draw from the K most probable tokens alone."
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the fewest of the most probable tokens that have this probability together.",
)
@click.option(
    "--greedy",
    is_flag=True,
    help="Take the most probable token each time, whatever the three options before say.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another one gives another text.",
)
@computing_options
@click.option(
    "-v", "--verbose", is_flag=True, help="Say on stderr what is used, and the speed at the end."
)
def generate(
    checkpoint: Path, prompt: str, count: int, temperature: float, top_k: int | None, top_p: float,
    greedy: bool, seed: int, model: str, threads: int, verbose: bool,
) -> None:  # fmt: skip
    """Write text with MODEL, a .cllm file or the folder of a run (its best, else its newest).

    Prints the prompt and what follows it, as it is made. The model sees as much as it was trained
    with (--seq-len); when that is full, it goes on from its second half. Ends before the token
    that ends a text.
    """
    from cllm.decoder import Sampling
    from cllm.generation import generate_tokens
    from cllm.plan import Operation
    from cllm.registry import find_model
    from cllm.text.tokenizer import UNK
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.run import find_checkpoint

    sampling = Sampling(0.0 if greedy else temperature, top_k, top_p)
    model_class = find_model(model)
    path = find_checkpoint(checkpoint)
    saved = Checkpoint.load(path)
    fed = saved.tokenizer.encode(prompt)
    if unknown := int((fed == UNK).sum()):
        say(f"cllm: warning: {unknown} of the prompt's {len(fed)} tokens are not in the vocabulary")
    window = saved.settings.seq_len
    decoder = model_class.create(
        saved.config,
        1,
        window,
        saved.parameters,
        operations=[Operation.GENERATION],
        threads=threads,
    )
    if verbose:
        say(f"model     {path}, step {saved.position.step:,}, by {model}")
        say(f"window    {window} tokens, the prompt has {len(fed)}")
        say(
            f"sampling  temperature {sampling.temperature:g}, top-k {top_k or 'off'}, "
            f"top-p {top_p:g}, seed {seed}"
        )
    tokens = generate_tokens(decoder, fed, count, sampling, seed)
    clock, drawn = time.perf_counter(), 0
    stream = saved.tokenizer.stream()
    for token in fed.tolist():
        write(stream.feed(token))
    for token in tokens:
        write(stream.feed(token))
        drawn += 1
    write(stream.flush() + "\n")
    if verbose:
        speed = drawn / (time.perf_counter() - clock)
        ended = "" if drawn == count else ", then the text ended"
        say(f"drawn     {drawn} tokens, {speed:,.0f} tokens/s{ended}")
