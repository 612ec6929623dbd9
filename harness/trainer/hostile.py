"""Files that are no checkpoint, or no longer the one that was saved.

Promises: each is unlike the good file, with a line that says how. What is done to a container's
header and metadata is done where the file is one of ours (`cllm.training.tensor_file`); the rest
to a file of any form.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.training.checkpoint import Checkpoint
from cllm.training.tensor_file import load_tensors, save_tensors

FLIPS = 24
"""Bits that are flipped, at places drawn over the file, and as many over its first bytes."""

PAGE = 4096

Texts = dict[str, str]
Tensors = dict[str, NDArray[Any]]


def hostile_files(
    good: Path, saved: Checkpoint, generator: np.random.Generator
) -> Iterator[tuple[str, Path]]:
    """What is wrong with a file, and its path; the good one stays as it is."""
    content = good.read_bytes()
    path = good.with_name("hostile.cllm")
    for what, changed in _damaged(content, generator):
        path.write_bytes(changed)
        yield what, path
    for what, header in _headers(content):
        path.write_bytes(header)
        yield what, path
    yield from _forged(good, path, saved)
    path.unlink(missing_ok=True)
    yield "a file that is not there", path
    folder = good.with_name("folder.cllm")
    folder.mkdir()
    yield "a folder", folder
    loop = good.with_name("loop.cllm")
    loop.symlink_to(loop)
    yield "a link to itself", loop
    pipe = good.with_name("pipe.cllm")
    os.mkfifo(pipe)
    yield "a pipe that nobody writes", pipe


def _damaged(content: bytes, generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """The bytes of any file, changed."""
    size = len(content)
    header = min(size, 8 + int.from_bytes(content[:8], "little"))
    cuts = {0, 1, 7, 8, 9, header - 1, header, header + 1, size // 3, size // 2, size - 4, size - 1}
    cuts |= {*range(PAGE, size, PAGE)} | {int(at) for at in generator.integers(0, size, 8)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < size):
        yield f"truncated to {cut} of {size} bytes", content[:cut]
    flips = {int(at) for at in generator.integers(0, size, FLIPS)}
    flips |= {int(at) for at in generator.integers(0, header, FLIPS)} | {0, 3, 7, 8, size - 1}
    for at in sorted(flips):
        bit = 1 << int(generator.integers(8))
        flipped = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        yield f"a bit flipped in byte {at} of {size}", flipped
    yield "a byte more at its end", content + b"\0"
    yield "written twice", content * 2
    yield "zeros of the same size", bytes(size)
    yield "random bytes", generator.bytes(size)
    yield "text", b"not a checkpoint\n"


def _headers(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The header of a safetensors file, changed."""
    size = int.from_bytes(content[:8], "little")
    for wrong in (0, size - 1, size + 1, len(content), 2**31, 2**40, 2**63, 2**64 - 1):
        yield f"a header of {wrong} bytes", wrong.to_bytes(8, "little") + content[8:]
    try:
        header = json.loads(content[8 : 8 + size])
        first, second = [name for name in header if name != "__metadata__"][:2]
    except (ValueError, IndexError):
        return

    def entries(**changed: Any) -> bytes:
        return _joined(header | {first: header[first] | changed}, content[8 + size :])

    start, stop = header[first]["data_offsets"]
    yield "a tensor beyond the end", entries(data_offsets=[start, 2**40])
    yield "a tensor before the start", entries(data_offsets=[-4, stop])
    yield "a tensor that ends before it starts", entries(data_offsets=[stop, start])
    yield "a tensor over another", entries(data_offsets=header[second]["data_offsets"])
    yield "a shape of 2^40", entries(shape=[2**40])
    yield "a shape whose product wraps to zero", entries(shape=[2**32, 2**32])
    yield "a negative size", entries(shape=[-1])
    yield "float64 in the header", entries(dtype="F64")
    yield "integers in the header", entries(dtype="I32")
    both = header | {first: header[second], second: header[first]}
    yield "two names exchanged", _joined(both, content[8 + size :])
    yield "nothing in the header", _joined({}, content[8 + size :])
    deep = b"[" * 100_000
    yield "a header nested deeply", len(deep).to_bytes(8, "little") + deep + content[8 + size :]


def _joined(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _forged(good: Path, path: Path, saved: Checkpoint) -> Iterator[tuple[str, Path]]:
    """Metadata and tensors changed, with a digest that fits."""
    try:
        texts, tensors = load_tensors(good)
    except ValueError:
        return
    for what, change in _forgeries(saved):
        forged_texts, forged = dict(texts), {name: t.copy() for name, t in tensors.items()}
        change(forged_texts, forged)
        save_tensors(path, forged_texts, forged)
        yield what, path


def _forgeries(saved: Checkpoint) -> Iterator[tuple[str, Callable[[Texts, Tensors], object]]]:
    def sizes(**changed: Any) -> Callable[[Texts, Tensors], object]:
        return record("config", **changed)

    def record(name: str, **changed: Any) -> Callable[[Texts, Tensors], object]:
        return lambda texts, _: texts.update({name: json.dumps(json.loads(texts[name]) | changed)})

    def tensor(
        name: str, change: Callable[[NDArray[Any]], Any]
    ) -> Callable[[Texts, Tensors], object]:
        return lambda _, tensors: tensors.update({name: np.array(change(tensors[name]))})

    def renamed(name: str, other: str = "") -> Callable[[Texts, Tensors], object]:
        def change(_: Texts, tensors: Tensors) -> None:
            taken = tensors.pop(name)
            if other:
                tensors[other] = taken

        return change

    def changed(tensor: NDArray[Any], value: float) -> NDArray[Any]:
        tensor.flat[-1] = value
        return tensor

    config = saved.config
    yield "no head count", lambda texts, _: texts.pop("config")
    yield "more layers than tensors", sizes(num_layers=config.num_layers + 1)
    yield "2^40 layers", sizes(num_layers=2**40)
    yield "a vocabulary of 2^40", sizes(vocab_size=2**40)
    yield "another F", sizes(ff_dim=config.ff_dim + 1)
    yield "a negative F", sizes(ff_dim=-config.ff_dim)
    yield "3 heads for a width of 16", sizes(num_heads=3)
    yield "no heads", sizes(num_heads=0)
    yield "a step of -1", record("position", step=-1)
    yield "a step that is a text", record("position", step="1")
    yield "a generator without a state", record("position", generator_state={})
    yield "a batch size of 0", record("settings", batch_size=0)
    yield "a learning rate of NaN", record("settings", learning_rate=float("nan"))
    yield "no tokenizer", lambda texts, _: texts.pop("tokenizer")
    yield (
        "a tokenizer with fewer tokens",
        lambda texts, _: texts.update(
            tokenizer='{"kind":"whitespace","lowercase":false,"words":["a"]}'
        ),
    )
    for name in ("embedding", "layer1.ln2_gain", "first_moment.layer0.qkv_weight"):
        yield f"NaN in {name}", tensor(name, lambda values: changed(values, np.nan))
        yield f"infinity in {name}", tensor(name, lambda values: changed(values, -np.inf))
        yield f"{name} transposed or flat", tensor(name, lambda v: v.T if v.ndim > 1 else v[None])
        yield f"{name} shorter", tensor(name, lambda values: values[:-1])
        yield f"no {name}", renamed(name)
    for prefix in ("", "first_moment."):
        one, other = f"{prefix}layer0.ln1_gain", f"{prefix}layer0.ln1_other"
        yield f"{one} called {other}", renamed(one, other)
    yield "a tensor too many", lambda _, tensors: tensors.update(extra=np.ones(3, np.float32))
