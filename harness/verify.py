"""The whole verification: run every check, train side by side, measure both.

Promises: the same seed, text and models give the same verdicts and curves; a candidate that
raises on the way fails, and is reported, like one that is wrong.
Leaves out: a gate on speed. It is reported; nothing fails by it.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import check_size
from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.benchmark import Benchmark, Progress, measure
from cllm.harness.checks.check import Kind, require_reference
from cllm.harness.conformance.candidate import find_one, kind_of
from cllm.harness.conformance.run import plan, run
from cllm.harness.lockstep import Lockstep, train
from cllm.harness.machine import fingerprint
from cllm.harness.selection import AGREES, BENCHMARK, LEARNS, SUMMARIES, TAKE_TEXT, select
from cllm.harness.text import unigram_entropy
from cllm.harness.verdict import Status, Verdict, from_exception
from cllm.lattice.parts import PLAIN, Lattice
from cllm.layout import initialize
from cllm.model import Model
from cllm.plan import Operation, check_threads
from cllm.text.batches import Batches, epoch_generator
from cllm.text.corpus import Corpus, load_corpus
from cllm.text.tokenizer import TokenizerSettings

TOKENIZER = TokenizerSettings("bpe", 381)
SIZES = {"embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128}
BATCH_SIZE, SEQ_LEN = 4, 16
STEPS = 400

OUTPUT = Path("reports/verify")

Batch = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Verification:
    """Everything that a report says."""

    settings: dict[str, Any]
    """What was run: strings, numbers and lists of them; `config`, `parameters` and `text` are None
    where no text was needed."""
    machine: dict[str, Any]
    """Its load is that before the work."""
    verdicts: list[Verdict]
    lockstep: Lockstep | None
    """None where training raised or was not asked for."""
    benchmark: Benchmark | None
    """None where measuring raised or was not asked for."""


def default_paths() -> list[Path]:
    """The top-level modules of Python's standard library: text that every machine has."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def verify(
    paths: Sequence[Path] = (),
    candidate: str = "optimized",
    reference: str = "reference",
    *,
    checks: Sequence[str] = (),
    lattice: Lattice = PLAIN,
    steps: int = STEPS,
    seed: int = 0,
    threads: int = 0,
    cache: Path | None = None,
    progress: Progress = lambda task, done, total: None,
    report: Callable[[Verdict], None] = lambda verdict: None,
) -> Verification:
    """Hold a candidate against a reference on the text of `paths`, by default `default_paths`.

    Both are names for `cllm.harness.conformance.candidate.find`. `checks` are names or families, by
    default all of a model's. The models that are trained and measured have the `lattice`; checks
    have the parts that they are about. `threads` (0: every core) are the candidate's, in training
    and measuring. On the way `progress(task, done, total)` is called, and `report(verdict)` once
    each is known.

    Raises `CllmError` for bad input: an unknown model or check, a candidate that cannot train in
    float32, a reference without float32 and float64, a text too short for one batch.
    """
    chosen = select(SUMMARIES, checks)
    found = find_one(candidate)
    models = found.value, find_one(reference).value
    check_size("steps", steps)
    settings: dict[str, Any] = {
        "candidate": candidate,
        "reference": reference,
        "checks": list(checks),
        "lattice": str(lattice),
        "paths": [str(path) for path in paths],
        "steps": steps,
        "seed": seed,
        "threads": check_threads(threads),
        "isa": getattr(models[0], "isa", None),
        "config": None,
        "parameters": None,
        "batch_size": BATCH_SIZE,
        "seq_len": SEQ_LEN,
        "text": None,
    }
    _require(*models)
    machine = fingerprint()
    stages = None
    if TAKE_TEXT & {*chosen}:
        corpus = load_corpus(
            list(paths) or default_paths(),
            tokenizer=TOKENIZER,
            cache=cache,
            progress=partial(progress, "reading text"),
        )
        batches = draw_batches(corpus.tokens, steps, seed)  # refused now, not after the checks
        stages = _Stages(*models, corpus, lattice, batches, seed, threads, progress)
        models[0].plan(stages.config, BATCH_SIZE, SEQ_LEN)  # refused now as well
        settings |= {
            "config": stages.config.to_dict(),
            "parameters": stages.config.num_parameters,
            "text": _describe(corpus),
        }
    lockstep = benchmark = None
    verdicts: list[Verdict] = []

    def add(verdict: Verdict) -> None:
        if verdict.check in chosen:
            verdicts.append(verdict)
            report(verdict)

    jobs = [job for job in plan([found]) if job.check.name in chosen]
    outcomes = run(
        jobs,
        reference=reference,
        seed=seed,
        processes=len(os.sched_getaffinity(0)),
        progress=progress,
        report=lambda outcome: report(outcome.verdict),
    )
    verdicts += [outcome.verdict for outcome in outcomes]
    if stages and {AGREES, LEARNS} & {*chosen}:
        lockstep, judged = stages.train()
        for verdict in judged:
            add(verdict)
    if stages and BENCHMARK in chosen:
        benchmark, verdict = stages.measure()
        add(verdict)
    return Verification(settings, machine, verdicts, lockstep, benchmark)


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


def _require(candidate: Any, reference: Any) -> None:
    """Raise `CllmError` where the one cannot be trained or the other not be calibrated on."""
    for model in (candidate, reference):
        if kind_of(model) is not Kind.MODEL:
            raise CllmError(f"what is verified is a model: {model!r:.80} is none")
        if Operation.TRAINING not in model.parts or "float32" not in model.dtypes:
            raise CllmError(f"{model.__name__} does not offer training in float32")
    require_reference(reference)


@dataclass(frozen=True, eq=False)
class _Stages:
    """What takes a text. What the candidate raises becomes a verdict."""

    candidate: type[Model]
    reference: type[Model]
    corpus: Corpus
    lattice: Lattice
    batches: Batch
    seed: int
    threads: int
    progress: Progress

    @property
    def config(self) -> Config:
        return Config(self.corpus.tokenizer.vocab_size, **SIZES, lattice=self.lattice)

    def train(self) -> tuple[Lockstep | None, list[Verdict]]:
        """Both side by side."""
        try:
            with np.errstate(all="ignore"):
                lockstep = train(
                    self.candidate,
                    self.reference,
                    self.config,
                    *self.batches,
                    unigram_entropy(self.corpus.tokens),
                    seed=self.seed,
                    threads=self.threads,
                    progress=self.progress,
                )
        except Exception as error:
            unknown = f"could not be judged: the training raised, see {AGREES}"
            learns = Verdict(Status.INCONCLUSIVE, unknown, check=LEARNS)
            return None, [from_exception(error, AGREES), learns]
        return lockstep, list(lockstep.verdicts())

    def measure(self) -> tuple[Benchmark | None, Verdict]:
        """Steps per second of both."""
        start = initialize(self.config, np.random.default_rng(self.seed))
        sizes = self.config, BATCH_SIZE, SEQ_LEN, start
        try:
            with np.errstate(all="ignore"):
                benchmark = measure(
                    self.candidate.create(*sizes, threads=self.threads),
                    self.reference.create(*sizes),
                    *self.batches,
                    seed=self.seed,
                    progress=self.progress,
                )
        except Exception as error:
            return None, from_exception(error, BENCHMARK)
        evidence = (
            f"{benchmark.ratio:.2f} times the reference's steps per second "
            f"(95% interval {benchmark.low:.2f} to {benchmark.high:.2f})"
        )
        return benchmark, Verdict(Status.PASS, evidence, check=BENCHMARK)


def _describe(corpus: Corpus) -> dict[str, Any]:
    return {
        "files": corpus.files,
        "skipped": corpus.skipped,
        "bytes": corpus.text_bytes,
        "tokens": len(corpus.tokens),
        "tokenizer": corpus.tokenizer.kind,
        "key": corpus.key,
    }
