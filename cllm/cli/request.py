"""What `cllm train` was asked for, on its command line or by the checkpoint that it resumes.

Promises: a request that exists is valid; a resumed run differs from its checkpoint only in what
does not change the result, and in the number of epochs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import Config
from cllm.errors import CllmError
from cllm.lattice.parts import LOSS_WEIGHTS, Lattice
from cllm.text.tokenizer import TokenizerSettings
from cllm.training.settings import RunSettings, Settings

if TYPE_CHECKING:
    from cllm.training.checkpoint import Checkpoint

SIZES = ("embed_dim", "num_layers", "num_heads", "ff_dim")
"""The sizes of a `Config` that are options; the fifth is the tokenizer's."""

CHANGEABLE = {"epochs"} | {setting.name for setting in fields(RunSettings)}
"""The options that may differ at a resume."""


@dataclass(frozen=True)
class Request:
    """The options of `cllm train`, sorted by what they are for."""

    tokenizer: TokenizerSettings
    config: Config
    """With the largest vocabulary that may come out."""
    settings: Settings
    run_settings: RunSettings

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Request:
        """From options by name; raises `CllmError` for a value that is not allowed."""
        parts, weights = options["lattice"], options["lattice_weights"]
        if weights != LOSS_WEIGHTS and not parts.loss:
            raise CllmError(
                f"--lattice-weights {_written(weights)} need --lattice loss: got --lattice {parts}"
            )
        return cls(
            TokenizerSettings(options["tokenizer"], options["vocab_size"], options["lowercase"]),
            Config(
                options["vocab_size"],
                *(options[name] for name in SIZES),
                lattice=Lattice.of(parts.parts, weights),
            ),
            Settings(**{setting.name: options[setting.name] for setting in fields(Settings)}),
            RunSettings(**{setting.name: options[setting.name] for setting in fields(RunSettings)}),
        )

    @classmethod
    def resume(
        cls, options: dict[str, Any], given: set[str], saved: Checkpoint, path: Path
    ) -> Request:
        """The checkpoint's options, but those given.

        Raises `CllmError` where they contradict, and where the checkpoint alone names the code of a
        model: no file decides what is run.
        """
        before = {
            "tokenizer": saved.tokenizer_settings.kind,
            "vocab_size": saved.tokenizer_settings.vocab_size,
            "lowercase": saved.tokenizer_settings.lowercase,
            **{name: getattr(saved.config, name) for name in SIZES},
            "lattice": Lattice.of(saved.config.lattice.parts),
            "lattice_weights": saved.config.lattice.loss_weights,
            **asdict(saved.settings),
            **asdict(saved.run_settings),
        }
        for name in sorted(given - CHANGEABLE):
            if options[name] != before[name]:
                given_now, then = (_written(each[name]) for each in (options, before))
                raise CllmError(
                    f"--{name.replace('_', '-')} {given_now} contradicts {path}, which was made "
                    f"with {then}"
                )
        if ":" in before["model"] and "model" not in given:
            raise CllmError(f"{path} was made with --model {before['model']}: give it again")
        return cls.parse(before | {name: options[name] for name in given})


def _written(value: Any) -> str:
    """As an option takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
