"""What reports are made of: axes, rooflines, schemas, words."""

from __future__ import annotations

import math

import pytest

from cllm.harness.compare.comparison import Entry, Interval
from cllm.harness.publish import charts, words
from cllm.harness.publish.roofline import Point, chart, intensity, rooflines
from cllm.harness.publish.schema import schema_of

SIZES = {
    "vocab_size": 381, "embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128,
    "batch_size": 4, "seq_len": 16,
}  # fmt: skip
PARAMETERS = 82_624

PROBE = {
    "level": "avx2",
    "fma": {"1": 1e11, "2": 2e11},
    "read": {"1": {"L2": 9e10, "memory": 3e10}, "2": {"L2": 2e11, "memory": 4e10}},
}


def test_ratios_lie_inside_their_axis_with_one_on_it() -> None:
    for ends in ([0.97, 1.02], [0.9, 0.95], [0.2, 4.0], [1.0], [1e-3, 1e3]):
        axis = charts.ratio_axis(ends, "low:Q", "").to_dict()
        low, high = axis["scale"]["domain"]
        assert low < min(1.0, *ends)
        assert high > max(1.0, *ends)
        ticks = axis["axis"]["values"]
        assert 2 <= len(ticks) <= 25
        assert any(math.isclose(tick, 1.0) for tick in ticks)
        assert all(low <= tick <= high for tick in ticks)


def test_intensity_is_of_models_alone() -> None:
    assert intensity(SIZES, True, 40.0 * PARAMETERS) == 1.0
    assert intensity(SIZES, False, 4.0 * (PARAMETERS + 2 * 64 * 18)) == 1.0
    assert intensity({}, True, 1.0) is None
    assert intensity(SIZES | {"num_heads": 5}, True, 1.0) is None
    assert intensity(SIZES, True, 0.0) is None


def test_roofline_holds_its_points_and_roofs() -> None:
    fast = Point("fast", "small", "head", 1, 10.0, 4e11)  # beyond what the probe found
    slow = Point("slow", "tiny", "base", 1, 0.01, 1e6)
    alone = Point("alone", "tiny", "base", 3, 0.01, 1e6)
    (roof,) = rooflines([fast, slow, alone], PROBE)
    spec = chart(roof, charts.SIDES)
    line = spec["layer"][0]["encoding"]
    for axis, values in (("x", (10.0, 0.01, 1e11 / 3e10)), ("y", (4e11, 1e6, 1e11))):
        low, high = line[axis]["scale"]["domain"]
        assert all(low < value < high for value in values)
    assert "400% of the peak" in spec["description"]


def test_schema_of_a_dataclass_follows_its_annotations() -> None:
    found = schema_of(Interval)
    assert found["required"] == ["ratio", "low", "high"]
    assert found["properties"]["confidence"] == {"type": "number"}
    assert schema_of(Entry)["properties"]["detectable"] == {
        "anyOf": [{"type": "number"}, {"type": "null"}]
    }
    assert "slower" in schema_of(Entry)["properties"]["outcome"]["enum"]
    with pytest.raises(TypeError, match="no JSON for"):
        schema_of(complex)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1.0, "0%"), (1.00001, "0%"), (1.0004, "+0.04%"), (0.969, "−3.1%"), (1.0096, "+1.0%"),
        (0.4, "0.40×"), (2.5, "2.50×"), (1.5, "+50.0%"),
    ],
)  # fmt: skip
def test_changes_in_words(ratio: float, said: str) -> None:
    assert words.change(ratio) == said


def test_both_ends_of_an_interval_have_one_unit() -> None:
    assert words.interval(None) == "–"
    assert words.interval({"low": 0.97, "high": 1.0}) == "−3.0% to 0%"
    assert words.interval({"low": 0.97, "high": 2.5}) == "0.97× to 2.50×"
