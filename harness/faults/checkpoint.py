"""Faults of checkpoints."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cllm.errors import CllmError
from cllm.harness.faults.catalogue import Array, plant_parts
from cllm.layout import tensor_shapes, tensor_views
from cllm.text.batches import epoch_generator
from cllm.training import tensor_file
from cllm.training.checkpoint import Checkpoint


def _loading(change: Callable[[Checkpoint], Checkpoint]) -> Callable[[Path], Checkpoint]:
    """A load that gets something wrong."""
    return lambda path: change(Checkpoint.load(path))


# -- what does not come back -------------------------------------------------------------------


def _fresh_layer_norms(found: Checkpoint) -> Checkpoint:
    parameters = found.parameters.copy()
    for name, view in tensor_views(found.config, parameters).items():
        if ".ln" in name:
            view[...] = 1.0 if name.endswith("gain") else 0.0
    return replace(found, parameters=parameters)


def _eight_heads(found: Checkpoint) -> Checkpoint:
    return replace(found, config=replace(found.config, num_heads=8))


def _usual_width(found: Checkpoint) -> Checkpoint:
    return replace(found, config=replace(found.config, ff_dim=4 * found.config.embed_dim))


def _no_moments(found: Checkpoint) -> Checkpoint:
    first, second = (np.zeros_like(moment) for moment in found.moments)
    return replace(found, moments=(first, second))


def _moment_twice(found: Checkpoint) -> Checkpoint:
    return replace(found, moments=(found.moments[0], found.moments[0]))


def _first_step(found: Checkpoint) -> Checkpoint:
    return replace(found, position=replace(found.position, step=0, epoch=0, batch=0))


def _first_batch(found: Checkpoint) -> Checkpoint:
    return replace(found, position=replace(found.position, batch=0))


def _fresh_generator(found: Checkpoint) -> Checkpoint:
    state = dict(epoch_generator(0, 0).bit_generator.state)
    return replace(found, position=replace(found.position, generator_state=state))


def _half_precision(found: Checkpoint) -> Checkpoint:
    return replace(found, parameters=found.parameters.astype(np.float16).astype(np.float32))


def _layers_exchanged(found: Checkpoint) -> Checkpoint:
    parameters = found.parameters.copy()
    views = tensor_views(found.config, parameters)
    for name, view in views.items():
        if name.startswith("layer0.") and found.config.num_layers > 1:
            other = views[name.replace("layer0.", "layer1.")]
            view[...], other[...] = other.copy(), view.copy()
    return replace(found, parameters=parameters)


for _name, _story, _change in (
    ("LayerNormsNotSaved", "Checkpoints without LayerNorms", _fresh_layer_norms),
    ("HeadCountReset", "A head count that is 8 after loading", _eight_heads),
    ("WidthLost", "F lost: four times D after loading", _usual_width),
    ("MomentsNotSaved", "Adam's moments not saved: zero after a resume", _no_moments),
    ("SecondMomentIsFirst", "The first moment loaded for the second", _moment_twice),
    ("StepCounterLost", "A step counter that starts over on resume", _first_step),
    ("BatchLost", "A resume at the start of its epoch", _first_batch),
    ("GeneratorStateLost", "The generator's state lost: another order on resume", _fresh_generator),
    ("SavedInHalf", "Parameters saved in sixteen bits", _half_precision),
    ("LayersExchanged", "Layers loaded in another order", _layers_exchanged),
):
    _resumes = _name not in ("HeadCountReset", "WidthLost")
    _checks = ("checkpoint.roundtrip", *(("training.resumed",) if _resumes else ()))
    plant_parts(_name, _story, *_checks, load_checkpoint=_loading(_change))


# -- files that should be refused --------------------------------------------------------------


def _unverified(path: Path) -> Checkpoint:
    """Loads without a look at the digest, if the rest can be read."""
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        texts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["cllm"])
        texts.pop("digest")
        return Checkpoint._parse(texts, load(content))
    except (SafetensorError, ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise CllmError(f"{path}: {error}") from error


def _past_the_end(path: Path) -> Checkpoint:
    """Maps what the header promises, and reads it."""
    try:
        return Checkpoint.load(path)
    except CllmError:
        if not path.is_file() or path.stat().st_size < 9:
            raise
        tensor_bytes = _promised(path)
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        with path.open("rb") as file:
            at = libc.mmap(
                *(None, ctypes.c_size_t(tensor_bytes), mmap.PROT_READ, mmap.MAP_PRIVATE),
                *(file.fileno(), ctypes.c_long(0)),
            )
        np.ctypeslib.as_array((ctypes.c_uint8 * tensor_bytes).from_address(at)).sum()
        raise


def _promised(path: Path) -> int:
    """Bytes of a file by its header; those that it has where that cannot be read."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    try:
        entries = json.loads(content[8 : 8 + size])
        ends = [int(e["data_offsets"][1]) for n, e in entries.items() if n != "__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return len(content)
    return 8 + size + min(max(ends, default=0), 2**28)


def _believes_sizes(path: Path) -> Checkpoint:
    """Makes room for what the header asks for, before it looks."""
    if path.is_file():
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        room = np.empty(min(size, 2**62), np.uint8)
        del room
    return Checkpoint.load(path)


def _nameless(path: Path) -> Checkpoint:
    """Refuses, and does not say what."""
    try:
        return Checkpoint.load(path)
    except CllmError as error:
        raise CllmError("damaged file") from error


def _waits(path: Path) -> Checkpoint:
    """Opens whatever it is, a pipe too."""
    if path.exists() and not path.is_dir():
        path.read_bytes()
    return Checkpoint.load(path)


def _crashes_on_unknown(path: Path) -> Checkpoint:
    """A tensor that is missing is a KeyError."""
    try:
        return Checkpoint.load(path)
    except CllmError as error:
        if "no such tensor" in str(error) or "tensors do not fit" in str(error):
            raise KeyError("embedding") from error
        raise


def _not_finite(path: Path) -> Checkpoint:
    """Loads a NaN."""
    try:
        return Checkpoint.load(path)
    except CllmError as error:
        if "not finite" not in str(error):
            raise
        return _with_nan(path)


def _with_nan(path: Path) -> Checkpoint:
    texts, tensors = tensor_file.load_tensors(path)
    whole = {name: np.nan_to_num(tensor) for name, tensor in tensors.items()}
    found = Checkpoint._parse(texts, whole)
    names = tensor_shapes(found.config)
    vector: Array = np.concatenate([tensors[name].reshape(-1) for name in names])
    return replace(found, parameters=vector)


for _name, _story, _load in (
    ("BitFlipsBelieved", "A flipped bit in a weight is not noticed", _unverified),
    ("ReadPastTheEnd", "A truncated checkpoint read past its end", _past_the_end),
    ("HeaderBelieved", "Memory taken for whatever size the header says", _believes_sizes),
    ("RefusesWithoutName", "A refusal that does not say which file", _nameless),
    ("KeyErrorOnMissingTensor", "A missing tensor ends in a KeyError", _crashes_on_unknown),
    ("LoadsNaN", "A checkpoint whose weights are NaN is loaded", _not_finite),
):
    plant_parts(_name, _story, "checkpoint.hostile", load_checkpoint=_load)
plant_parts(
    "WaitsForAPipe",
    "Opening a pipe waits for ever",
    "checkpoint.hostile",
    load_checkpoint=_waits,
    hangs=True,
)


# -- saving ------------------------------------------------------------------------------------


def _in_place(checkpoint: Checkpoint, path: Path) -> None:
    texts, tensors = checkpoint._metadata(), checkpoint._tensors()
    digest = tensor_file._digest(texts, tensors)
    content = save(dict(tensors), {"cllm": tensor_file._document(texts, digest)})
    with path.open("wb") as file:
        file.write(content)


def _renamed_anyway(checkpoint: Checkpoint, path: Path) -> None:
    beside = path.with_name("half.tmp")
    try:
        _in_place(checkpoint, beside)
    finally:
        beside.replace(path)


def _littering(checkpoint: Checkpoint, path: Path) -> None:
    beside = path.with_name("half.tmp")
    _in_place(checkpoint, beside)
    beside.replace(path)


def _silent(checkpoint: Checkpoint, path: Path) -> None:
    with contextlib.suppress(OSError):
        checkpoint.save(path)


def _removed_first(checkpoint: Checkpoint, path: Path) -> None:
    path.unlink(missing_ok=True)
    checkpoint.save(path)


for _name, _story, _save in (
    ("WrittenInPlace", "A checkpoint written over the old one", _in_place),
    ("RenamedHalfWritten", "A half-written checkpoint renamed all the same", _renamed_anyway),
    ("LeavesLitter", "A save that failed leaves its temporary file", _littering),
    ("FailsSilently", "A save that failed says nothing", _silent),
    ("OldRemovedFirst", "The old checkpoint removed before the new one is written", _removed_first),
):
    plant_parts(_name, _story, "checkpoint.atomic", save_checkpoint=_save)


# -- odd, but correct --------------------------------------------------------------------------


def _twice(checkpoint: Checkpoint, path: Path) -> None:
    """Written twice; the second time over the first."""
    checkpoint.save(path)
    checkpoint.save(path)


plant_parts("SavesTwice", "Odd: a checkpoint that is saved twice", save_checkpoint=_twice)
