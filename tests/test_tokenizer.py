"""What all tokenizers promise, and the kinds `whitespace` and `bytes`."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text.text_files import cut
from cllm.text.tokenizer import (
    BOS,
    EOS,
    KINDS,
    MAX_VOCAB_SIZE,
    PAD,
    SPECIALS,
    UNK,
    Tokenizer,
    TokenizerSettings,
    train_tokenizer,
)

TEXTS = [
    "the cat sat on the mat; the cat's naïve",
    "Ένα <BOS> ΣΑΣ ΣΑΣ <PAD> <PAD>\n\tthe end 12 12",
]
TOKENIZERS = {
    (kind, lowercase): train_tokenizer(kind, TEXTS, 300, lowercase)
    for kind in KINDS
    for lowercase in (False, True)
}

any_tokenizer = st.sampled_from(list(TOKENIZERS.values()))
# Whitespace of all sorts, letters whose lower case depends on their neighbors or has another
# length, contractions, digits, and characters of one to four bytes.
odd_text = st.text(
    st.sampled_from("   \n\n\t\r\x0b\x1c\x85\xa0\u2003\u3000ΣσςİAa'st.19é\u0301‐😀<>")
)
texts = st.one_of(st.text(), odd_text)


def test_the_specials_have_the_first_ids() -> None:
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    for tokenizer in TOKENIZERS.values():
        assert [tokenizer.token(i) for i in range(4)] == ["<PAD>", "<UNK>", "<BOS>", "<EOS>"]


@settings(deadline=None)
@given(any_tokenizer, texts)
def test_ids_are_int32_and_below_the_vocabulary_size(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all()


@settings(deadline=None)
@given(any_tokenizer, st.lists(st.sampled_from([*SPECIALS, " ", "a", "<", "\n"])).map("".join))
def test_no_text_makes_a_special(tokenizer: Tokenizer, text: str) -> None:
    assert not {PAD, BOS, EOS} & set(tokenizer.encode(text).tolist())


@settings(deadline=None)
@given(any_tokenizer, texts)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    decoded = tokenizer.decode(tokenizer.encode(text))
    wanted = text.lower() if tokenizer.lowercase else text
    if tokenizer.kind == "whitespace":
        known = {tokenizer.token(i) for i in range(4, tokenizer.vocab_size)}
        wanted = " ".join(word if word in known else "<UNK>" for word in wanted.split())
    assert decoded == wanted


@settings(deadline=None)
@given(any_tokenizer, st.lists(st.integers(0, 2**31)))
def test_a_stream_adds_up_to_the_text(tokenizer: Tokenizer, numbers: list[int]) -> None:
    ids = [number % tokenizer.vocab_size for number in numbers]
    stream = tokenizer.stream()
    parts = [stream.feed(i) for i in ids]
    assert "".join(parts) + stream.flush() == tokenizer.decode(ids)


@settings(deadline=None)
@given(any_tokenizer, texts)
def test_a_stream_holds_back_what_is_not_certain(tokenizer: Tokenizer, text: str) -> None:
    stream, shown, whole = tokenizer.stream(), "", tokenizer.decode(tokenizer.encode(text))
    for token in tokenizer.encode(text):
        shown += stream.feed(token)
        assert whole.startswith(shown)
    assert shown == whole  # a complete text leaves nothing to flush


@settings(deadline=None)
@given(any_tokenizer, texts)
def test_a_tokenizer_comes_back_from_its_json_with_the_same_ids(
    tokenizer: Tokenizer, text: str
) -> None:
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert again.vocab_size == tokenizer.vocab_size
    assert again.lowercase == tokenizer.lowercase
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert [again.token(i) for i in range(again.vocab_size)] == [
        tokenizer.token(i) for i in range(tokenizer.vocab_size)
    ]


@settings(deadline=None)
@given(any_tokenizer, st.lists(texts))
def test_pieces_give_the_tokens_of_the_whole(tokenizer: Tokenizer, blocks: list[str]) -> None:
    pieces = [token for piece in cut(blocks) for token in tokenizer.encode(piece).tolist()]
    assert pieces == tokenizer.encode("".join(blocks)).tolist()


@settings(deadline=None)
@given(st.sampled_from(list(TOKENIZERS)), st.lists(texts))
def test_pieces_train_as_the_whole_does(key: tuple[str, bool], blocks: list[str]) -> None:
    kind, lowercase = key
    whole = train_tokenizer(kind, ["".join(blocks)], 280, lowercase)
    assert train_tokenizer(kind, cut(blocks), 280, lowercase).to_json() == whole.to_json()


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.text("ab \n", max_size=12), max_size=8), st.randoms())
def test_the_order_of_the_texts_does_not_matter(
    kind: str, given_texts: list[str], random: Random
) -> None:
    shuffled = random.sample(given_texts, len(given_texts))
    one, other = (train_tokenizer(kind, each, 290, False) for each in (given_texts, shuffled))
    assert one.to_json() == other.to_json()


@settings(deadline=None)
@given(st.lists(texts), st.integers(5, 12), st.booleans())
def test_whitespace_takes_the_most_frequent_words_then_by_text(
    given_texts: list[str], vocab_size: int, lowercase: bool
) -> None:
    words = [w for text in given_texts for w in (text.lower() if lowercase else text).split()]
    counts = Counter(words)
    wanted = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - 4]
    tokenizer = train_tokenizer("whitespace", given_texts, vocab_size, lowercase)
    assert [tokenizer.token(i) for i in range(4, tokenizer.vocab_size)] == wanted


def test_whitespace_by_hand() -> None:
    tokenizer = train_tokenizer("whitespace", ["b a  c\n<PAD> b", "<PAD> d"], 8, False)
    assert json.loads(tokenizer.to_json())["words"] == ["<PAD>", "b", "a", "c"]
    assert tokenizer.encode("a <PAD>\td B").tolist() == [6, 4, UNK, UNK]
    assert tokenizer.decode([BOS, 6, PAD, 4, EOS, UNK, PAD]) == "a <PAD> <UNK>"


def test_bytes_by_hand() -> None:
    tokenizer = train_tokenizer("bytes", [], 260, True)
    assert tokenizer.vocab_size == 260
    assert tokenizer.encode("Aé").tolist() == [4 + ord("a"), 4 + 0xC3, 4 + 0xA9]
    assert tokenizer.decode([BOS, 4 + 0xC3, 4 + ord("a"), UNK, EOS, 4 + 0xF0]) == "\ufffda\ufffd"
    assert [tokenizer.token(4 + b) for b in (0, 10, 97, 0xC3)] == ["\\x00", "\\n", "a", "\\xc3"]


def test_bytes_does_not_read_the_texts() -> None:
    def texts() -> Iterator[str]:
        raise AssertionError("read")
        yield

    assert train_tokenizer("bytes", texts(), 260, False).vocab_size == 260


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values())
@pytest.mark.parametrize("token", [-1, 10**6, 1.0, "1", None])
def test_an_id_out_of_range_is_refused(tokenizer: Tokenizer, token: object) -> None:
    for use in (tokenizer.token, tokenizer.stream().feed, lambda token: tokenizer.decode([token])):
        with pytest.raises(CllmError, match=r"token id must be an integer in 0\.\.\d+: got"):
            use(token)  # type: ignore[arg-type]
    with pytest.raises(CllmError, match=f"got {tokenizer.vocab_size}"):
        tokenizer.token(tokenizer.vocab_size)


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values())
def test_numpy_ids_are_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode(ids.astype(np.uint16)) == "the cat"


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values())
def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(CllmError, match=r"lone surrogates: got '\\udc80' at character 2"):
        tokenizer.encode("ab\udc80")
    if tokenizer.kind != "bytes":
        with pytest.raises(CllmError, match="lone surrogates"):
            train_tokenizer(tokenizer.kind, ["\ud800"], 300, False)


@pytest.mark.parametrize(
    ("kind", "vocab_size", "lowercase", "said"),
    [
        ("words", 300, False, "one of whitespace, bytes, bpe: got 'words'"),
        (None, 300, False, "got None"),
        ("whitespace", 4, False, r"5\.\.16777216 for the tokenizer whitespace: got 4"),
        ("bpe", 259, False, r"260\.\.16777216 for the tokenizer bpe: got 259"),
        ("bytes", 259, False, r"260\.\.16777216 for the tokenizer bytes: got 259"),
        ("bpe", MAX_VOCAB_SIZE + 1, False, "got 16777217"),
        ("bpe", -1, False, "got -1"),
        ("bpe", True, False, "got True"),
        ("bpe", 300.0, False, r"got 300\.0"),
        ("bpe", 300, 1, "lowercase must be true or false: got 1"),
    ],
)
def test_bad_settings_are_refused(kind: str, vocab_size: int, lowercase: bool, said: str) -> None:
    with pytest.raises(CllmError, match=said):
        TokenizerSettings(kind, vocab_size, lowercase)
    with pytest.raises(CllmError, match=said):
        train_tokenizer(kind, ["text"], vocab_size, lowercase)


def vocabulary(kind: str, **fields: object) -> str:
    return json.dumps({"kind": kind, "lowercase": False} | fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a tokenizer"),
        ("{", "not a tokenizer"),
        ("[" * 200_000, "not a tokenizer"),
        ("1" * 5000, "not a tokenizer"),
        ("null", "kind must be one of"),
        ("[]", "kind must be one of"),
        ("{}", "kind must be one of"),
        ('{"kind": ["bytes"]}', "kind must be one of"),
        ('{"kind": {}}', "kind must be one of"),
        (vocabulary("wordpiece"), "kind must be one of .* got 'wordpiece'"),
        ('{"kind": "bytes"}', "kind bytes: it has "),
        (vocabulary("bytes", words=[]), "kind bytes: it has "),
        (vocabulary("bpe", words=[]), "kind bpe: it has "),
        (vocabulary("whitespace"), "kind whitespace: it has "),
        (vocabulary("whitespace", words=[], merges=[]), "kind whitespace: it has "),
        (vocabulary("bytes", lowercase=1), "lowercase must be"),
        (vocabulary("bytes", lowercase=None), "lowercase must be"),
        (vocabulary("whitespace", words=[], lowercase="no"), "lowercase must be"),
        (vocabulary("whitespace", words="abc"), "words must be a list"),
        (vocabulary("whitespace", words={"a": 4}), "words must be a list"),
        (vocabulary("whitespace", words=[1]), "without whitespace: got 1"),
        (vocabulary("whitespace", words=[["a"]]), "without whitespace"),
        (vocabulary("whitespace", words=[""]), "without whitespace: got ''"),
        (vocabulary("whitespace", words=["a b"]), "without whitespace: got 'a b'"),
        (vocabulary("whitespace", words=["a\u2003"]), "without whitespace"),
        (vocabulary("whitespace", words=["a", "b", "a"]), "1 of 3 are repeated"),
        (vocabulary("whitespace", words=["\ud800"]), "lone surrogates"),
    ],
)
def test_json_of_something_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(CllmError, match=said) as caught:
        Tokenizer.from_json(text)
    assert len(str(caught.value)) < 400


@settings(deadline=None)
@given(st.sampled_from(list(TOKENIZERS.values())), st.data())
def test_damaged_json_is_refused_or_still_a_valid_tokenizer(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    text = tokenizer.to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from('"[]{},:0-9a \n\\')) + text[at + 1 :]
    try:
        loaded = Tokenizer.from_json(damaged)
    except CllmError:
        return
    assert loaded.to_json() == Tokenizer.from_json(loaded.to_json()).to_json()
    loaded.decode(loaded.encode("the cat <BOS>"))


def test_only_bpe_brings_in_its_library() -> None:
    program = """
import sys
from cllm.text.tokenizer import train_tokenizer
for kind in ("whitespace", "bytes"):
    tokenizer = train_tokenizer(kind, ["a b"], 300, False)
    tokenizer.from_json(tokenizer.to_json()).encode("a")
assert "tokenizers" not in sys.modules
train_tokenizer("bpe", ["a b"], 300, False)
assert "tokenizers" in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
