"""A training run and the folder that it lives in.

The folder holds `step-00001234.cllm` (the newest `keep`), `best.cllm` (the lowest validation
loss), `metrics.jsonl` (one JSON object a logged step) and `.lock` (held while a run is alive).

Promises: a run killed at any moment can be resumed from its folder, and then ends with the bytes
of one never stopped; no step appears twice in the metrics; two runs never share a folder.
Leaves out: the steps themselves (`cllm.training.trainer`), what is shown of them (`cllm.cli`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cllm.errors import CllmError
from cllm.files import atomic_file
from cllm.training.checkpoint import Checkpoint
from cllm.training.evaluation import Evaluation
from cllm.training.trainer import Step, Trainer

BEST = "best.cllm"
METRICS = "metrics.jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class Record:
    """What a run says after each step."""

    step: Step
    tokens_per_second: float
    """Since the step logged before."""
    validation: Evaluation | None
    saved: Path | None
    """The checkpoint written after this step."""

    def to_json(self) -> str:
        """The line of `metrics.jsonl`."""
        values: dict[str, Any] = asdict(self.step)
        del values["tokens"]
        values |= values.pop("lattice_terms")
        values["tokens_per_second"] = round(self.tokens_per_second, 1)
        if self.validation is not None:
            values["validation_loss"] = self.validation.loss
            values["perplexity"] = self.validation.perplexity
        return json.dumps(values, allow_nan=False)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of single steps in a folder, oldest first."""
    found = [path for path in folder.glob("step-*.cllm") if path.stem[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.stem[5:]))


def find_checkpoint(path: Path) -> Path:
    """A checkpoint to use: the file itself, or a folder's best, else its newest.

    Raises `CllmError` where there is none.
    """
    if not path.is_dir():
        return path
    found = [*checkpoints(path), *path.glob(BEST)]
    if not found:
        raise CllmError(f"{path}: no checkpoint in this folder")
    return found[-1]


class RunFolder:
    """The folder of one run, made where it is missing, and locked while in use (`with`)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> RunFolder:
        """Raises `CllmError` while another run uses the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        # The lock is the kernel's, not the file: it goes with the process, however that ends.
        self._lock = (self.path / LOCK).open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise CllmError(f"{self.path}: another run is using this folder") from None
        for left_by_a_kill in self.path.glob(f".{'[0-9a-f]' * 16}.tmp"):
            left_by_a_kill.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The checkpoint to go on from; None where nothing was made yet.

        A run killed at its first checkpoint may have written its best alone. Raises `CllmError`
        for a damaged one, naming the next older that is not, and where there is none beside files
        that are no run's.
        """
        found = checkpoints(self.path) or [*self.path.glob(BEST)]
        damaged: list[Path] = []
        first_error = ""
        for path in reversed(found):
            try:
                checkpoint = Checkpoint.load(path)
            except CllmError as error:
                damaged.append(path)
                first_error = first_error or str(error)
                continue
            if damaged:
                names = ", ".join(bad.name for bad in damaged)
                raise CllmError(f"{first_error}; to go on from {path.name}, remove {names}")
            return path, checkpoint
        if damaged:
            raise CllmError(first_error)
        if others := sorted({file.name for file in self.path.iterdir()} - {LOCK, METRICS}):
            raise CllmError(f"{self.path}: no checkpoint to resume from, but {others[0]}")
        return None

    @property
    def holds_run(self) -> bool:
        """Whether there is something that a new run would overwrite."""
        return bool(checkpoints(self.path)) or any(
            (self.path / n).exists() for n in (BEST, METRICS)
        )

    def rewind(self, step: int) -> None:
        """Drop the lines of the metrics that come after a step, and a last one cut short."""
        path = self.path / METRICS
        if not path.exists():
            return
        with path.open("rb") as old, atomic_file(path) as new:
            new.writelines(line for line in old if _step_of(line) <= step)

    def save(self, checkpoint: Checkpoint, *, best: bool) -> Path:
        """Write a checkpoint, as the best too where it is, and drop the oldest beyond `keep`."""
        # The best first: a run killed in between validates this step again when it is resumed.
        if best:
            checkpoint.save(self.path / BEST)
        path = self.path / f"step-{checkpoint.position.step:08}.cllm"
        checkpoint.save(path)
        for old in checkpoints(self.path)[: -checkpoint.run_settings.keep]:
            old.unlink()
        return path


def train(
    trainer: Trainer,
    folder: RunFolder,
    start: Checkpoint,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Train to the end, or until `stopping` after a step; yields what each step did.

    `start` holds the trainer's own parameters and moments, and is what every checkpoint is made
    from. A checkpoint is written every `checkpoint_every` steps, at the end of each epoch and
    when stopping; the first two validate. Logged are step 1, every `log_every` steps, and the
    steps validated.

    Raises `OSError`, naming the file, where one cannot be written; where it is the metrics, a
    checkpoint is written first, so that no step is lost.
    """
    settings, best = start.run_settings, start.best_validation_loss
    folder.rewind(trainer.position.step)
    with _naming(folder.path / METRICS), (folder.path / METRICS).open("a") as metrics:
        clock, tokens = time.perf_counter(), 0
        while not trainer.finished:
            step = trainer.step()
            tokens += step.tokens
            speed = tokens / (time.perf_counter() - clock)
            position = trainer.position
            every = settings.checkpoint_every
            due = position.batch == 0 or bool(every and step.step % every == 0)
            validation = trainer.validate() if due else None
            logged = due or step.step == 1 or step.step % settings.log_every == 0
            record = Record(step, speed, validation, None)
            stop, failed = stopping(), None
            try:
                if logged:
                    metrics.write(record.to_json() + "\n")
                    metrics.flush()
                if due or stop:
                    # Lines beyond the checkpoint are dropped at resume; before it none is missing.
                    os.fsync(metrics.fileno())
            except OSError as error:
                failed = error
            if due or stop or failed:
                loss = validation.loss if validation else None
                better = loss is not None and (best is None or loss < best)
                best = loss if better else best
                checkpoint = replace(
                    start, position=position, validation_loss=loss, best_validation_loss=best
                )
                record = replace(record, saved=folder.save(checkpoint, best=better))
            if failed:
                raise failed
            if logged:
                clock, tokens = time.perf_counter(), 0
            yield record
            if stop:
                return


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file an `OSError` without a name is about."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _step_of(line: bytes) -> float:
    """The step of a line of the metrics; beyond all steps where it is not a whole one."""
    try:
        step: int = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
    return step if line.endswith(b"\n") else math.inf
