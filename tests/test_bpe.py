"""Byte-pair encoding: held against a few lines that do the same, and against hostile merges."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text import bpe
from cllm.text.bpe import MAX_TOKEN_BYTES, BpeTokenizer
from cllm.text.tokenizer import Tokenizer, train_tokenizer

Pair = tuple[int, int]

A, B, C = (4 + ord(c) for c in "abc")


def plain_encode(merges: Sequence[Pair], results: dict[Pair, int], text: str) -> list[int]:
    """BPE of lower-case letters and whitespace: in each part the merge learned first goes first."""
    ids = []
    for part in re.findall(r" ?[a-z]+|\s+(?!\S)|\s+", text):
        tokens = [4 + byte for byte in part.encode()]
        while True:
            pairs = [pair for pair in itertools.pairwise(tokens) if pair in results]
            if not pairs:
                break
            first = min(pairs, key=merges.index)
            at = list(itertools.pairwise(tokens)).index(first)
            tokens[at : at + 2] = [results[first]]
        ids += tokens
    return ids


def results(tokenizer: BpeTokenizer) -> dict[Pair, int]:
    """What each merge makes, found by the bytes that a token stands for."""
    made: dict[Pair, int] = {}
    by_bytes = {tokenizer._bytes[i]: i for i in range(4, tokenizer.vocab_size)}
    for left, right in tokenizer.merges:
        made[left, right] = by_bytes[tokenizer._bytes[left] + tokenizer._bytes[right]]
    return made


@settings(deadline=None)
@given(st.lists(st.text("aab c\n"), max_size=5), st.text("abc \n"), st.integers(260, 280))
def test_it_merges_as_defined(given_texts: list[str], text: str, vocab_size: int) -> None:
    tokenizer = train_tokenizer("bpe", given_texts, vocab_size, False)
    assert isinstance(tokenizer, BpeTokenizer)
    wanted = plain_encode(tokenizer.merges, results(tokenizer), text)
    assert tokenizer.encode(text).tolist() == wanted


def test_it_learns_the_most_frequent_pairs_first() -> None:
    tokenizer = train_tokenizer("bpe", ["ab ab ab bc bc"], 262, False)
    assert isinstance(tokenizer, BpeTokenizer)
    # "ab" comes three times; " b" and "bc" and " ab" twice, and the lowest ids win a tie.
    assert tokenizer.merges[0] == (A, B)
    assert len(tokenizer.merges) == 2
    assert tokenizer.token(260) == "ab"


def test_a_pair_that_comes_once_is_not_learned() -> None:
    assert train_tokenizer("bpe", ["abcdef"], 1000, False).vocab_size == 260


@pytest.mark.parametrize("vocab_size", [260, 261, 300])
def test_the_vocabulary_is_as_large_as_asked_for(vocab_size: int) -> None:
    text = Path(bpe.__file__).read_text()
    assert train_tokenizer("bpe", [text], vocab_size, False).vocab_size == vocab_size


def test_two_merges_may_make_the_same_token() -> None:
    merges = [[A, B], [260, C], [B, C], [A, 262], [261, A]]
    tokenizer = BpeTokenizer(merges, lowercase=False)
    assert [tokenizer.token(i) for i in range(260, 264)] == ["ab", "abc", "bc", "abca"]
    assert tokenizer.vocab_size == 264
    assert tokenizer.encode("abca").tolist() == [263]
    assert tokenizer.encode("bca").tolist() == [262, A]
    assert Tokenizer.from_json(tokenizer.to_json()).encode("abca").tolist() == [263]


def test_long_parts_are_cut_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "MAX_TRAINED_BYTES", 4)
    tokenizer = train_tokenizer("bpe", ["abcdefgh" * 100], 300, False)
    assert max(len(token) for token in tokenizer._bytes) == 4  # type: ignore[attr-defined]


def test_a_learned_token_is_no_longer_than_a_token_may_be() -> None:
    tokenizer = train_tokenizer("bpe", ["a" * 100_000, " " * 100_000], 2000, False)
    assert isinstance(tokenizer, BpeTokenizer)
    assert MAX_TOKEN_BYTES // 2 <= max(map(len, tokenizer._bytes)) <= MAX_TOKEN_BYTES


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        ("ab", "merges must be a list"),
        ({}, "merges must be a list"),
        ([[A, B], [B]], r"pair of token ids: got \[102\]"),
        ([[A, B, C]], "pair of token ids"),
        (["ab"], "pair of token ids: got 'ab'"),
        ([None], "pair of token ids: got None"),
        ([[A, 3]], r"ids in 4\.\.259: got \[101, 3\]"),
        ([[260, A]], r"ids in 4\.\.259: got \[260, 101\]"),
        ([[A, B], [260, 261]], r"ids in 4\.\.260: got \[260, 261\]"),
        ([[-1, A]], r"ids in 4\.\.259"),
        ([[A, 5.0]], r"ids in 4\.\.259"),
        ([[A, True]], r"ids in 4\.\.259"),
        ([[A, "b"]], r"ids in 4\.\.259"),
        ([[A, [B]]], r"ids in 4\.\.259"),
        ([[A, 10**30]], r"ids in 4\.\.259"),
        ([[A, B], [B, C], [A, B]], "1 of 3 are repeated"),
        ([[A, A]] + [[260 + i, 260 + i] for i in range(60)], "may have 128 bytes: .* has 256"),
    ],
)
def test_hostile_merges_are_refused(merges: object, said: str) -> None:
    text = json.dumps({"kind": "bpe", "lowercase": False, "merges": merges})
    with pytest.raises(CllmError, match=said) as caught:
        Tokenizer.from_json(text)
    assert len(str(caught.value)) < 400


TRAIN = """
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock
from cllm.text.tokenizer import train_tokenizer
texts = [path.read_text() for path in sorted(Path(sys.argv[1]).glob("*.py"))]
print(train_tokenizer("bpe", texts, 600, False).to_json())
"""


def run(program: str, **environment: str) -> str:
    folder = Path(bpe.__file__).parent
    inherited = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program, folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=inherited | environment,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_signal_takes_effect_while_the_library_trains(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    done = threading.Event()

    def train(*_: object) -> None:
        # Where the library works, Python handles no signal: that has to be another thread.
        assert threading.current_thread() is not threading.main_thread()
        if error is ValueError:
            raise error
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        done.wait()

    monkeypatch.setattr(bpe, "Tokenizer", lambda _: Mock(train_from_iterator=train))
    with pytest.raises(error):
        BpeTokenizer.train(["a b"], 300, False)
    done.set()


def test_every_process_and_number_of_threads_learns_the_same() -> None:
    one = run(TRAIN, PYTHONHASHSEED="1")
    assert json.loads(one)["merges"]
    assert one == run(TRAIN, PYTHONHASHSEED="2")
    assert one == run(TRAIN, TOKENIZERS_PARALLELISM="true", RAYON_NUM_THREADS="4")


def test_a_process_may_fork_after_use_without_a_word() -> None:
    program = """
import os
from cllm.text.tokenizer import train_tokenizer
threads = len(os.listdir("/proc/self/task"))
tokenizer = train_tokenizer("bpe", ["a text to learn from"] * 300, 300, False)
before = tokenizer.encode("a text").tolist()
assert len(os.listdir("/proc/self/task")) == threads
child = os.fork()
if child == 0:
    again = train_tokenizer("bpe", ["a text to learn from"] * 300, 300, False)
    os._exit(int(again.encode("a text").tolist() != before))
assert os.waitpid(child, 0)[1] == 0
"""
    run(program)
