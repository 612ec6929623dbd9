"""The parts of a trainer that are no model, as a candidate.

Promises: each part is a function or class with the signature and the promises of ours, which is its
default; so one part of anybody's is checked by replacing it: `TrainerParts(batches=MyBatches)`.
A part that is None is not offered, and checks that need it say "not applicable".
Leaves out: the optimizer and the sampler, which are a model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.layout import initialize
from cllm.text.batches import Batches
from cllm.text.corpus import Corpus, load_corpus
from cllm.text.tokenizer import Tokenizer, train_tokenizer
from cllm.training.checkpoint import Checkpoint
from cllm.training.schedule import learning_rate
from cllm.training.trainer import Trainer


@dataclass(frozen=True)
class TrainerParts:
    """What stands around a model in training; each part has the interface of its default."""

    load_corpus: Callable[..., Corpus] | None = load_corpus
    """Files and folders as one stream of token ids (`cllm.text.corpus.load_corpus`)."""
    train_tokenizer: Callable[[str, list[str], int, bool], Tokenizer] | None = train_tokenizer
    """Kind, texts, vocab_size and lowercase to a tokenizer."""
    tokenizer_from_json: Callable[[str], Tokenizer] | None = Tokenizer.from_json
    """What a tokenizer's `to_json` gave, back to the tokenizer."""
    batches: Callable[[NDArray[Any], int, int], Batches] | None = Batches
    """Tokens (n,), batch_size and seq_len to the batches of an epoch."""
    learning_rate: Callable[..., float] | None = learning_rate
    """The schedule (`cllm.training.schedule.learning_rate`)."""
    initialize: Callable[[Config, np.random.Generator], NDArray[Any]] | None = initialize
    """Fresh parameters (P,)."""
    save_checkpoint: Callable[[Checkpoint, Path], None] | None = Checkpoint.save
    """Write a checkpoint to a file, whole or not at all."""
    load_checkpoint: Callable[[Path], Checkpoint] | None = Checkpoint.load
    """Read it back, or refuse the file by an error that names it."""
    trainer: Callable[..., Trainer] | None = Trainer
    """Training step by step (`cllm.training.trainer.Trainer`)."""
    name: str = "trainer"
    """For people."""

    def lacking(self, *parts: str) -> str:
        """Which of these parts are not offered; empty where all are."""
        missing = [part for part in parts if getattr(self, part) is None]
        return f"{self.name} does not offer {', '.join(missing)}" if missing else ""

    @property
    def replaced(self) -> set[str]:
        """The parts that are not ours."""
        parts = {field.name for field in fields(self)} - {"name"}
        return {part for part in parts if getattr(self, part) != getattr(OURS, part)}


OURS = TrainerParts()
