"""`cllm lattice show`: what is drawn, what is counted, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert
from click.testing import CliRunner, Result

from cllm import CllmError, Config
from cllm.harness.lattice import neighbours, page, picture, spiral, weights
from cllm.harness.lattice.command import lattice
from cllm.harness.lattice.drawing import Drawing, drawing_of
from cllm.harness.lattice.tokens import find_token, frequent_words, names_of
from cllm.harness.lattice.vocabulary import vocabulary_of
from cllm.lattice.parts import Lattice
from cllm.lattice.spiral import spiral as places_of
from cllm.layout import initialize, tensor_views
from cllm.text.batches import epoch_generator
from cllm.text.bpe import BpeTokenizer
from cllm.text.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from cllm.text.whitespace import WhitespaceTokenizer
from cllm.training.checkpoint import Checkpoint, Position
from cllm.training.settings import RunSettings, Settings

EVIL = "</script><img/src=x/onerror=alert(1)>"
WORDS = ["the", "of", "and", "a", "var(--ink)", EVIL, 'a"b,c', "two\x00"]
WORDS += [f"word{i}" for i in range(100 - 4 - len(WORDS))]


def made(
    tokenizer: Tokenizer, parts: Lattice | None = None, layers: int = 2, heads: int = 2
) -> Checkpoint:
    """A checkpoint of a model that was never trained."""
    parts = Lattice(attention=True) if parts is None else parts
    config = Config(tokenizer.vocab_size, 4 * heads, layers, heads, 4, lattice=parts)
    parameters = initialize(config, np.random.default_rng(0)).astype(np.float32)
    for name, tensor in tensor_views(config, parameters).items():
        if name.endswith("lattice_weight"):
            tensor += np.random.default_rng(1).normal(size=tensor.shape)
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tokenizer_settings=TokenizerSettings(tokenizer.kind, tokenizer.vocab_size),
        settings=Settings(),
        run_settings=RunSettings(),
        corpus_key="",
        position=Position(7, 0, 0, dict(epoch_generator(0, 0).bit_generator.state)),
        parameters=parameters,
        moments=(0 * parameters, 0 * parameters),
        validation_loss=None,
        best_validation_loss=None,
        isa="numpy",
    )


def drawing(checkpoint: Checkpoint, *texts: str) -> Drawing:
    return drawing_of(Path("a.cllm"), checkpoint, texts, lambda task, done, total: None)


@pytest.fixture(scope="module")
def words() -> Checkpoint:
    return made(WhitespaceTokenizer(WORDS, lowercase=False))


@pytest.fixture(scope="module")
def plain() -> Checkpoint:
    return made(WhitespaceTokenizer(WORDS, lowercase=False), Lattice())


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    found = train_tokenizer("bpe", ["the cat and the dog and the hat " * 50], 290, False)
    assert isinstance(found, BpeTokenizer)
    return found


def rows(spec: dict[str, Any]) -> list[dict[str, str]]:
    """The tokens behind the spiral."""
    text = spec["datasets"][spec["layer"][0]["data"]["name"]]
    return list(csv.DictReader(io.StringIO(text)))


def seen(checkpoint: Checkpoint, *texts: str) -> str:
    """The words of the page, without scripts."""
    html = page.render(drawing(checkpoint, *texts))
    body = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def show(*arguments: object) -> Result:
    return CliRunner().invoke(
        lattice, ["show", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )


def test_a_folder_of_a_run_gives_a_page_and_a_picture(words: Checkpoint, tmp_path: Path) -> None:
    words.save(tmp_path / "step-00000007.cllm")
    output = tmp_path / "new" / "folder"
    result = show(tmp_path, "--output", output, "--token", "the")
    assert {path.name for path in output.iterdir()} == {"index.html", "lattice.png"}
    assert (output / "lattice.png").read_bytes().startswith(b"\x89PNG")
    assert result.stdout.startswith("Of the 8 nearest tokens on the lattice ")
    assert str(output / "index.html") in result.stderr
    first = (output / "index.html").read_bytes()
    show(tmp_path, "--output", output, "--token", "the")
    assert (output / "index.html").read_bytes() == first


def test_a_text_that_is_no_token_is_refused_before_anything_is_written(
    words: Checkpoint, tmp_path: Path
) -> None:
    words.save(tmp_path / "a.cllm")
    for text in ("unheard-of", "the of", ""):
        with pytest.raises(CllmError, match="is not a single token") as caught:
            show(tmp_path / "a.cllm", "--output", tmp_path / "out", "--token", text)
        assert repr(text) in str(caught.value)
    (tmp_path / "b.cllm").write_bytes(b"no checkpoint")
    with pytest.raises(CllmError, match=r"b\.cllm: "):
        show(tmp_path / "b.cllm", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokens_are_found_by_their_text_and_by_their_name(bpe: BpeTokenizer) -> None:
    names = names_of(bpe)
    the = names.index("␣the")
    assert find_token(bpe, names, " the") == find_token(bpe, names, "␣the") == the
    assert find_token(bpe, names, "<EOS>") == 3
    assert find_token(bpe, names, "\\xff") == 4 + 255
    assert find_token(bpe, names, "\n") == find_token(bpe, names, "\\n") == 4 + 10
    with pytest.raises(CllmError, match=r"--token 'and' is .*; ' and', with a space before it, is"):
        find_token(bpe, names, "and")


def test_the_default_tokens_are_frequent_words(bpe: BpeTokenizer) -> None:
    names = names_of(bpe)
    assert {names[token] for token in frequent_words(names)[:2]} == {"␣the", "␣and"}
    words = names_of(WhitespaceTokenizer(WORDS, lowercase=False))
    assert [words[token] for token in frequent_words(words)[:2]] == ["the", "and"]
    few = names_of(WhitespaceTokenizer(["?"], lowercase=False))
    assert frequent_words(few) == [4, 0, 1, 2, 3]
    assert len(frequent_words(names_of(train_tokenizer("bytes", [], 260, False)))) == 6


def test_numbers_of_tokens() -> None:
    found = vocabulary_of([str(i) for i in range(400)])
    of = found.factorizations
    assert [of[n - 1] for n in (1, 2, 12, 97, 128, 360)] == [
        "1", "2", "2²·3", "97", "2⁷", "2³·3²·5",
    ]  # fmt: skip
    assert [found.factors[n - 1] for n in (1, 2, 12, 97, 128, 360)] == [0, 1, 3, 1, 7, 6]
    assert found.classes[35] == 11
    assert found.primes[:4].tolist() == [2, 3, 5, 7]


def test_every_token_lies_in_its_place(words: Checkpoint) -> None:
    found = rows(page.specifications(drawing(words))["chart-spiral"])
    assert [row["token"] for row in found[:6]] == ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "the", "of"]
    assert found[10]["token"] == 'a"b,c'
    assert found[11]["token"] == "two\\x00"
    places = np.array([(float(row["x"]), float(row["y"])) for row in found])
    assert np.abs(places - places_of(len(found))[:, :2]).max() <= 0.00501
    assert found[71]["n"] == "2³·3²"
    assert (found[71]["p"], found[71]["factors"]) == ("359", "5")
    assert found[96]["n"] == ""
    assert found[96]["factors"] == "1"


@pytest.mark.parametrize("size", [2, 5, 9, 10, 60, 3000])
def test_neighbours_are_those_of_the_whole_matrix(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BAND", 7 * size)  # bands that do not divide the rows
    embedding = np.random.default_rng(size).normal(size=(size, 5)).astype(np.float32)
    done = []
    found = neighbours.neighbours_of(embedding, lambda task, now, total: done.append(now))
    assert done[-1] == size
    rows = neighbours.unit(embedding).astype(np.float64)
    cosines = rows @ rows.T
    apart = np.square(places_of(size)[:, None] - places_of(size)).sum(-1)
    np.fill_diagonal(cosines, -np.inf)
    np.fill_diagonal(apart, np.inf)
    count = min(8, size - 1)
    wanted = np.argsort(-cosines, 1)[:, :count]
    near = np.argsort(apart, 1)[:, :count]
    assert (found.embedding == wanted).mean() > 0.999  # but for cosines equal in float32
    overlap = np.mean(
        [len({*a} & {*b}) for a, b in zip(near.tolist(), wanted.tolist(), strict=True)]
    )
    assert found.overlap == pytest.approx(overlap, abs=0.002)
    assert found.chance == pytest.approx(count * count / (size - 1))


def test_equal_cosines_come_by_their_ids() -> None:
    found = neighbours.nearest(np.ones((2000, 3), np.float32), 8, lambda *_: None)
    assert found[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[3].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert neighbours.nearest(np.zeros((4, 2), np.float32), 3, lambda *_: None)[3].tolist() == [
        0, 1, 2,
    ]  # fmt: skip


def test_the_overlap_of_an_embedding_that_lies_as_the_lattice_does_is_large() -> None:
    places = places_of(500)
    # On a small cap of a sphere, angles are distances.
    cap = np.concatenate([places - places.mean(0), np.full((500, 1), 3000.0)], 1)
    found = neighbours.neighbours_of(cap.astype(np.float32), lambda *_: None)
    assert found.overlap > 5 > 10 * found.chance


def test_weights_are_softplus_of_the_tensors(words: Checkpoint) -> None:
    tensors = tensor_views(words.config, words.parameters)
    found = weights.weight_rows(drawing(words).weights)  # type: ignore[arg-type]
    assert len(found) == 2 * 2 * 3
    for row in found:
        place = ("geometric", "prime", "symmetry").index(row["distance"])
        w = float(tensors[f"layer{row['layer']}.lattice_weight"][row["head"], place])
        assert row["weight"] == pytest.approx(np.log(1 + np.exp(w)))
    assert round(weights.START, 5) == 0.01815


def test_many_layers_are_thinned_and_that_is_said() -> None:
    many = made(WhitespaceTokenizer(WORDS, lowercase=False), layers=100)
    found = weights.weight_rows(drawing(many).weights)  # type: ignore[arg-type]
    layers = sorted({row["layer"] for row in found})
    assert (len(layers), layers[0], layers[-1]) == (64, 0, 99)
    assert "Of 100 layers and 2 heads at most 64 each are drawn" in seen(many)


def test_page_says_what_was_found(words: Checkpoint) -> None:
    text = seen(words, "the", "word7", "the")
    found = drawing(words, "the")
    for said in (
        "100 tokens on the lattice",
        "a.cllm after 7 steps: L 2, H 2, D 8, tokenizer whitespace",
        "parts of the lattice: attention.",
        f"{found.neighbours.overlap:.2f} of 8",
        "chance would give 0.65",
        "Primes 25 of the 100 numbers",
        "All started at 0.018.",
        "the id 4, n = 5, a prime, class 4",
        "word7 id 19, n = 20 = 2²·5, class 7",
        "cllm lattice show a.cllm --token the --token word7 --token the",
    ):
        assert said in text, said
    assert text.count("id 4, n = 5") == 1
    assert "no lattice attention" not in text


def test_page_of_a_model_without_lattice_attention_says_so(plain: Checkpoint) -> None:
    found = drawing(plain)
    assert found.weights is None
    assert "This model has no lattice attention" in seen(plain)
    assert set(page.specifications(found)) == {"chart-spiral"}
    assert picture.png(found).startswith(b"\x89PNG")


def test_what_is_in_both_is_marked(words: Checkpoint) -> None:
    found = drawing(words, *WORDS[:4])
    shared = sum(int(found.neighbours.shared[token].sum()) for token in found.shown)
    html = page.render(found)
    assert html.count('<li class="both"') == 2 * shared
    for token in found.shown:
        beside = found.beside(token)
        both = [{o["id"] for o in beside[kind] if o["both"]} for kind in ("lattice", "embedding")]
        assert both[0] == both[1]
        assert [o["figure"] for o in beside["lattice"]] == sorted(
            o["figure"] for o in beside["lattice"]
        )


def test_page_needs_no_network_and_hostile_tokens_are_text(words: Checkpoint) -> None:
    html = page.render(drawing(words, EVIL, "var(--ink)"))
    assert html.count("<script") == 3
    assert "<img" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["'](?!data:|lattice\.png)""", html.split("<script")[0])
    (specs,) = re.findall(r'type="application/json">(.*?)</script>', html, re.DOTALL)
    assert EVIL in [row["token"] for row in rows(json.loads(specs)["chart-spiral"])]


def test_every_chart_has_a_place_and_words_and_can_be_drawn(words: Checkpoint) -> None:
    """By the same Vega-Lite as the page's."""
    html = page.render(drawing(words))
    specs = page.specifications(drawing(words))
    assert set(specs) == {"chart-spiral", "chart-geometric", "chart-prime", "chart-symmetry"}
    for name, spec in specs.items():
        assert f'id="{name}" role="img" aria-label="{spec["description"]}"' in html
        assert len(spec["description"]) > 40
        svg = vl_convert.vegalite_to_svg({**spec, "width": 500, "height": 500})
        assert "NaN" not in svg
        assert "Infinity" not in svg
        assert svg.count("<path") >= (100 if name == "chart-spiral" else 4)


def test_a_large_vocabulary_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spiral, "MOST_TOKENS", 5000)
    size = 12_000
    tokenizer = WhitespaceTokenizer([f"word{i}" for i in range(size - 4)], False)
    found = drawing(made(tokenizer, layers=1))
    html = page.render(found)
    share = len(json.dumps(page.specifications(found))) / 5000
    assert share < 80  # bytes a token
    assert len(html) < 1_500_000
    assert "Drawn are the first 5,000 of 12,000 tokens." in " ".join(html.split())
    assert len(rows(page.specifications(found)["chart-spiral"])) == 5000


def test_the_smallest_vocabulary_is_drawn() -> None:
    found = drawing(made(WhitespaceTokenizer(["one"], lowercase=False)))
    assert found.neighbours.overlap == found.neighbours.chance == 4
    assert picture.png(found).startswith(b"\x89PNG")
    assert "4.00 of 4" in page.render(found)


def test_weights_that_never_moved_are_drawn(words: Checkpoint) -> None:
    parameters = words.parameters.copy()
    for name, tensor in tensor_views(words.config, parameters).items():
        if name.endswith("lattice_weight"):
            tensor[...] = -4.0
    found = drawing(replace(words, parameters=parameters))
    assert found.weights is not None
    low, high = weights.ends(found.weights)
    assert low < weights.START < high
    assert picture.png(found).startswith(b"\x89PNG")
