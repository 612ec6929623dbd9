"""Named float32 tensors and texts in one safetensors file that notices any change to it.

The file is written and read by the safetensors library. Its metadata have one entry, `cllm`, a
JSON object of the texts and, first, their `digest`: the BLAKE2b-256 (RFC 7693), in hexadecimal, of
the other texts and of every tensor's name, shape and bytes.

Promises: a file is written whole or not at all, the same content as the same bytes; a file that
was truncated or has a bit flipped is refused, and no more memory is asked for than the file has.
Leaves out: what tensors and texts mean (`cllm.training.checkpoint`).
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cllm.errors import CllmError
from cllm.files import atomic_file

SAVING_BYTES = 24
"""Memory that saving takes for each parameter, with its two moments: a copy, and the file."""

_ENTRY = "cllm"
"""One entry alone: the library writes several in no fixed order."""

Tensors = Mapping[str, NDArray[np.float32]]


def save_tensors(path: Path, texts: Mapping[str, str], tensors: Tensors) -> None:
    """Write texts and tensors by name.

    Raises `OSError` where the file cannot be written; `path` is then as it was.
    """
    content = save(dict(tensors), {_ENTRY: _document(texts, _digest(texts, tensors))})
    with atomic_file(path) as file:
        file.write(content)


def load_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """The texts and tensors of a file; raises `CllmError` for one that is damaged or foreign."""
    try:
        # Asked before it is opened, which would wait for the other end of a pipe.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CllmError(f"{path}: not a regular file")
        with safe_open(path, framework="numpy") as file:
            document = (file.metadata() or {}).get(_ENTRY)
            if document is None or len(file.metadata()) != 1:
                raise CllmError(f"{path}: not a checkpoint of CLLM")
            tensors = {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118
        texts = json.loads(document)
    except OSError as error:
        raise CllmError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        message = (
            str(error)
            if isinstance(error, CllmError)
            else f"truncated, damaged, or no checkpoint: {error}"
        )
        raise CllmError(f"{path}: {message.removeprefix(f'{path}: ')}") from error
    except RecursionError as error:
        raise CllmError(f"{path}: its metadata are nested too deeply") from error
    except MemoryError as error:
        raise CllmError(f"{path}: larger than the memory") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CllmError(f"{path}: its metadata must be texts by name: got {document!r:.80}")
    digest = texts.pop("digest", "")
    if document != _document(texts, digest) or digest != _digest(texts, tensors):
        raise CllmError(f"{path}: damaged: its digest does not fit its content")
    return texts, tensors


def _tensor(file: Any, name: str) -> NDArray[np.float32]:
    kind = file.get_slice(name).get_dtype()
    if kind != "F32":
        raise CllmError(f"its tensor {name!r} must be F32: got {kind}")
    tensor: NDArray[np.float32] = file.get_tensor(name)
    return tensor


def _document(texts: Mapping[str, str], digest: str) -> str:
    return json.dumps({"digest": digest} | dict(texts), separators=(",", ":"))


def _digest(texts: Mapping[str, str], tensors: Tensors) -> str:
    """Of everything but itself."""
    hasher = hashlib.blake2b(_document(texts, "").encode(), digest_size=32)
    for name, tensor in sorted(tensors.items()):
        hasher.update(json.dumps([name, tensor.shape]).encode())
        hasher.update(np.ascontiguousarray(tensor, "<f4").data)
    return hasher.hexdigest()
