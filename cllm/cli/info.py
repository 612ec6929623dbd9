"""`cllm info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cllm.cli.options import json_option, model_argument
from cllm.cli.output import write


@click.command
@model_argument
@json_option
def info(checkpoint: Path, as_json: bool) -> None:
    """Describe MODEL, a .cllm file or the folder of a run (its best, else its newest).

    The whole file is checked, so that a damaged one is found.
    """
    from cllm.training.checkpoint import Checkpoint
    from cllm.training.run import find_checkpoint

    path = find_checkpoint(checkpoint)
    saved = Checkpoint.load(path)
    described: dict[str, Any] = {
        "file": {"path": str(path), "bytes": path.stat().st_size, "cllm": saved.version},
        "model": {
            **saved.config.sizes,
            "lattice": saved.config.lattice.told or "none",
            "parameters": saved.config.num_parameters,
        },
        "training": {
            "step": saved.position.step,
            "epochs_finished": saved.position.epoch,
            "batches_of_the_epoch_under_way": saved.position.batch,
            "validation_loss": saved.validation_loss,
            "best_validation_loss": saved.best_validation_loss,
            "isa": saved.isa,
            "corpus": saved.corpus_key,
        },
        "tokenizer": {
            **asdict(saved.tokenizer_settings),
            "vocab_size": saved.tokenizer.vocab_size,
            "vocab_size_asked_for": saved.tokenizer_settings.vocab_size,
        },
        "settings": {**asdict(saved.settings), **asdict(saved.run_settings)},
    }
    if as_json:
        write(json.dumps(described, indent=2) + "\n")
        return
    for section, values in described.items():
        write(f"{section}\n")
        for name, value in values.items():
            shown = f"{value:,}" if type(value) is int else "none" if value is None else value
            write(f"  {name.replace('_', ' '):<32}{shown}\n")
