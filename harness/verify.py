"""The whole verification: train side by side, run every check, measure both, write the report.

Promises: the same seed, text and models give the same verdicts and curves; a candidate that
raises on the way fails, and is reported, like one that is wrong.
Leaves out: a gate on speed. It is reported; nothing fails by it.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cllm.check import check_size
from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.benchmark import Benchmark, Progress, measure
from cllm.harness.checks import require_reference
from cllm.harness.lockstep import Lockstep, train
from cllm.harness.machine import fingerprint
from cllm.harness.table import CHECKS
from cllm.harness.text import unigram_entropy
from cllm.harness.verdict import Status, Verdict
from cllm.layout import initialize
from cllm.model import Model
from cllm.plan import Operation, check_threads
from cllm.registry import find_model
from cllm.text.batches import Batches, epoch_generator
from cllm.text.corpus import Corpus, load_corpus
from cllm.text.tokenizer import TokenizerSettings

TOKENIZER = TokenizerSettings("bpe", 381)
SIZES = {"embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128}
BATCH_SIZE, SEQ_LEN = 4, 16
STEPS = 400

OUTPUT = Path("reports/verify")

Batch = tuple[NDArray[np.int32], NDArray[np.int32]]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Verification:
    """Everything that a report says."""

    settings: dict[str, Any]
    """What was run: strings, numbers and lists of them."""
    machine: dict[str, Any]
    verdicts: list[Verdict]
    lockstep: Lockstep | None
    """None where training raised."""
    benchmark: Benchmark | None
    """None where measuring raised."""


def default_paths() -> list[Path]:
    """The top-level modules of Python's standard library: text that every machine has."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def verify(
    paths: Sequence[Path] = (),
    candidate: str = "optimized",
    reference: str = "reference",
    *,
    steps: int = STEPS,
    seed: int = 0,
    threads: int = 0,
    cache: Path | None = None,
    progress: Progress = lambda task, done, total: None,
) -> Verification:
    """Hold a candidate against a reference on the text of `paths`, by default `default_paths`.

    Both are names for `cllm.registry.find_model`. `threads` (0: every core) are the candidate's,
    in training and measuring. `progress(task, done, total)` is called on the way.

    Raises `CllmError` for bad input: an unknown model, a candidate that cannot train in float32, a
    reference without float32 and float64, a text too short for one batch.
    """
    models = find_model(candidate), find_model(reference)
    check_size("steps", steps)
    check_threads(threads)
    _require(*models)
    corpus = load_corpus(
        list(paths) or default_paths(),
        tokenizer=TOKENIZER,
        cache=cache,
        progress=partial(progress, "reading text"),
    )
    config = Config(corpus.tokenizer.vocab_size, **SIZES)
    tokens, targets = draw_batches(corpus.tokens, steps, seed)
    shared: dict[str, Any] = {"seed": seed, "progress": progress}

    def train_both() -> Lockstep:
        entropy = unigram_entropy(corpus.tokens)
        return train(*models, config, tokens, targets, entropy, threads=threads, **shared)

    def measure_both() -> Benchmark:
        start = initialize(config, np.random.default_rng(seed))
        built = models[0].create(config, BATCH_SIZE, SEQ_LEN, start, threads=threads)
        other = models[1].create(config, BATCH_SIZE, SEQ_LEN, start)
        return measure(built, other, tokens, targets, **shared)

    verdicts: list[Verdict] = []
    lockstep = _attempt("lockstep.agrees", verdicts, train_both)
    if lockstep:
        verdicts += lockstep.verdicts()
    verdicts += _run_checks(*models, seed, progress)
    benchmark = _attempt("benchmark", verdicts, measure_both)
    settings = {
        "candidate": candidate,
        "reference": reference,
        "paths": [str(path) for path in paths],
        "steps": steps,
        "seed": seed,
        "threads": check_threads(threads),
        "isa": getattr(models[0], "isa", None),
        "config": config.to_dict(),
        "parameters": config.num_parameters,
        "batch_size": BATCH_SIZE,
        "seq_len": SEQ_LEN,
        "text": _describe(corpus),
    }
    return Verification(settings, fingerprint(), verdicts, lockstep, benchmark)


def draw_batches(tokens: NDArray[Any], steps: int, seed: int) -> Batch:
    """Tokens and targets (steps,B,T), epoch after epoch of the whole batches of a text."""
    whole = (len(tokens) - 1) // (BATCH_SIZE * SEQ_LEN)
    if not whole:
        raise CllmError(
            f"the text has {len(tokens)} tokens: one batch needs {BATCH_SIZE * SEQ_LEN + 1}"
        )
    batches = Batches(tokens, BATCH_SIZE, SEQ_LEN)
    drawn = np.empty((2, steps, BATCH_SIZE, SEQ_LEN), np.int32)
    for step in range(steps):
        epoch, i = divmod(step, whole)
        if i == 0:
            order = batches.order(epoch_generator(seed, epoch))
        drawn[:, step] = batches.batch(order, i)
    return drawn[0], drawn[1]


def _require(candidate: type[Model], reference: type[Model]) -> None:
    """Raise `CllmError` where the one cannot be trained or the other not be calibrated on."""
    for model in (candidate, reference):
        if Operation.TRAINING not in model.parts or "float32" not in model.dtypes:
            raise CllmError(f"{model.__name__} does not offer training in float32")
    require_reference(reference)


def _run_checks(
    candidate: type[Model], reference: type[Model], seed: int, progress: Progress
) -> Iterator[Verdict]:
    for done, (name, check) in enumerate(CHECKS.items()):
        progress(f"checking: {name}", done, len(CHECKS))
        yield check(candidate, reference, seed)
    progress("checking", len(CHECKS), len(CHECKS))


def _attempt(name: str, verdicts: list[Verdict], work: Callable[[], Value]) -> Value | None:
    """What the work gives; None and a failed verdict where it raises."""
    try:
        with np.errstate(all="ignore"):
            return work()
    except Exception as error:
        evidence = f"{type(error).__name__}: {error}"
        details = {"traceback": traceback.format_exc()}
        verdicts.append(Verdict(Status.FAIL, evidence, details, name))
        return None


def _describe(corpus: Corpus) -> dict[str, Any]:
    return {
        "files": corpus.files,
        "skipped": corpus.skipped,
        "bytes": corpus.text_bytes,
        "tokens": len(corpus.tokens),
        "tokenizer": corpus.tokenizer.kind,
        "key": corpus.key,
    }
