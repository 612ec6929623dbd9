"""Checkpoints: what was saved comes back, and everything else is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cllm import CllmError, Config
from cllm.layout import tensor_views
from cllm.text.batches import epoch_generator
from cllm.text.tokenizer import TokenizerSettings, train_tokenizer
from cllm.training.checkpoint import Checkpoint, Position
from cllm.training.settings import RunSettings, Settings
from cllm.training.tensor_file import load_tensors, save_tensors

on_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    tokenizer = train_tokenizer("whitespace", ['naïve "quoted" \\ 日本 \x00 words'], 20, True)
    config = Config(tokenizer.vocab_size, 4, 2, 2, 3)
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(3, config.num_parameters)).astype(np.float32)
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tokenizer_settings=TokenizerSettings("whitespace", 20, True),
        settings=Settings(epochs=7, learning_rate=0.1),
        run_settings=RunSettings(keep=9),
        corpus_key="the key",
        position=Position(41, 5, 3, dict(epoch_generator(0, 5).bit_generator.state)),
        parameters=vectors[0],
        moments=(vectors[1], vectors[2]),
        validation_loss=2.5,
        best_validation_loss=2.25,
        isa="numpy",
        version="0.0.7",
    )


@pytest.fixture(scope="module")
def content(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "a.cllm"
    checkpoint.save(path)
    return path.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(CllmError) as caught:
        Checkpoint.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


Texts = dict[str, str]
Tensors = dict[str, Any]


def forge(content: bytes, path: Path, change: Callable[[Texts, Tensors], object]) -> None:
    """The file with its texts and tensors changed, and a digest that fits."""
    path.write_bytes(content)
    texts, tensors = load_tensors(path)
    change(texts, tensors)
    save_tensors(path, texts, tensors)


def forge_header(content: bytes, path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The file with the header of the container changed."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


# -- what comes back ---------------------------------------------------------------------------


def test_everything_comes_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    checkpoint.save(path)
    loaded = Checkpoint.load(path)
    for name in checkpoint.__dataclass_fields__:
        saved, found = getattr(checkpoint, name), getattr(loaded, name)
        if name in ("parameters", "moments"):
            np.testing.assert_array_equal(found, saved)
        elif name == "tokenizer":
            assert found.to_json() == saved.to_json()
        else:
            assert found == saved, name
    loaded.save(tmp_path / "b.cllm")
    assert (tmp_path / "b.cllm").read_bytes() == path.read_bytes()


def test_losses_may_be_missing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    replace(checkpoint, validation_loss=None, best_validation_loss=None).save(path)
    loaded = Checkpoint.load(path)
    assert (loaded.validation_loss, loaded.best_validation_loss) == (None, None)


def test_the_safetensors_library_opens_it(checkpoint: Checkpoint, content: bytes) -> None:
    tensors = safetensors.numpy.load(content)
    vectors = (checkpoint.parameters, *checkpoint.moments)
    for prefix, vector in zip(("", "first_moment.", "second_moment."), vectors, strict=True):
        for name, tensor in tensor_views(checkpoint.config, vector).items():
            np.testing.assert_array_equal(tensors.pop(prefix + name), tensor)
    assert not tensors


def test_the_safetensors_library_gives_the_metadata(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    checkpoint.save(path)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    texts = json.loads(metadata["cllm"])
    assert json.loads(texts["config"]) == checkpoint.config.to_dict()
    position = json.loads(texts["position"])
    assert position["generator_state"] == checkpoint.position.generator_state
    assert texts["tokenizer"] == checkpoint.tokenizer.to_json()


def test_the_generator_goes_on_from_its_state() -> None:
    generator = epoch_generator(3, 1)
    position = Position(0, 0, 0, dict(generator.bit_generator.state))
    np.testing.assert_array_equal(position.generator().random(5), generator.random(5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("vector", ["parameters", "first_moment", "second_moment"])
def test_a_number_that_is_not_finite_is_never_written(
    checkpoint: Checkpoint, content: bytes, tmp_path: Path, vector: str, value: float
) -> None:
    path = tmp_path / "a.cllm"
    path.write_bytes(content)
    vectors = [checkpoint.parameters.copy(), *(moment.copy() for moment in checkpoint.moments)]
    at = ("parameters", "first_moment", "second_moment").index(vector)
    tensor_views(checkpoint.config, vectors[at])["layer1.ln2_gain"][1] = value
    name = "layer1.ln2_gain" if vector == "parameters" else f"{vector}.layer1.ln2_gain"
    with pytest.raises(FloatingPointError, match=f"^{name} is not finite"):
        replace(checkpoint, parameters=vectors[0], moments=(vectors[1], vectors[2])).save(path)
    assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]


# -- damage ------------------------------------------------------------------------------------


@on_files
@given(data=st.data(), in_header=st.booleans())
def test_any_flipped_bit_is_noticed(
    content: bytes, tmp_path: Path, data: st.DataObject, in_header: bool
) -> None:
    size = 8 + int.from_bytes(content[:8], "little") if in_header else len(content)
    at, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7))
    path = tmp_path / "a.cllm"
    path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
    refusal(path)


def test_every_flipped_bit_of_the_header_is_noticed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    for at in range(8 + int.from_bytes(content[:8], "little")):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        refusal(path)


@on_files
@given(data=st.data())
def test_any_other_length_is_noticed(content: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.cllm"
    cut = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:cut])
    assert "truncated, damaged" in refusal(path)
    path.write_bytes(content + data.draw(st.binary(min_size=1, max_size=9)))
    assert "truncated, damaged" in refusal(path)


@on_files
@given(st.binary(max_size=200))
def test_any_other_file_is_refused(tmp_path: Path, other: bytes) -> None:
    path = tmp_path / "a.cllm"
    path.write_bytes(other)
    refusal(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.cllm")
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.cllm")
    assert "not a regular file" in refusal(tmp_path / "pipe.cllm")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    safetensors.numpy.save_file({"embedding": np.ones((5, 4), np.float32)}, path)
    assert refusal(path) == "not a checkpoint of CLLM"
    safetensors.numpy.save_file(
        {"embedding": np.ones((5, 4), np.float32)}, path, {"digest": "0" * 64}
    )
    refusal(path)


# -- hostile files, whose digest fits ----------------------------------------------------------


def test_forging_alone_changes_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.cllm"
    forge(content, path, lambda texts, tensors: None)
    assert path.read_bytes() == content
    forge_header(content, path, lambda header: None)
    assert path.read_bytes() == content


@pytest.mark.parametrize("size", [0, 7, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_an_impossible_size(content: bytes, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.cllm"
    path.write_bytes(size.to_bytes(8, "little") + content[8:])
    assert "truncated, damaged" in refusal(path)


def text(name: str, value: Any) -> Callable[[Texts, Tensors], object]:
    return lambda texts, tensors: texts.__setitem__(name, value)


def tensor(name: str, value: Any) -> Callable[[Texts, Tensors], object]:
    return lambda texts, tensors: tensors.__setitem__(name, np.array(value))


def sizes(**changed: int) -> Callable[[Texts, Tensors], object]:
    return lambda texts, tensors: texts.__setitem__(
        "config", json.dumps(json.loads(texts["config"]) | changed)
    )


def entry(name: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda header: header.__setitem__(name, header[name] | values)


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "offsets overlap": entry("embedding", data_offsets=[0, 0]),
    "offsets out of range": entry("embedding", data_offsets=[2**62, 2**63]),
    "offsets of a wrong type": entry("embedding", data_offsets="0"),
    "other dtype": entry("layer0.ln1_gain", dtype="I32"),
    "wider dtype": entry("layer0.ln1_gain", dtype="F64"),
    "absurd shape": entry("layer0.ln1_gain", shape=[2**31 - 1]),
    "shape beyond 64 bits": entry("embedding", shape=[10**4000, 4]),
    "negative shape": entry("embedding", shape=[-9, -4]),
    "true as a shape": entry("embedding", shape=[True, 4]),
    "no shape": entry("embedding", shape=None),
    "no tensor": lambda header: header.__setitem__("embedding", [7]),
    "hole": lambda header: header.pop("layer0.ln1_gain"),
    "extra tensor": lambda header: header.__setitem__("extra", {"dtype": "F32", "shape": [1]}),
    "deep header": lambda header: header.__setitem__("x", json.loads("[" * 900 + "]" * 900)),
    "no metadata": lambda header: header.pop("__metadata__"),
    "empty metadata": lambda header: header.__setitem__("__metadata__", {}),
    "other metadata": lambda header: header["__metadata__"].__setitem__("more", "text"),
    "metadata that is a number": lambda header: header["__metadata__"].__setitem__("cllm", 7),
    "metadata that is no JSON": lambda header: header["__metadata__"].__setitem__("cllm", "{"),
    "metadata that is a list": lambda header: header["__metadata__"].__setitem__("cllm", "[]"),
    "no texts": lambda header: header["__metadata__"].__setitem__("cllm", '{"digest":7}'),
    "no digest": lambda header: header["__metadata__"].__setitem__("cllm", "{}"),
    "deep metadata": lambda header: header["__metadata__"].__setitem__("cllm", DEEP),
    "the same in other words": lambda header: header["__metadata__"].__setitem__(
        "cllm", header["__metadata__"]["cllm"] + " "
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_refused(content: bytes, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.cllm"
    forge_header(content, path, HEADERS[name])
    refusal(path)


DEEP = "[" * 100_000 + "]" * 100_000

HOSTILE: dict[str, tuple[Callable[[Texts, Tensors], object], str]] = {
    "no LayerNorm": (lambda _, tensors: tensors.pop("layer0.ln1_gain"), "tensors do not fit"),
    "extra tensor": (tensor("extra", np.ones(1, "f4")), "tensors do not fit"),
    "another tensor": (
        lambda _, tensors: tensors.__setitem__("gain", tensors.pop("layer0.ln1_gain")),
        "tensor layer0.ln1_gain (4,) expected: got no such tensor",
    ),
    "another shape": (
        tensor("layer0.ln1_gain", np.ones((1, 4), "f4")),
        "tensor layer0.ln1_gain (4,) expected: got (1, 4)",
    ),
    "another dtype": (tensor("embedding", np.ones((9, 4))), "'embedding' must be F32: got F64"),
    "more layers": (sizes(num_layers=3), "tensors do not fit"),
    "absurd layers": (sizes(num_layers=2**31 - 1), "num_layers must be an integer"),
    "absurd width": (sizes(embed_dim=2**31 - 1, num_heads=1), "can be indexed"),
    "other width": (sizes(ff_dim=5), "tensor layer0.ff_in_weight (4, 5) expected"),
    "indivisible heads": (sizes(num_heads=3), "embed_dim must be divisible by num_heads"),
    "a size that is a float": (sizes(ff_dim=3.0), "ff_dim must be an integer"),  # type: ignore[arg-type]
    "metadata that is no text": (text("isa", 7), "must be texts by name"),
    "unknown metadata": (text("color", "blue"), "unknown metadata ['color']"),
    "later format": (text("format", "2"), "format '2'"),
    "damaged metadata": (text("settings", "{"), "settings is damaged"),
    "metadata of a wrong type": (text("settings", "[]"), "settings must be a dict: got []"),
    "deep metadata": (text("settings", DEEP), "nested too deeply"),
    "deep position": (text("position", '{"a":' * 900 + "1" + "}" * 900), "position must have"),
    "missing metadata": (lambda texts, _: texts.pop("isa"), "metadata lacks isa"),
    "NaN": (text("validation_loss", "NaN"), "validation_loss must be a number of at least 0"),
    "negative loss": (text("best_validation_loss", "-1.0"), "best_validation_loss must be"),
    "foreign tokenizer": (text("tokenizer", "{}"), "not a tokenizer"),
    "other vocabulary": (
        text("tokenizer", '{"kind":"whitespace","lowercase":false,"words":["a"]}'),
        "its tokenizer has 5 tokens",
    ),
    "generator of another kind": (
        text("position", '{"step":1,"epoch":0,"batch":1,"generator_state":{}}'),
        "the generator's state is none of PCG64's",
    ),
    "negative step": (
        text("position", '{"step":-1,"epoch":0,"batch":1,"generator_state":{}}'),
        "step must be an integer",
    ),
    "a setting out of range": (
        text("settings", json.dumps(asdict(Settings()) | {"batch_size": 0})),
        "batch_size must be an integer in [1, 2147483647]: got 0",
    ),
    "a setting too many": (
        text("run_settings", json.dumps(asdict(RunSettings()) | {"more": 0})),
        "run_settings must have",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused(content: bytes, tmp_path: Path, name: str) -> None:
    change, said = HOSTILE[name]
    path = tmp_path / "a.cllm"
    forge(content, path, change)
    assert said in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_hostile_tensor_is_refused(content: bytes, tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.cllm"
    forge(content, path, tensor("second_moment.layer1.ln2_shift", np.full(4, value, "f4")))
    assert refusal(path) == "its tensor second_moment.layer1.ln2_shift is not finite"


def test_two_headers_in_one_are_refused(content: bytes, tmp_path: Path) -> None:
    size = int.from_bytes(content[:8], "little")
    for second in (b"5", b"{}", content[8 + len(b'{"__metadata__":') : 8 + size]):
        text = content[8 : 8 + size].rstrip()[:-1] + b',"__metadata__":' + second + b"}"
        path = tmp_path / "a.cllm"
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
        refusal(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@on_files
@given(data=st.data())
def test_any_metadata_are_refused_or_come_back(
    content: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    """One value anywhere in the metadata replaced by any JSON."""

    def change(texts: Texts, _: Tensors) -> None:
        name = data.draw(st.sampled_from(sorted(texts)))
        value = json.loads(texts[name])
        if isinstance(value, dict) and data.draw(st.booleans()):
            value[data.draw(st.sampled_from(sorted(value)))] = data.draw(values)
        else:
            value = data.draw(values)
        texts[name] = json.dumps(value)

    path = tmp_path / "a.cllm"
    forge(content, path, change)
    try:
        loaded = Checkpoint.load(path)
    except CllmError:
        refusal(path)
        return
    loaded.save(tmp_path / "b.cllm")
    assert Checkpoint.load(tmp_path / "b.cllm").settings == loaded.settings
