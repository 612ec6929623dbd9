"""The tail of the stream is for validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text.byte_level import BytesTokenizer
from cllm.text.corpus import Corpus


def stream(length: int) -> Corpus:
    return Corpus(np.arange(length), BytesTokenizer(lowercase=False), "", 1, {}, length, length, 0)


@settings(deadline=None)
@given(st.integers(4, 1000), st.floats(0, 1, exclude_max=True))
def test_a_split_is_the_head_and_the_tail(length: int, fraction: float) -> None:
    try:
        training, validation = stream(length).split(fraction)
    except CllmError:
        assert fraction > 0
        assert not 2 <= fraction * length <= length - 2
        return
    assert training.tolist() + validation.tolist() == list(range(length))
    assert len(validation) == int(length * fraction)
    assert np.shares_memory(training, training.base)


def test_without_validation_the_whole_stream_is_for_training() -> None:
    training, validation = stream(3).split(0)
    assert (len(training), len(validation)) == (3, 0)


@pytest.mark.parametrize("fraction", [0.001, 0.15, 0.95, 0.999])
def test_a_part_of_fewer_than_two_tokens_is_refused(fraction: float) -> None:
    with pytest.raises(CllmError, match=rf"validation_fraction {fraction} leaves \d+ tokens for"):
        stream(10).split(fraction)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(CllmError, match=r"validation_fraction must be in \[0, 1\): got"):
        stream(100).split(fraction)
