"""Checks of the corpus: from files to one stream of token ids.

Files and texts are drawn by the seed; the edges are always among them. Leaves out: the tokenizer
(`cllm.harness.checks.vocabulary`) and the batches (`cllm.harness.checks.batches`).
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.trainer.parts import TrainerParts
from cllm.text.tokenizer import (
    BOS,
    EOS,
    KINDS,
    SPECIALS,
    Tokenizer,
    TokenizerSettings,
    train_tokenizer,
)

BYTES = TokenizerSettings("bytes", 260)

WIDE = 2**16 + 100
"""Words of a vocabulary whose ids need more than sixteen bits."""

ALPHABET = 'abcdeXYZ 0.,\n\t\r"\\éßΣ日😀\u0301\u2003'
"""What texts are drawn from."""


@check_parts("data.files", "load_corpus", held="each file was in the stream once, in a fixed order")
def files(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Every text file is in the stream exactly once and whole, in an order of the paths alone.

    Nested folders, one character, no newline at the end, CRLF, the same content twice, a path
    named twice; empty files, other encodings and binaries add nothing and do no harm.
    """
    generator = np.random.default_rng([seed, 1])
    contents = _contents(generator)
    one, other = folder / "one", folder / "other"
    _write(one, contents)
    _write(other, dict(reversed(contents.items())))
    texts = {name: content for name, content in contents.items() if _is_text(content)}
    streams = [
        _load(candidate, folder / f".cache{i}", *paths)
        for i, paths in enumerate(([one], [other], [one, one / "a.txt", one]))
    ]
    for stream, how in zip(streams, ("", ", made in another order", ", named twice"), strict=True):
        found = Counter(_between(stream))
        for name, content in texts.items():
            wanted = sum(content == text for text in texts.values())
            if (times := found[content]) != wanted:
                yield (
                    f"{name} ({len(content)} bytes) is in the stream {times} times instead of "
                    f"{wanted}{how}"
                )
        if unknown := found.keys() - texts.values():
            yield f"the stream has {min(unknown)!r:.60} of no file{how}"
    for stream, how in ((streams[1], "files made in another order"), (streams[2], "paths twice")):
        if not np.array_equal(stream, streams[0]):
            i = first_difference(stream, streams[0])
            yield f"with {how}, token [{i}] of the stream is another"


@check_parts(
    "data.tokens", "load_corpus", held="the stream has the ids of the tokenizer, each kind"
)
def tokens(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """The stream is BOS, the ids of each file's text, EOS; ids beyond sixteen bits too.

    For a tokenizer that is given and one that is trained, made anew and from the cache.
    """
    generator = np.random.default_rng([seed, 2])
    text = " ".join(draw_texts(generator, 5))
    (folder / "text").write_text(text, encoding="utf-8", newline="")
    words = [f"w{i}" for i in range(WIDE)]
    wide = Tokenizer.from_json(f'{{"kind":"whitespace","lowercase":false,"words":{_json(words)}}}')
    (folder / "wide").write_text(" ".join([words[0], *words[-3:], words[0]]))
    given: list[tuple[str, Tokenizer | TokenizerSettings]] = [("wide", wide)]
    given += [("text", TokenizerSettings(kind, 280)) for kind in KINDS]
    given += [("text", train_tokenizer(kind, [text], 270, True)) for kind in KINDS]
    assert candidate.load_corpus
    for name, tokenizer in given:
        for made in ("new", "from the cache"):
            loaded = candidate.load_corpus(
                [folder / name], tokenizer=tokenizer, cache=folder / ".cache"
            )
            content = (folder / name).read_bytes().decode()
            wanted = np.array([BOS, *loaded.tokenizer.encode(content), EOS])
            where = f"{loaded.tokenizer.kind}, V {loaded.tokenizer.vocab_size}, {made}"
            if (
                isinstance(tokenizer, Tokenizer)
                and loaded.tokenizer.to_json() != tokenizer.to_json()
            ):
                yield f"the tokenizer is not the one that was given ({where})"
            if loaded.tokens.shape != wanted.shape:
                got = loaded.tokens.shape
                yield f"the stream has {got} ids instead of {wanted.shape} ({where})"
            elif not np.array_equal(loaded.tokens, wanted):
                i = first_difference(loaded.tokens, wanted)
                yield f"id [{i}] is {loaded.tokens[i]} instead of {wanted[i]} ({where})"


@check_parts(
    "data.released", "load_corpus", held="corpora were dropped in many orders, no harm done"
)
def released(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Corpora, their streams and parts of these are dropped in any order; what is kept stays.

    One entry of the cache is loaded several times, and the cache deleted meanwhile.
    """
    generator = np.random.default_rng([seed, 3])
    (folder / "text").write_text("the cat sat on the mat\n" * 40)
    assert candidate.load_corpus
    for _ in range(8):
        kept: list[object] = []
        whole: list[NDArray[np.int64]] = []
        parts: list[NDArray[np.int64]] = []
        for _ in range(3):
            corpus = candidate.load_corpus(
                [folder / "text"], tokenizer=BYTES, cache=folder / ".cache"
            )
            part, _ = corpus.split(0.25)
            whole.append(np.array(corpus.tokens, np.int64))
            parts.append(np.array(part, np.int64))
            kept += [corpus, corpus.tokens, part]
        del corpus, part
        for path in (folder / ".cache").iterdir() if generator.random() < 0.5 else ():
            path.unlink()
        for left in generator.permutation(9):
            kept[left] = None
            gc.collect(0)
            for i, still in enumerate(kept):
                if isinstance(still, np.ndarray):
                    wanted = whole[i // 3] if i % 3 == 1 else parts[i // 3]
                    if not np.array_equal(still, wanted):
                        at = first_difference(still, wanted)
                        yield f"token [{at}] of a stream has changed when another was dropped"


@check_parts(
    "data.short", "load_corpus", "batches", held="short texts are taken, or refused clearly"
)
def short(candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path) -> Problems:
    """Texts of 0, 1 and 2 characters or tokens are handled, or refused by an error of one line."""
    assert candidate.load_corpus
    assert candidate.batches
    for i, text in enumerate(("", "a", "\n", " ", "é", "ab", "a\n", "\r\n", "a b")):
        path = folder / f"{i}.txt"
        path.write_text(text, encoding="utf-8", newline="")
        for kind in KINDS:
            where = f"a file {text!r}, {kind}"
            try:
                loaded = candidate.load_corpus(
                    [path], tokenizer=TokenizerSettings(kind, 300), cache=folder / ".cache"
                )
            except ValueError as error:
                yield from _unclear(error, where)
                continue
            wanted = [BOS, *loaded.tokenizer.encode(text), EOS]
            if loaded.tokens.tolist() != wanted:
                yield f"the stream is {loaded.tokens.tolist()} instead of {wanted} ({where})"
            yield from _all_batches(candidate, loaded.tokens, where)
    for n in range(4):
        for seq_len in range(1, 4):
            where = f"{n} tokens, T {seq_len}"
            yield from _all_batches(candidate, np.arange(n), where, seq_len)


def _all_batches(
    candidate: TrainerParts, tokens: NDArray[np.int64], where: str, seq_len: int = 1
) -> Problems:
    """One target for each token but the first, or a refusal."""
    assert candidate.batches
    try:
        batches = candidate.batches(tokens, 1, seq_len)
    except ValueError as error:
        if len(tokens) >= max(2, seq_len):
            yield f"refused without need: {error} ({where})"
        yield from _unclear(error, where)
        return
    order = batches.order()
    counted = sum(int((batches.batch(order, i)[1] >= 0).sum()) for i in range(len(batches)))
    if counted != len(tokens) - 1 or not counted:
        yield f"{len(tokens)} tokens gave {counted} targets ({where})"


def _unclear(error: ValueError, where: str) -> Problems:
    """What is wrong with a refusal."""
    message = str(error)
    if not message.strip() or "\n" in message:
        yield f"{type(error).__name__} says {message!r:.60}: not one clear line ({where})"


def _load(candidate: TrainerParts, cache: Path, *paths: Path) -> NDArray[np.int64]:
    assert candidate.load_corpus
    return np.array(
        candidate.load_corpus(list(paths), tokenizer=BYTES, cache=cache).tokens, np.int64
    )


def _between(stream: NDArray[np.int64]) -> Iterator[bytes]:
    """The bytes of each file in a stream of bytes."""
    starts, stops = np.flatnonzero(stream == BOS), np.flatnonzero(stream == EOS)
    if len(starts) != len(stops):
        raise CllmError(f"a stream with {len(starts)} BOS and {len(stops)} EOS")
    for start, stop in zip(starts, stops, strict=True):
        yield bytes((stream[start + 1 : stop] - len(SPECIALS)).astype(np.uint8))


def _contents(generator: np.random.Generator) -> dict[str, bytes]:
    """Files by their paths: all edges, and some drawn."""
    contents = {
        "a.txt": b"a",
        "b.txt": b"no newline",
        "c/crlf.txt": b"one\r\ntwo\r\n",
        "c/d/e/deep.md": "naïve 日本 😀\n".encode(),
        "c/same": b"twice the same\n",
        "d/same": b"twice the same\n",
        "empty": b"",
        "z/empty.txt": b"",
        "latin1.txt": "déjà vu".encode("latin-1"),
        "binary": b"a\0b",
        "newline": b"\n",
    }
    for i, text in enumerate(draw_texts(generator, 6)):
        contents[f"{'xyz'[i % 3]}/{generator.integers(1000)}-{i}.txt"] = text.encode()
    return contents


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return bool(content) and b"\0" not in content


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def draw_texts(generator: np.random.Generator, count: int) -> list[str]:
    """Texts of letters, marks and whitespace of every kind."""
    lengths = generator.integers(2, 80, count)
    return ["".join(generator.choice([*ALPHABET], length)) for length in lengths]


def first_difference(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Where two streams differ first."""
    length = min(len(one), len(other))
    different = np.asarray(one[:length]) != np.asarray(other[:length])
    return int(different.argmax()) if different.any() else length


def _json(words: list[str]) -> str:
    return "[" + ",".join(f'"{word}"' for word in words) + "]"
