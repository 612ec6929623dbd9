"""Generation: which tokens are drawn, and where the text ends."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from cllm import CllmError, Config, Sampling, generation
from cllm.generation import generate_tokens
from cllm.reference import Model
from cllm.text.tokenizer import BOS, EOS

SAMPLING = Sampling(temperature=0.8, top_k=20, top_p=0.95)
PROMPT = np.array([7, 9], np.int32)


@pytest.fixture
def model() -> Model:
    """One whose text does not end soon: <EOS> is unlikely."""
    config = Config(40, 8, 1, 2, 8)
    parameters = np.random.default_rng(0).normal(0.0, 0.4, config.num_parameters)
    model = Model.create(config, 1, 6, parameters, operations=["generation"])
    assert isinstance(model, Model)
    return model


def test_tokens_are_drawn_one_by_one_by_the_seed(model: Model) -> None:
    uniforms = np.random.default_rng(3).random(20)
    model.feed(np.array([BOS, *PROMPT], np.int32))
    wanted = [int(model.generate(1, SAMPLING, uniforms[i : i + 1])[0]) for i in range(20)]
    drawn = list(generate_tokens(model, PROMPT, 20, SAMPLING, 3))
    assert drawn == wanted[: wanted.index(EOS)] if EOS in wanted else wanted
    assert len(drawn) > 2 * generation.CHUNK


def test_the_text_does_not_depend_on_how_it_streams(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = list(generate_tokens(model, PROMPT, 20, SAMPLING, 3))
    for chunk in (1, 3, 20):
        monkeypatch.setattr(generation, "CHUNK", chunk)
        assert list(generate_tokens(model, PROMPT, 20, SAMPLING, 3)) == wanted
    assert list(islice(generate_tokens(model, PROMPT, 50, SAMPLING, 3), 20)) == wanted
    assert list(generate_tokens(model, PROMPT, 20, SAMPLING, 4)) != wanted


def test_an_empty_prompt_begins_a_text(model: Model) -> None:
    nothing = np.array([], np.int32)
    list(generate_tokens(model, nothing, 3, Sampling(temperature=0.0), 0))
    assert model.context[0] == BOS
    assert len(model.context) == 4


class Scripted(Model):
    """Draws what it is told to."""

    script: NDArray[np.int32]

    def generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        drawn, self.script = self.script[:count], self.script[count:]
        return drawn


@pytest.mark.parametrize("before", range(2 * generation.CHUNK + 1))
def test_nothing_comes_after_the_end_of_the_text(before: int) -> None:
    config = Config(40, 8, 1, 2, 8)
    scripted = Scripted.create(
        config, 1, 6, np.zeros(config.num_parameters), operations=["generation"]
    )
    assert isinstance(scripted, Scripted)
    scripted.script = np.array([9] * before + [EOS] + [9] * 40, np.int32)
    assert list(generate_tokens(scripted, PROMPT, 30, SAMPLING, 0)) == [9] * before


@pytest.mark.parametrize("count", [0, -1, 2**31])
def test_a_count_that_is_not_positive_is_refused(model: Model, count: int) -> None:
    with pytest.raises(CllmError, match="count must be an integer"):
        generate_tokens(model, PROMPT, count, SAMPLING, 0)


def test_many_tokens_need_no_memory_before_they_are_drawn(model: Model) -> None:
    tracemalloc.start()
    try:
        next(generate_tokens(model, PROMPT, 10**7, SAMPLING, 3))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
