"""Batches: windows of one stream of tokens.

Window i has the inputs tokens[i·T : (i+1)·T], and as targets the tokens one further on.

Promises: in an epoch every token is a target once, except the first, and an input once, except the
last; the same seed and epoch give the same order. The stream is never copied: it may be mapped
from a disk. Leaves out: where training stands in an epoch (`cllm.training.trainer`).
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import check_size
from cllm.errors import CllmError

RESIDENT = 2**27
"""Bytes of a mapped stream that may stay mapped: the kernel would keep all that was ever read."""

FAULT = 2**16
"""Bytes that the kernel maps when one of them is read."""


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers that decide the order of an epoch."""
    return np.random.default_rng([seed, epoch])


class Batches:
    """The windows of a stream, and the batches that an order of them makes.

    len() is the number of batches in an epoch; the last one may have fewer rows.
    """

    def __init__(self, tokens: NDArray[Any], batch_size: int, seq_len: int) -> None:
        """Windows of seq_len T tokens of the stream tokens (n,), an integer dtype; B in a batch.

        Raises `CllmError` for sizes that are no positive integers, and a text of fewer than 2 or
        fewer than T tokens.
        """
        self.batch_size = check_size("batch_size", batch_size)
        self.seq_len = check_size("seq_len", seq_len)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise CllmError(
                f"tokens must be integers (n,): got {tokens.dtype} of shape {tokens.shape}"
            )
        if len(tokens) < 2:
            raise CllmError(f"a text must have at least 2 tokens: this one has {len(tokens)}")
        if seq_len > len(tokens):
            raise CllmError(
                f"sequence length {seq_len} is longer than the text's {len(tokens)} tokens"
            )
        self._tokens = tokens.view(np.ndarray)  # slices of a memmap are slow
        self._mapping: mmap.mmap | None = getattr(tokens, "_mmap", None)
        self._mapped = 0
        self.num_windows = -(-(len(tokens) - 1) // seq_len)

    def __len__(self) -> int:
        return -(-self.num_windows // self.batch_size)

    def order(self, generator: np.random.Generator | None = None) -> NDArray[Any]:
        """All windows (num_windows,), shuffled, or as the text has them without a generator.

        Their dtype is uint32, and uint64 where that is too small.
        """
        dtype = np.uint32 if self.num_windows <= 2**32 else np.uint64
        windows = np.arange(self.num_windows, dtype=dtype)
        if generator is not None:
            generator.shuffle(windows)
        return windows

    def batch(self, order: NDArray[Any], i: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Batch i of an order: tokens (B', T) and targets (B', T), B' <= B, C-contiguous.

        The text's last window is filled up with the token 0 and targets of -1, which do not count.
        Raises `IndexError` for i outside 0..len-1.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"batch must be in 0..{len(self) - 1}: got {i}")
        windows = order[i * self.batch_size : (i + 1) * self.batch_size].tolist()
        self._release(len(windows))
        tokens = np.zeros((len(windows), self.seq_len), np.int32)
        targets = np.full((len(windows), self.seq_len), -1, np.int32)
        for row, window in enumerate(windows):
            start = window * self.seq_len
            part = self._tokens[start : start + self.seq_len + 1]
            tokens[row, : len(part) - 1] = part[:-1]
            targets[row, : len(part) - 1] = part[1:]
        return tokens, targets

    def _release(self, windows: int) -> None:
        """Let go of what is mapped, before it is too much; it stays in the kernel's cache."""
        if self._mapping is None:
            return
        self._mapped += windows * max(FAULT, self.seq_len * self._tokens.itemsize)
        if self._mapped > RESIDENT:
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0
