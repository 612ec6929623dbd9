"""The experiment on whether the lattice helps: what is trained, compared, said and drawn."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from cllm.errors import CllmError
from cllm.harness.lattice.trial import __main__ as command
from cllm.harness.lattice.trial import run, texts
from cllm.harness.lattice.trial.comparison import differences
from cllm.harness.lattice.trial.markdown import Results, render
from cllm.harness.lattice.trial.picture import svg
from cllm.harness.lattice.trial.run import PLAIN, VARIANTS, Cost, Run, config_of, train
from cllm.harness.lattice.trial.texts import Text

MACHINE = {"cpu": "Fast 9000", "usable_cores": 2}


def text(name: str = "English") -> Text:
    tokens = np.random.default_rng(0).integers(0, 512, 2500).astype(np.uint16)
    return Text(name, "made up", 9000, tokens[:2200], tokens[2200:])


def runs(effect: float, wobble: float, steps: int = 100) -> list[Run]:
    """Losses of a plain model by seed, and of one that differs by about so much."""
    found = []
    for seed in range(5):
        luck = 0.3 * (seed - 2)
        own = effect + wobble * (seed % 2 - 0.4)
        found.append(Run("English", PLAIN, seed, 100, 4.0 + luck))
        found.append(Run("English", "loss", seed, steps, 4.0 + luck + own))
    return found


@pytest.mark.parametrize(
    ("effect", "wobble", "verdict"),
    [(-0.1, 0.01, "helps"), (0.1, 0.01, "harms"), (0.01, 0.2, "not certain")],
)
def test_what_is_said_is_held_against_the_plain_model_seed_by_seed(
    effect: float, wobble: float, verdict: str
) -> None:
    """The seeds' own luck, much larger than the effect, is on both sides."""
    wanted = {PLAIN: 100, "loss": 90}
    (found,) = differences(runs(effect, wobble, 90), ["English"], wanted, 100)
    assert (found.variant, found.steps, found.verdict) == ("loss", 90, verdict)
    assert found.mean == pytest.approx(effect)
    assert found.low < found.mean < found.high


def test_more_comparisons_ask_for_more() -> None:
    one = [*differences(runs(-0.1, 0.12), ["English"], {"loss": 100}, 100)]
    many = dict.fromkeys(("loss", "init", "symmetry", "positions", "attention"), 100)
    others = [
        Run("English", name, r.seed, 100, r.loss)
        for name in many
        for r in runs(-0.1, 0.12)
        if r.variant == "loss"
    ]
    plain = [r for r in runs(0, 0) if r.variant == PLAIN]
    all_of_them = [*differences([*plain, *others], ["English"], many, 100)]
    assert one[0].verdict == "helps"
    assert {each.verdict for each in all_of_them} == {"not certain"}
    assert {each.low for each in all_of_them} == {one[0].low}


@pytest.mark.parametrize("variant", [PLAIN, "all"])
def test_a_run_is_the_same_again(variant: str) -> None:
    one, other = (train(text(), variant, 3, 4) for _ in range(2))
    assert one == other
    assert one.steps == 4
    assert 5.0 < one.loss < 7.5
    assert bool(config_of(variant).lattice) == (variant == "all")


def test_paragraphs_of_the_licences_stand_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "LICENSES", tmp_path)
    with pytest.raises(CllmError, match="base-files"):
        texts._english()
    shared = "This paragraph stands in both of the licences, word by word."
    (tmp_path / "A").write_text(f"{shared}\n\nShort.\n\n{'alpha ' * 10}")
    (tmp_path / "B").write_text(f"  {shared.upper()}\n\n{'beta ' * 10}")
    (tmp_path / "C").symlink_to(tmp_path / "B")
    found = texts._english()
    assert found.lower().count("word by word") == 1
    assert "alpha" in found
    assert "beta" in found
    assert "Short" not in found


def made_up() -> Results:
    names, found = ("source code", "English"), []
    cost = {name: Cost(1.0 if name == PLAIN else 1.25, 0.9, 1.5) for name in VARIANTS}
    for name in names:
        for variant in VARIANTS:
            for steps in {100, 100 if variant == PLAIN else 80}:
                for seed in range(3):
                    loss = 4.0 + 0.01 * seed * len(variant) - (0.5 if variant == "loss" else 0.0)
                    found.append(Run(name, variant, seed, steps, loss))
    return Results([text(name) for name in names], found, 100, 3, cost, cost, MACHINE)


def test_the_report_says_all_of_it() -> None:
    said = render(made_up())
    assert "- **loss** helps on source code (-0.510), helps on English (-0.510)" in said
    assert "### As many steps" in said
    assert "### As much time" in said
    assert "| all | 80 |" in said
    assert "1.250 (0.900 to 1.500)" in said
    assert "nan" not in said


def test_the_picture_is_whole() -> None:
    drawn = svg(made_up().differences())
    ElementTree.fromstring(drawn)
    for word in ("source code", "English", "attention", "positions", "as much time"):
        assert word in drawn
    # a point of each variant, however long it was trained, in the column of its own text alone
    assert drawn.count('aria-roledescription="point"') == 2 * 6 * 2


def test_the_command_writes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ROUNDS", 1)
    monkeypatch.setattr(command, "MEDIUM", (config_of(PLAIN), 2, 4))
    monkeypatch.setattr(command, "texts", lambda: [text()])
    output = tmp_path / "new" / "lattice.md"
    arguments = ["--output", str(output), "--steps", "10", "--seeds", "2"]
    found = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "Does the lattice help?" in output.read_text()
    assert (tmp_path / "new" / "lattice.svg").read_text().startswith("<svg")
    refused = CliRunner().invoke(command.main, ["--output", str(output / "x.md")])
    assert refused.exit_code == 2
