"""A corpus: one stream of all files, made once, in bounded memory."""

import os
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text import corpus, text_files
from cllm.text.corpus import default_cache, load_corpus
from cllm.text.tokenizer import BOS, EOS, KINDS, Tokenizer, TokenizerSettings, train_tokenizer

WORDS = TokenizerSettings("whitespace", 1000)
BYTES = TokenizerSettings("bytes", 260)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the cache of whoever runs it, nor that of another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("the cat sat")
    (tmp_path / "b" / "c.txt").write_text("the end\n")
    (tmp_path / "d.png").write_bytes(b"\x89PNG")
    (tmp_path / "e").write_bytes(b"")
    return tmp_path


def test_the_stream_is_file_by_file_between_bos_and_eos(folder: Path) -> None:
    loaded = load_corpus([folder], tokenizer=WORDS)
    the, cat, end, sat = 4, 5, 6, 7
    assert [loaded.tokenizer.token(i) for i in range(4, 8)] == ["the", "cat", "end", "sat"]
    assert loaded.tokens.tolist() == [BOS, the, cat, sat, EOS, BOS, the, end, EOS]
    assert loaded.tokens.dtype == np.uint8
    assert loaded.distinct == 6
    assert loaded.files == 2
    assert loaded.skipped == {"image": 1, "empty": 1}
    assert loaded.text_bytes == 11 + 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_comes_back_from_the_stream(folder: Path, kind: str) -> None:
    loaded = load_corpus([folder], tokenizer=TokenizerSettings(kind, 270, lowercase=True))
    wanted = "the cat sat the end" if kind == "whitespace" else "the cat satthe end\n"
    assert loaded.tokenizer.decode(loaded.tokens) == wanted
    assert loaded.tokenizer.lowercase


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 7])
def test_the_size_of_a_block_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    text = Path(corpus.__file__).read_text(encoding="utf-8") + "ΣΑΣ  naïve\u2003 \r\n\n😀"
    (tmp_path / "text").write_text(text, encoding="utf-8", newline="")
    wanted = TokenizerSettings(kind, 400, lowercase=True)
    whole = load_corpus([tmp_path], tokenizer=wanted, cache=tmp_path / ".whole")
    monkeypatch.setattr(text_files, "BLOCK", block)
    pieces = load_corpus([tmp_path], tokenizer=wanted, cache=tmp_path / ".pieces")
    assert whole.tokenizer.to_json() == pieces.tokenizer.to_json()
    np.testing.assert_array_equal(whole.tokens, pieces.tokens)
    np.testing.assert_array_equal(whole.tokens[1:-1], whole.tokenizer.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_time_nothing_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wanted = TokenizerSettings(kind, 300)
    first = load_corpus([folder], tokenizer=wanted)
    monkeypatch.setattr(corpus, "read_pieces", None)
    monkeypatch.setattr(corpus, "train_tokenizer", None)
    second = load_corpus([folder], tokenizer=wanted)
    assert isinstance(second.tokens, np.memmap)
    assert second.tokens.tolist() == first.tokens.tolist()
    assert second.tokenizer.to_json() == first.tokenizer.to_json()
    for name in ("key", "files", "skipped", "text_bytes", "distinct"):
        assert getattr(second, name) == getattr(first, name)


def test_the_key_depends_on_content_order_and_tokenizer_alone(folder: Path) -> None:
    def key(tokenizer: Tokenizer | TokenizerSettings = WORDS) -> str:
        return load_corpus([folder], tokenizer=tokenizer).key

    first = key()
    os.utime(folder / "a.txt", (0, 0))
    (folder / "a.txt").rename(folder / "0.md")
    assert key() == first
    others = [
        key(TokenizerSettings("whitespace", 999)),
        key(TokenizerSettings("whitespace", 1000, lowercase=True)),
        key(BYTES),
        key(train_tokenizer("whitespace", ["the cat"], 1000, False)),
        key(train_tokenizer("whitespace", ["the dog"], 1000, False)),
    ]
    (folder / "0.md").rename(folder / "z.md")
    others.append(key())
    (folder / "z.md").write_text("the cat saT")
    others.append(key())
    (folder / "b" / "c.txt").write_text("the end\nt")
    (folder / "z.md").write_text("he cat saT")
    others.append(key())
    assert len({first, *others}) == 9


def test_a_cache_among_the_texts_is_no_text(folder: Path) -> None:
    first = load_corpus([folder], tokenizer=WORDS, cache=folder / "cache")
    assert load_corpus([folder], tokenizer=WORDS, cache=folder / "cache").key == first.key


def test_a_given_tokenizer_is_used_as_it_is(folder: Path) -> None:
    tokenizer = train_tokenizer("whitespace", ["end the"], 1000, False)
    loaded = load_corpus([folder], tokenizer=tokenizer)
    assert loaded.tokens.tolist() == [2, 5, 1, 1, 3, 2, 5, 4, 3]
    assert loaded.tokenizer.to_json() == tokenizer.to_json()


def test_training_and_then_using_the_tokenizer_give_the_same_stream(folder: Path) -> None:
    trained = load_corpus([folder], tokenizer=WORDS)
    used = load_corpus([folder], tokenizer=trained.tokenizer)
    np.testing.assert_array_equal(trained.tokens, used.tokens)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_damaged_entry_is_made_again(folder: Path, damage: bytes | None) -> None:
    cache = folder / ".cache"
    first = load_corpus([folder], tokenizer=WORDS, cache=cache)
    wanted = first.tokens.tolist()
    for path in cache.iterdir():
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]) if damage is None else damage)
        again = load_corpus([folder], tokenizer=WORDS, cache=cache)
        assert again.tokens.tolist() == wanted
        assert path.read_bytes() == good


@pytest.mark.parametrize(
    ("tokenizer", "reads"),
    [(WORDS, 2), (TokenizerSettings("bpe", 300), 2), (BYTES, 1), ("given", 1)],
)
def test_progress_grows_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: TokenizerSettings | str, reads: int
) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 10)
    (tmp_path / "a").write_text("some words " * 9)
    (tmp_path / "b").write_text("x")
    seen: list[tuple[int, int]] = []
    load_corpus(
        [tmp_path],
        tokenizer=train_tokenizer("bytes", [], 260, False)
        if isinstance(tokenizer, str)
        else tokenizer,
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [each for each, _ in seen]
    assert {total for _, total in seen} == {reads * 100}
    assert done == sorted(set(done))
    assert len(done) == reads * 11
    assert done[-1] == reads * 100


def test_nothing_to_read_is_refused(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\0")
    (folder / "b" / "c.txt").write_bytes(b"\xff")
    said = rf"no text to read in {folder}; skipped: 1 binary, 1 empty, 1 image, 1 not UTF-8$"
    with pytest.raises(CllmError, match=said):
        load_corpus([folder], tokenizer=WORDS)
    (folder / "void").mkdir()
    with pytest.raises(CllmError, match=r"void; skipped: nothing$"):
        load_corpus([folder / "void"], tokenizer=WORDS)
    with pytest.raises(CllmError, match="no path"):
        load_corpus([], tokenizer=WORDS)


@pytest.mark.parametrize(
    ("text", "tokenizer", "count"),
    [
        ("x", BYTES, 1),
        ("word", WORDS, 1),
        (" \n", WORDS, 0),
        ("x", TokenizerSettings("bpe", 260), 1),
    ],
)
def test_too_short_a_text_is_refused_and_not_cached(
    tmp_path: Path, text: str, tokenizer: TokenizerSettings, count: int
) -> None:
    path, cache = tmp_path / "text", tmp_path / "cache"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(CllmError, match=f"{path} has {count} tokens: at least 2 are needed"):
            load_corpus([path], tokenizer=tokenizer, cache=cache)
    assert list(cache.iterdir()) == []
    path.write_text(text + " more words")
    assert len(load_corpus([path], tokenizer=tokenizer, cache=cache).tokens) >= 4


def test_an_unwritable_cache_is_refused_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "train_tokenizer", None)
    with pytest.raises(CllmError, match=r"a\.txt/cache cannot be written: .* --cache$"):
        load_corpus([folder], tokenizer=WORDS, cache=folder / "a.txt" / "cache")


def test_a_file_that_changes_meanwhile_is_refused_and_nothing_cached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_edit(*args: object) -> Tokenizer:
        (folder / "a.txt").write_text("the cat lay")
        return train_tokenizer("bytes", [], 260, False)

    monkeypatch.setattr(corpus, "train_tokenizer", train_and_edit)
    with pytest.raises(CllmError, match=r"a\.txt: was changed while it was being read"):
        load_corpus([folder], tokenizer=WORDS, cache=folder / ".cache")
    assert list((folder / ".cache").iterdir()) == []


def test_the_default_cache_follows_the_xdg_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "xdg" / "cllm"
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert default_cache() == tmp_path / "home" / ".cache" / "cllm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == tmp_path / "home" / ".cache" / "cllm"


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Words, a line without end, and nothing but spaces: each much larger than what is held."""
    monkeypatch.setattr(text_files, "BLOCK", 2**12)
    monkeypatch.setattr(text_files, "UNCUT", 2**12)
    monkeypatch.setattr(corpus, "BPE_SAMPLE", 2**14)
    wanted, size = TokenizerSettings(kind, 300, lowercase=True), 2**20
    # The first imports what the others need.
    for name, text in {"first": "a", "words": "ab ", "line": "x1y2", "spaces": " "}.items():
        path = tmp_path / name
        path.write_text((text * size)[:size] + " a b")
        tracemalloc.start()
        try:
            load_corpus([path], tokenizer=wanted)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < size / 2 or name == "first", name


def test_bpe_learns_from_a_sample_and_words_from_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watching(kind: str, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Tokenizer:
        seen[:] = texts
        return train_tokenizer(kind, seen, vocab_size, lowercase)

    monkeypatch.setattr(corpus, "train_tokenizer", watching)
    monkeypatch.setattr(corpus, "BPE_SAMPLE", 100)
    for i in range(100):
        (tmp_path / f"{i:02}").write_text(f"text {i:04}\n")
    load_corpus([tmp_path], tokenizer=TokenizerSettings("bpe", 300))
    # Ten bytes each: every tenth of them.
    assert seen == [f"text {i:04}\n" for i in range(0, 100, 10)]
    load_corpus([tmp_path], tokenizer=WORDS)
    assert len(seen) == 100


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=9), min_size=1), st.integers(1, 300))
def test_a_sample_is_even_and_within_its_limit(texts: list[str], limit: int) -> None:
    total = sum(len(text.encode()) for text in texts)
    sample = list(corpus._sample(texts, total, limit))
    taken = sum(len(text.encode()) for text in sample)
    largest = max(len(text.encode()) for text in texts)
    assert min(total, limit - largest) <= taken <= min(total, limit + largest)
    if total <= limit:
        assert sample == texts
