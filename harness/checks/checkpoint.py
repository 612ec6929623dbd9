"""Checks of checkpoints: all comes back, all else is refused, nothing is half written.

Leaves out: training that goes on from one (`cllm.harness.checks.trainer`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from cllm.config import Config
from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.trainer.hostile import hostile_files
from cllm.harness.trainer.parts import TrainerParts
from cllm.layout import tensor_views
from cllm.text.batches import epoch_generator
from cllm.text.tokenizer import TokenizerSettings, train_tokenizer
from cllm.training.checkpoint import Checkpoint, Position
from cllm.training.settings import RunSettings, Settings

ROOM = 2**30
"""Bytes that loading a file of some kilobytes may ask for."""

FAILING = ("fsync", "replace", "rename", "link", "ftruncate", "sendfile")
"""Functions of `os` that a disk lets fail."""


@check_parts("checkpoint.roundtrip", "save_checkpoint", "load_checkpoint",
             held="everything came back, each tensor, moment and number")  # fmt: skip
def roundtrip(
    candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path
) -> Problems:
    """Everything that was saved comes back, to the last bit, and again after a second save.

    Every tensor (LayerNorms too), both moments, the sizes (H and F unlike any default), the
    tokenizer, settings, position and the generator's state.
    """
    assert candidate.save_checkpoint
    assert candidate.load_checkpoint
    for draw, kind in enumerate(("whitespace", "bytes", "bpe")):
        saved = draw_checkpoint(seed, draw, kind)
        path = folder / f"{draw}.cllm"
        candidate.save_checkpoint(saved, path)
        loaded = candidate.load_checkpoint(path)
        yield from unlike(loaded, saved)
        candidate.save_checkpoint(loaded, path)
        for problem in unlike(candidate.load_checkpoint(path), saved):
            yield f"{problem}, after it was saved twice"


@check_parts("checkpoint.hostile", "save_checkpoint", "load_checkpoint",
             held="damaged and hostile files were refused by name")  # fmt: skip
def hostile(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """A damaged, forged or foreign file is refused by an error that names it; nothing is believed.

    Truncated at every place of interest, bits flipped, sizes and names changed in the header and
    in the metadata, tensors left out, added, exchanged, not finite or of another dtype, what is no
    file; no crash, no wait, and no more than 1 GiB asked for.
    """
    assert candidate.save_checkpoint
    assert candidate.load_checkpoint
    saved = draw_checkpoint(seed, 0, "whitespace")
    path = folder / "good.cllm"
    candidate.save_checkpoint(saved, path)
    with _limited(resource.RLIMIT_AS, _address_space() + ROOM):
        for what, bad in hostile_files(path, saved, np.random.default_rng([seed, 7])):
            try:
                loaded = candidate.load_checkpoint(bad)
            except (ValueError, OSError) as error:
                if str(bad) not in str(error) and bad.name not in str(error):
                    yield f"{what}: the error does not name the file: {error!r:.120}"
            except Exception as error:
                yield f"{what}: {type(error).__name__}, no clear refusal: {error!s:.120}"
            else:
                different = next(unlike(loaded, saved), "as if it were whole")
                yield f"{what}: the file was believed: {different}"


@check_parts("checkpoint.atomic", "save_checkpoint", "load_checkpoint",
             held="a save that failed left the old file whole, and nothing else")  # fmt: skip
def atomic(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """A save that fails half-way leaves the old file whole (or the new one), and no litter.

    The disk is full after a byte, in the middle and before the last byte; syncing and renaming
    fail. A save that says nothing has saved.
    """
    assert candidate.save_checkpoint
    assert candidate.load_checkpoint
    old, new = draw_checkpoint(seed, 1, "whitespace"), draw_checkpoint(seed, 2, "whitespace")
    path = folder / "a.cllm"
    candidate.save_checkpoint(new, path)
    size = path.stat().st_size
    failures: list[tuple[str, Any]] = [
        (f"the disk was full after {room} of {size} bytes", _limited(resource.RLIMIT_FSIZE, room))
        for room in (1, size // 2, size - 1)
    ]
    failures += [
        (f"os.{name} failed", mock.patch.object(os, name, side_effect=_full)) for name in FAILING
    ]
    for what, failure in failures:
        path.unlink(missing_ok=True)
        candidate.save_checkpoint(old, path)
        failed = False
        try:
            with failure:
                candidate.save_checkpoint(new, path)
        except Exception:
            failed = True
        try:
            found = candidate.load_checkpoint(path)
        except Exception as error:
            yield f"{what}: the old file is lost: {error!s:.120}"
            return
        if any(unlike(found, new)) and (not failed or any(unlike(found, old))):
            yield f"{what}: the file holds neither, or the save failed and did not say so"
        if left := [other.name for other in folder.iterdir() if other != path]:
            yield f"{what}: {left[0]} was left behind"


def draw_checkpoint(seed: int, draw: int, kind: str) -> Checkpoint:
    """A checkpoint in which nothing is a default, and no number is zero or comes twice."""
    generator = np.random.default_rng([seed, draw, 8])
    words = " ".join(f"w{i}" for i in generator.permutation(100)[:20]) + ' naïve "quoted" \\ 日本'
    settings = TokenizerSettings(kind, {"whitespace": 20}.get(kind, 270), bool(draw % 2))
    tokenizer = train_tokenizer(kind, [words, words], settings.vocab_size, settings.lowercase)
    heads = int(generator.choice((2, 4)))
    config = Config(tokenizer.vocab_size, 16, 2, heads, int(generator.integers(17, 40)))
    vectors = generator.normal(size=(3, config.num_parameters)).astype(np.float32)
    epochs = int(generator.integers(2, 9))
    random_numbers = epoch_generator(seed, draw)
    random_numbers.random(int(generator.integers(1, 9)))
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tokenizer_settings=settings,
        settings=Settings(epochs=epochs, learning_rate=0.1, seed=seed, weight_decay=0.5),
        run_settings=RunSettings(model="reference", keep=9),
        corpus_key=f"key {generator.integers(10**9)}",
        position=Position(
            step=int(generator.integers(1, 1000)),
            epoch=int(generator.integers(1, 1000)),
            batch=int(generator.integers(1, 1000)),
            generator_state=dict(random_numbers.bit_generator.state),
        ),
        parameters=vectors[0],
        moments=(vectors[1], np.abs(vectors[2])),
        validation_loss=float(generator.uniform(1, 9)),
        best_validation_loss=float(generator.uniform(0, 1)),
        isa="numpy",
        version="0.0.7",
    )  # fmt: skip


def unlike(found: Checkpoint, saved: Checkpoint) -> Problems:
    """What is not the same in two checkpoints."""
    if found.config != saved.config:
        sizes = asdict(found.config), asdict(saved.config)
        for name in sizes[1]:
            if sizes[0][name] != sizes[1][name]:
                yield f"{name} is {sizes[0][name]} instead of {sizes[1][name]}"
    vectors = [("the parameters", found.parameters, saved.parameters)]
    for name, one, other in zip(("first", "second"), found.moments, saved.moments, strict=True):
        vectors.append((f"the {name} moment", one, other))
    for what, got, wanted in vectors:
        if got.shape != wanted.shape:
            yield f"{what} have the shape {got.shape} instead of {wanted.shape}"
        elif got.tobytes() != wanted.tobytes():
            i = int((got != wanted).argmax())
            tensor, index = _place(saved.config, i)
            yield f"{tensor} {index} of {what} is {got[i]:.9g} instead of {wanted[i]:.9g}"
    if found.tokenizer.to_json() != saved.tokenizer.to_json():
        yield "the tokenizer is another"
    for name, got in vars(found.position).items():
        if got != (wanted := getattr(saved.position, name)):
            yield f"{name} is {got!r:.90} instead of {wanted!r:.90}"
    for field in fields(Checkpoint):
        if field.name not in ("config", "parameters", "moments", "tokenizer", "position"):
            got, wanted = getattr(found, field.name), getattr(saved, field.name)
            if got != wanted:
                yield f"{field.name} is {got!r:.90} instead of {wanted!r:.90}"


def _place(config: Config, i: int) -> tuple[str, list[int]]:
    """Tensor and index of a parameter."""
    vector = np.arange(config.num_parameters)
    for name, view in tensor_views(config, vector).items():
        if i <= view.flat[-1]:
            at = np.unravel_index(i - view.flat[0], view.shape)
            return name, [int(axis) for axis in at]
    raise IndexError(i)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _address_space() -> int:
    """Bytes of this process's address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@contextlib.contextmanager
def _limited(what: int, limit: int) -> Iterator[None]:
    """A resource limited for a while; it stays where a lower limit holds already."""
    soft, hard = resource.getrlimit(what)
    unlimited = resource.RLIM_INFINITY
    allowed = min(each for each in (soft, hard, limit) if each != unlimited)
    resource.setrlimit(what, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
