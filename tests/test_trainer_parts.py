"""The parts of a trainer as a candidate, and what their checks stand on."""

from pathlib import Path

import numpy as np

from cllm.harness import CHECKS, Status
from cllm.harness.cases import MEDIUM, draw_case
from cllm.harness.checks.check import Kind
from cllm.harness.checks.checkpoint import draw_checkpoint, unlike
from cllm.harness.trainer.hostile import hostile_files
from cllm.harness.trainer.parts import OURS, TrainerParts
from cllm.harness.trainer.recorder import gradient, recorder
from cllm.model import Update
from cllm.registry import find_model
from cllm.training.checkpoint import Checkpoint


def test_one_part_is_replaced_and_the_others_are_ours() -> None:
    parts = TrainerParts(learning_rate=lambda *_, peak, warmup: peak)
    assert parts.batches is OURS.batches
    assert parts.learning_rate is not OURS.learning_rate


def test_what_is_not_offered_is_not_applicable() -> None:
    verdict = CHECKS["data.epoch"](TrainerParts(batches=None, name="mine"), None, 0)
    assert verdict.status is Status.NOT_APPLICABLE
    assert verdict.evidence == "mine does not offer batches"


def test_every_check_of_a_trainer_has_a_short_limit() -> None:
    limits = [check.limit for check in CHECKS.values() if check.kind is Kind.TRAINER]
    assert len(limits) == 15
    assert max(limits) <= 15


def test_the_recorder_notes_the_gradient_before_the_update() -> None:
    case = draw_case(MEDIUM, 0)
    model, taken = recorder()
    built = model.create(MEDIUM.config, 4, 8, case.parameters)
    plain = find_model("reference").create(MEDIUM.config, 4, 8, case.parameters)
    for each in (built, plain):
        each.step(case.tokens, case.targets, Update(1, 0.1, clip=0.01))
    np.testing.assert_array_equal(built.parameters, plain.parameters)
    [noted] = taken
    np.testing.assert_array_equal(noted.parameters, case.parameters)
    np.testing.assert_array_equal(noted.batches[0][0], case.tokens)
    _, exact = gradient(
        MEDIUM.config, case.parameters, noted.batches, float((case.targets >= 0).sum()), "float32"
    )
    np.testing.assert_array_equal(
        noted.gradients, np.concatenate([tensor.ravel() for tensor in exact.values()])
    )


def test_hostile_files_are_unlike_the_good_one(tmp_path: Path) -> None:
    saved = draw_checkpoint(0, 0, "whitespace")
    good = tmp_path / "good.cllm"
    saved.save(good)
    content = good.read_bytes()
    seen = set()
    for what, path in hostile_files(good, saved, np.random.default_rng(0)):
        seen.add(what)
        assert path != good
        if path.is_file():
            assert path.read_bytes() != content, what
    assert good.read_bytes() == content
    assert len(seen) > 120
    assert not [*unlike(Checkpoint.load(good), saved)]
