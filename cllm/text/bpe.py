"""Byte-pair encoding on bytes (Sennrich et al. 2016; Radford et al. 2019), by `tokenizers`.

Text is split as in GPT-2 (letters, digits, other characters, each with a space before it, and
whitespace), and within each part the pair of tokens that was merged first in training is merged
first.

Promises: `decode(encode(text)) == text` for every text (lowered, where that is asked for); training
gives the same merges whatever the order of the texts, because the library breaks ties between
equally frequent pairs by their ids; a signal's handler runs at once, even while it trains.
Leaves out: the library's own specials, normalizers and file format, and its threads: of its
own it makes none, so that a process may fork afterwards.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, FixedLength
from tokenizers.pre_tokenizers import Sequence as InSequence
from tokenizers.trainers import BpeTrainer

from cllm.errors import CllmError
from cllm.text.byte_level import BYTES, FIRST_BYTE, ByteLevelTokenizer
from cllm.text.tokenizer import MAX_VOCAB_SIZE

# Read by the library at each call. Without it, it makes threads, and warns in a forked process.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_SPLIT = ByteLevel(add_prefix_space=False)

MAX_TOKEN_BYTES = 128
"""Longest token. It keeps merges that double a token over and over from filling the memory."""

MAX_TRAINED_BYTES = 256
"""Longer parts of a text are cut for training, which takes quadratic time in their length."""


class BpeTokenizer(ByteLevelTokenizer):
    """Merge i joins two tokens of lower ids; its result has the next id from 260 on.

    A result that is there already, as another pair's, gets no id of its own.
    """

    kind = "bpe"
    _fields = ("merges",)

    def __init__(self, merges: Sequence[Sequence[int]], lowercase: bool) -> None:
        """Raises `CllmError` unless the merges are distinct pairs of ids as above."""
        super().__init__(lowercase=lowercase)
        if not isinstance(merges, list | tuple) or len(BYTES) + len(merges) > MAX_VOCAB_SIZE:
            raise CllmError(
                f"merges must be a list of at most {MAX_VOCAB_SIZE - len(BYTES)} pairs: "
                f"got {merges!r:.80}"
            )
        table, known, pairs = list(BYTES), set(BYTES), set()
        for merge in merges:
            if not isinstance(merge, list | tuple) or len(merge) != 2:
                raise CllmError(f"a merge must be a pair of token ids: got {merge!r:.80}")
            for token in merge:
                if type(token) is not int or not FIRST_BYTE <= token < len(table):
                    raise CllmError(
                        f"this merge must join ids in {FIRST_BYTE}..{len(table) - 1}: "
                        f"got {merge!r:.80}"
                    )
            pairs.add((merge[0], merge[1]))
            joined = table[merge[0]] + table[merge[1]]
            if len(joined) > MAX_TOKEN_BYTES:
                raise CllmError(
                    f"a token may have {MAX_TOKEN_BYTES} bytes: the merge {merge} has {len(joined)}"
                )
            if joined not in known:
                known.add(joined)
                table.append(joined)
        if repeated := len(merges) - len(pairs):
            raise CllmError(f"merges must be distinct: {repeated} of {len(merges)} are repeated")
        self.merges = tuple((left, right) for left, right in merges)
        self._bytes = table

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Self:
        """Merge the most frequent pairs, those that come twice at least, of prepared texts.

        They are all held in memory: `cllm.text.corpus` gives a sample.
        """
        library = Tokenizer(BPE())
        library.pre_tokenizer = InSequence([_SPLIT, FixedLength(MAX_TRAINED_BYTES)])
        trainer = BpeTrainer(
            vocab_size=vocab_size - FIRST_BYTE,
            min_frequency=2,
            initial_alphabet=ByteLevel.alphabet(),
            max_token_length=MAX_TOKEN_BYTES,
            show_progress=False,
        )
        batch = list(texts)  # as one the library takes it without Python, all the rest of its time
        _interruptible(lambda: library.train_from_iterator([batch], trainer))
        ids = {_spelled(BYTES[token]): token for token in range(FIRST_BYTE, len(BYTES))}
        merges = []
        for left, right in json.loads(library.to_str())["model"]["merges"]:
            merges.append((ids[left], ids[right]))
            ids.setdefault(left + right, FIRST_BYTE + len(ids))
        return cls(merges, lowercase)

    def _encode(self, text: str) -> NDArray[np.int32]:
        # In contrast to `encode` this leaves out where in the text each token lies.
        (encoded,) = self._encoder.encode_batch_fast([text])
        return np.array(encoded.ids, np.int32)

    @cached_property
    def _encoder(self) -> Tokenizer:
        spelled = [_spelled(token) for token in self._bytes]
        vocab = {spelled[token]: token for token in range(FIRST_BYTE, len(spelled))}
        merges = [(spelled[left], spelled[right]) for left, right in self.merges]
        library = Tokenizer(BPE(vocab=vocab, merges=merges))
        library.pre_tokenizer = _SPLIT
        return library


def _interruptible(work: Callable[[], None]) -> None:
    """Do what Python cannot interrupt in a thread, which is left alone when a signal ends the wait.

    It is a daemon: the process ends without it.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    # Python is done with the thread, the kernel may not be yet: a fork meanwhile warns.
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        os.sched_yield()
    if failed:
        raise failed[0]


def _spelling() -> list[str]:
    """(256,) the character that the library has for each byte: itself where it is visible.

    The others follow from U+0100 on (`bytes_to_unicode` of GPT-2).
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_SPELLING = _spelling()


def _spelled(token: bytes) -> str:
    return "".join([_SPELLING[byte] for byte in token])
