"""Checks of tokenizers: their ids, their texts, and both after reloading."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cllm.harness.checks.data import draw_texts
from cllm.harness.checks.parts import Problems, check_parts
from cllm.harness.trainer.parts import TrainerParts
from cllm.text.tokenizer import KINDS, SPECIALS, Tokenizer

TEXTS = (
    "a",
    "ab",
    " ",
    "\n",
    "a b",
    "a\r\nb\r\n",
    "no newline",
    "<PAD> <UNK> <BOS> <EOS>",
    "Σας ΣΑΣ",
)
"""Texts that are always among them."""


@check_parts("data.vocabulary", "train_tokenizer", "tokenizer_from_json",
             held="reloaded tokenizers gave the same ids and texts, of every kind")  # fmt: skip
def vocabulary(
    candidate: TrainerParts, reference: TrainerParts, seed: int, folder: Path
) -> Problems:
    """A tokenizer comes back from its JSON with the same ids; decoding gives back the text.

    Ids lie in 0..V-1, V is at most what was asked for, and no text makes a special token; words
    are told apart by their whitespace alone.
    """
    generator = np.random.default_rng([seed, 4])
    assert candidate.train_tokenizer
    assert candidate.tokenizer_from_json
    for kind in KINDS:
        for lowercase in (False, True):
            texts = [*TEXTS, *draw_texts(generator, 6)]
            asked = 40 if kind == "whitespace" else 300
            made = candidate.train_tokenizer(kind, texts, asked, lowercase)
            again = candidate.tokenizer_from_json(made.to_json())
            where = f"{kind}, lowercase {lowercase}"
            if made.vocab_size > asked or again.vocab_size != made.vocab_size:
                yield f"V is {made.vocab_size} and {again.vocab_size}; asked: {asked} ({where})"
            for token in range(made.vocab_size):
                if made.decode([token]) != again.decode([token]):
                    was, now = made.token(token), again.token(token)
                    yield f"token {token} is {was!r}, and {now!r} after reloading ({where})"
            for text in [*texts, *draw_texts(generator, 3)]:
                yield from _encoded(made, again, text, where)


def _encoded(made: Tokenizer, again: Tokenizer, text: str, where: str) -> Problems:
    """What is wrong with the ids of a text."""
    ids = made.encode(text).tolist()
    reloaded = again.encode(text).tolist()
    where = f"the text {text!r:.60}, {where}"
    if reloaded != ids:
        yield f"other ids after reloading: {reloaded!r:.60} instead of {ids!r:.60} ({where})"
    if len(ids) and not 0 <= min(ids) <= max(ids) < made.vocab_size:
        yield f"ids in {min(ids)}..{max(ids)}, V is {made.vocab_size} ({where})"
    specials = {*range(len(SPECIALS))} - ({SPECIALS.index("<UNK>")} & {made.kind == "whitespace"})
    if made.kind != "whitespace" and specials & {*ids}:
        yield f"special tokens: {ids!r:.60} ({where})"
    lowered = text.lower() if made.lowercase else text
    wanted = lowered
    if made.kind == "whitespace":
        known = {made.token(i) for i in range(len(SPECIALS), made.vocab_size)}
        wanted = " ".join(word if word in known else "<UNK>" for word in lowered.split())
    for tokenizer, when in ((made, ""), (again, " after reloading")):
        if (found := tokenizer.decode(ids)) != wanted:
            yield f"decoded to {found!r:.60} instead of {wanted!r:.60}{when} ({where})"
