"""Checkpoints: a model, its optimizer and where its training stands, in one `.cllm` file.

The file is a `cllm.training.tensor_file`, and so a safetensors file: the parameters by the names of
`cllm.layout`, and both of Adam's moments as `first_moment.NAME` and `second_moment.NAME`;
everything else is metadata, each value as JSON.

Promises: what was saved comes back, and a number that is not finite is never saved. Any other
file is refused by a `CllmError` that names it and says what is wrong, whatever it holds.
Leaves out: which checkpoints a run keeps (`cllm.training.run`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import cllm
from cllm.config import Config
from cllm.errors import CllmError
from cllm.layout import layer_tensors, tensor_shapes, tensor_views
from cllm.text.tokenizer import Tokenizer, TokenizerSettings
from cllm.training.settings import RunSettings, Settings
from cllm.training.tensor_file import Tensors, load_tensors, save_tensors

FORMAT = 1
"""Version of the metadata; another one is refused."""

T = TypeVar("T")

_PREFIXES = ("", "first_moment.", "second_moment.")


@dataclass(frozen=True)
class Position:
    """Where training stands between two steps; raises `CllmError` for what cannot be."""

    step: int
    """Steps done."""
    epoch: int
    """Epochs finished."""
    batch: int
    """Batches done of the epoch under way."""
    generator_state: dict[str, Any]
    """`bit_generator.state` (PCG64) that the order of the epoch under way is drawn from."""

    def __post_init__(self) -> None:
        for name in ("step", "epoch", "batch"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**63:
                raise CllmError(f"{name} must be an integer in 0..2^63-1: got {value!r:.80}")
        self.generator()

    def generator(self) -> np.random.Generator:
        """A generator in the state that `generator_state` says."""
        bits = np.random.PCG64()
        state: Any = self.generator_state
        try:
            bits.state = state
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise CllmError(f"the generator's state is none of PCG64's: {error}") from error
        if bits.state != state:
            raise CllmError("the generator's state is none of PCG64's")
        return np.random.Generator(bits)


@dataclass(frozen=True)
class Checkpoint:
    """What a `.cllm` file holds."""

    config: Config
    tokenizer: Tokenizer
    tokenizer_settings: TokenizerSettings
    """What was asked for; the tokenizer may have found fewer tokens."""
    settings: Settings
    run_settings: RunSettings
    corpus_key: str
    """Stands for the content of the text that was trained on."""
    position: Position
    parameters: NDArray[np.float32]
    """(P,)."""
    moments: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Adam's first and second moment (P,)."""
    validation_loss: float | None
    """Nats per token with these parameters; None where it was not measured."""
    best_validation_loss: float | None
    """The lowest of the run so far."""
    isa: str
    """Instruction-set level that trained it."""
    version: str = cllm.__version__
    """Of CLLM."""

    def save(self, path: Path) -> None:
        """Write the file.

        Raises `FloatingPointError` for a number that is not finite and `OSError` where the file
        cannot be written; `path` is then as it was.
        """
        if name := self._not_finite():
            raise FloatingPointError(f"{name} is not finite, so {path} is not written")
        save_tensors(path, self._metadata(), self._tensors())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file; raises `CllmError` for anything that `save` did not write."""
        metadata, tensors = load_tensors(path)
        try:
            return cls._parse(metadata, tensors)
        except CllmError as error:
            raise CllmError(f"{path}: {error}") from error
        except RecursionError as error:
            raise CllmError(f"{path}: its metadata are nested too deeply") from error

    @classmethod
    def _parse(cls, metadata: dict[str, str], tensors: Tensors) -> Checkpoint:
        if (version := metadata.get("format")) != str(FORMAT):
            raise CllmError(
                f"format {version!r:.80}, but CLLM {cllm.__version__} reads format {FORMAT}"
            )
        config = Config.from_dict(_value(metadata, "config", dict))
        # The count first: a configuration may ask for more tensors than could be listed.
        if len(tensors) != len(_PREFIXES) * (1 + config.num_layers * len(layer_tensors(config))):
            raise CllmError(f"{len(tensors)} tensors do not fit {config}")
        for name, shape in _shapes(config).items():
            found = getattr(tensors.get(name), "shape", "no such tensor")
            if found != shape:
                raise CllmError(f"tensor {name} {shape} expected: got {found}")
        parameters, *moments = (
            np.concatenate([tensors[prefix + name].ravel() for name in tensor_shapes(config)])
            for prefix in _PREFIXES
        )
        checkpoint = cls(
            config=config,
            tokenizer=Tokenizer.from_json(metadata.get("tokenizer", "")),
            tokenizer_settings=_record(metadata, "tokenizer_settings", TokenizerSettings),
            settings=_record(metadata, "settings", Settings),
            run_settings=_record(metadata, "run_settings", RunSettings),
            corpus_key=_value(metadata, "corpus_key", str),
            position=_record(metadata, "position", Position),
            parameters=parameters,
            moments=(moments[0], moments[1]),
            validation_loss=_loss(metadata, "validation_loss"),
            best_validation_loss=_loss(metadata, "best_validation_loss"),
            isa=_value(metadata, "isa", str),
            version=_value(metadata, "version", str),
        )
        if checkpoint.tokenizer.vocab_size != config.vocab_size:
            raise CllmError(
                f"its tokenizer has {checkpoint.tokenizer.vocab_size} tokens, its model "
                f"{config.vocab_size}"
            )
        if extra := sorted(set(metadata) - set(checkpoint._metadata())):
            raise CllmError(f"unknown metadata {extra}")
        if bad := checkpoint._not_finite():
            raise CllmError(f"its tensor {bad} is not finite")
        return checkpoint

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {
            prefix + name: tensor
            for prefix, vector in zip(_PREFIXES, (self.parameters, *self.moments), strict=True)
            for name, tensor in tensor_views(self.config, vector).items()
        }

    def _not_finite(self) -> str | None:
        """The name of the first tensor with a number that is not finite."""
        finite = ((name, np.isfinite(tensor).all()) for name, tensor in self._tensors().items())
        return next((name for name, is_finite in finite if not is_finite), None)

    def _metadata(self) -> dict[str, str]:
        values = {
            "format": FORMAT,
            "version": self.version,
            "isa": self.isa,
            "config": self.config.to_dict(),
            "settings": asdict(self.settings),
            "run_settings": asdict(self.run_settings),
            "tokenizer_settings": asdict(self.tokenizer_settings),
            "corpus_key": self.corpus_key,
            "position": asdict(self.position),
            "validation_loss": self.validation_loss,
            "best_validation_loss": self.best_validation_loss,
        }
        texts = {name: json.dumps(value, allow_nan=False) for name, value in values.items()}
        return texts | {"tokenizer": self.tokenizer.to_json()}


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    shapes = tensor_shapes(config)
    return {prefix + name: shape for prefix in _PREFIXES for name, shape in shapes.items()}


def _value(metadata: Mapping[str, str], name: str, kind: type) -> Any:
    """The value of this name and type."""
    try:
        value = json.loads(metadata[name])
    except KeyError:
        raise CllmError(f"its metadata lacks {name}") from None
    except ValueError as error:
        raise CllmError(f"its metadata {name} is damaged: {error}") from error
    if not isinstance(value, kind):
        raise CllmError(f"its metadata {name} must be a {kind.__name__}: got {value!r:.80}")
    return value


def _record(metadata: Mapping[str, str], name: str, kind: type[T]) -> T:
    """The dataclass of this name."""
    values = _value(metadata, name, dict)
    wanted = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if sorted(values) != sorted(wanted):
        raise CllmError(f"its metadata {name} must have {wanted}: got {sorted(values)!r:.200}")
    return kind(**values)


def _loss(metadata: Mapping[str, str], name: str) -> float | None:
    value = _value(metadata, name, object)
    if value is None or (isinstance(value, float) and math.isfinite(value) and value >= 0):
        return value
    raise CllmError(
        f"its metadata {name} must be a number of at least 0 or null: got {value!r:.80}"
    )
