"""Training: steps, epochs, accumulation, validation, and the bytes after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cllm import CllmError, Config, Model, Update
from cllm.layout import initialize
from cllm.reference import Model as Reference
from cllm.registry import find_model
from cllm.text.batches import Batches, epoch_generator
from cllm.text.tokenizer import TokenizerSettings, train_tokenizer
from cllm.training.checkpoint import Checkpoint, Position
from cllm.training.evaluation import Evaluation
from cllm.training.schedule import learning_rate
from cllm.training.settings import RunSettings, Settings
from cllm.training.trainer import Trainer

CONFIG = Config(11, 8, 1, 2, 12)
TEXT = np.random.default_rng(5).integers(0, 11, 83).astype(np.uint8)
"""82 targets: 17 windows of 5, the last with 2 targets; 6 batches of 3, the last of 2 windows."""

SETTINGS = Settings(batch_size=3, seq_len=5, epochs=2, learning_rate=0.01, warmup=3, clip=0.5)


def trainer(
    settings: Settings = SETTINGS,
    model: type[Model] = Reference,
    validation: NDArray[Any] | None = None,
) -> Trainer:
    return Trainer(model, CONFIG, settings, TEXT, validation)


def state(trained: Trainer) -> tuple[bytes, ...]:
    vectors = (trained.model.parameters, *trained.model.moments)
    return tuple(vector.tobytes() for vector in vectors)


def changed(settings: Settings = SETTINGS, **values: Any) -> Settings:
    return Settings(**(settings.__dict__ | values))


class Spy(Reference):
    """Notes its calls."""

    calls: list[tuple[Any, ...]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls = []

    def forward(self, tokens: NDArray[np.int32]) -> NDArray[Any]:
        self.calls.append(("forward", len(tokens)))
        return super().forward(tokens)

    def loss(self, targets: NDArray[np.int32], divisor: float | None = None) -> float:
        self.calls.append(("loss", divisor))
        return super().loss(targets, divisor)

    def backward(self) -> None:
        self.calls.append(("backward",))
        super().backward()

    def zero_gradients(self) -> None:
        self.calls.append(("zero_gradients",))
        super().zero_gradients()

    def update(self, update: Update) -> None:
        self.calls.append(("update", update))
        super().update(update)

    def step(
        self,
        tokens: NDArray[np.int32],
        targets: NDArray[np.int32],
        update: Update,
        divisor: float | None = None,
    ) -> float:
        self.calls.append(("step", len(tokens), update, divisor))
        return super().step(tokens, targets, update, divisor)


# -- steps and epochs --------------------------------------------------------------------------


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 3), (4, 2), (6, 1), (9, 1)])
def test_an_epoch_takes_every_target_once(accumulate: int, steps: int) -> None:
    trained = trainer(changed(accumulate=accumulate))
    assert (trained.steps_per_epoch, trained.total_steps) == (steps, 2 * steps)
    done = [trained.step() for _ in range(trained.total_steps)]
    assert [step.step for step in done] == list(range(1, 2 * steps + 1))
    assert [step.epoch for step in done] == [1] * steps + [2] * steps
    for epoch in (1, 2):
        assert sum(step.tokens for step in done if step.epoch == epoch) == len(TEXT) - 1
    assert trained.finished
    with pytest.raises(RuntimeError, match="all 2 epochs are done"):
        trained.step()


def test_a_single_batch_is_a_fused_step_of_the_batch_in_its_order() -> None:
    trained = trainer(changed(weight_decay=0.25), Spy)
    for _ in range(trained.total_steps):
        trained.step()
    model = trained.model
    assert isinstance(model, Spy)
    steps = [call for call in model.calls if call[0] == "step"]
    assert [call[1] for call in steps] == [3, 3, 3, 3, 3, 2] * 2
    rates = [learning_rate("cosine", s, 12, peak=0.01, warmup=3) for s in range(1, 13)]
    updates = [Update(s + 1, rates[s], weight_decay=0.25, clip=0.5) for s in range(12)]
    assert [call[2] for call in steps] == updates
    batches = Batches(TEXT, 3, 5)
    reference = Reference.create(CONFIG, 3, 5, initialize(CONFIG, np.random.default_rng(0)))
    for i, update in enumerate(updates):
        order = batches.order(epoch_generator(0, i // 6))
        reference.step(*batches.batch(order, i % 6), update)
    assert reference.parameters.tobytes() == state(trained)[0]


def test_no_clip_is_none() -> None:
    trained = trainer(changed(clip=0.0), Spy)
    trained.step()
    assert isinstance(trained.model, Spy)
    assert trained.model.calls[0][2].clip is None


def test_accumulation_divides_each_batch_by_the_targets_of_all() -> None:
    trained = trainer(changed(accumulate=4), Spy)
    trained.step()
    model = trained.model
    assert isinstance(model, Spy)
    order = Batches(TEXT, 3, 5).order(epoch_generator(0, 0))[:12]
    counted = 60 - 3 * (16 in order)  # window 16 has 2 targets
    each = [("forward", 3), ("loss", counted), ("backward",)]
    assert model.calls[:-1] == [("zero_gradients",), *each * 4]
    model.calls.clear()
    second = trained.step()
    assert [call[1] for call in model.calls if call[0] == "forward"] == [3, 2]
    assert second.tokens == 82 - counted


@pytest.mark.parametrize("name", ["reference", "optimized"])
def test_accumulating_equals_the_large_batch(name: str) -> None:
    large = trainer(changed(batch_size=9, clip=0.0), find_model(name))
    small = trainer(changed(batch_size=3, accumulate=3, clip=0.0), find_model(name))
    for _ in range(2):  # the second group is the ragged one
        one, other = large.step(), small.step()
        assert one.tokens == other.tokens
        assert other.loss == pytest.approx(one.loss, rel=8 * 2**-24)
        if one.step == 1:
            for vector, wanted in zip(small.model.moments, large.model.moments, strict=True):
                np.testing.assert_allclose(
                    vector, wanted, rtol=0, atol=32 * 2**-24 * np.abs(wanted).max()
                )


def test_epochs_differ_in_their_order_and_seeds_in_everything() -> None:
    losses = [trainer().step().loss, trainer(changed(seed=1)).step().loss]
    assert losses[0] != losses[1]
    trained = trainer()
    first = trained.position.generator_state
    for _ in range(trained.steps_per_epoch):
        trained.step()
    assert trained.position.generator_state != first


def test_a_loss_that_is_not_finite_ends_training() -> None:
    trained = trainer(changed(learning_rate=1e38, warmup=0, clip=0.0))
    trained.step()
    with pytest.raises(FloatingPointError, match="the loss at step 2 is nan: training diverged"):
        trained.step()


def test_a_window_longer_than_the_text_is_refused() -> None:
    with pytest.raises(CllmError, match="84 is longer than the text's 83 tokens"):
        trainer(changed(seq_len=84))


# -- validation --------------------------------------------------------------------------------


def test_validation_is_the_loss_over_all_windows() -> None:
    held_out = TEXT[::-1].copy()
    trained = trainer(validation=held_out)
    found = trained.validate()
    assert found is not None
    padded = np.full(85, 0, np.int32)
    padded[:82] = held_out[:-1]
    targets = np.full(85, -1, np.int32)
    targets[:82] = held_out[1:]
    model = Reference.create(CONFIG, 17, 5, trained.model.parameters, dtype=np.float64)
    model.forward(padded.reshape(17, 5))
    assert found.tokens == 82
    assert found.loss == pytest.approx(model.loss(targets.reshape(17, 5)), rel=1e-6)
    assert found.perplexity == pytest.approx(np.exp(found.loss), rel=1e-12)


def test_validation_changes_nothing() -> None:
    plain, validated = trainer(), trainer(validation=TEXT)
    for _ in range(plain.total_steps):
        plain.step()
        validated.step()
        validated.validate()
    assert state(plain) == state(validated)


def test_validation_batches_are_spread_over_the_text() -> None:
    trained = trainer(changed(validation_batches=2), Spy, TEXT)
    assert isinstance(trained.model, Spy)
    found = trained.validate()
    assert found is not None
    assert found.tokens == 30
    assert [call[1] for call in trained.model.calls if call[0] == "forward"] == [3, 3]
    np.testing.assert_array_equal(
        trained.model.activations()["tokens"], TEXT[45:60].reshape(3, 5)
    )  # batches 0 and 3 of 6


def test_validation_of_nothing_and_of_less_than_a_window() -> None:
    assert trainer().validate() is None
    assert trainer(validation=TEXT[:0]).validate() is None
    found = trainer(validation=TEXT[:3]).validate()
    assert found is not None
    assert found.tokens == 2


def test_evaluation() -> None:
    measured = Evaluation(loss=np.log(4.0), tokens=30)
    assert measured.perplexity == pytest.approx(4.0)
    assert measured.bits_per_byte(20) == pytest.approx(2.0 * 30 / 20)
    assert np.isfinite(Evaluation(loss=1e6, tokens=1).perplexity)


# -- stopping and going on ---------------------------------------------------------------------


def checkpointed(trained: Trainer, path: Path) -> Checkpoint:
    """The checkpoint of a trainer, written and read."""
    Checkpoint(
        config=CONFIG,
        tokenizer=train_tokenizer("whitespace", ["a b c d e f g"], 11, False),
        tokenizer_settings=TokenizerSettings("whitespace", 11),
        settings=trained.settings,
        run_settings=RunSettings(),
        corpus_key="",
        position=trained.position,
        parameters=trained.model.parameters,
        moments=trained.model.moments,
        validation_loss=None,
        best_validation_loss=None,
        isa="numpy",
    ).save(path)
    return Checkpoint.load(path)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("name", ["reference", "optimized"])
def test_a_resumed_run_gives_the_same_bytes(tmp_path: Path, name: str, accumulate: int) -> None:
    """Stopped after every step there is, an epoch's last among them."""
    settings = changed(accumulate=accumulate, epochs=3)
    whole = trainer(settings, find_model(name))
    saved = [checkpointed(whole, tmp_path / "start.cllm")]
    while not whole.finished:
        whole.step()
        saved.append(checkpointed(whole, tmp_path / "a.cllm"))
    for checkpoint in saved:
        resumed = trainer(checkpoint.settings, find_model(name))
        resumed.restore(checkpoint.position, checkpoint.parameters, checkpoint.moments)
        assert resumed.position == checkpoint.position
        while not resumed.finished:
            resumed.step()
        assert state(resumed) == state(whole)


def test_a_resumed_run_shuffles_by_the_saved_generator() -> None:
    """Not by the seed: NumPy may seed otherwise in another version."""
    one, other = trainer(), trainer(changed(seed=9))
    other.restore(one.position, one.model.parameters, one.model.moments)
    assert other.step() == one.step()


@pytest.mark.parametrize(
    ("step", "epoch", "batch"), [(1, 0, 0), (1, 0, 2), (6, 0, 6), (5, 1, 0), (2, 0, 3), (7, 1, 2)]
)
def test_a_position_that_does_not_fit_is_refused(step: int, epoch: int, batch: int) -> None:
    trained = trainer()
    before = state(trained), trained.position
    generator_state = trained.position.generator_state
    with pytest.raises(CllmError, match=f"step {step} cannot be at batch {batch} of epoch"):
        trained.restore(
            Position(step, epoch, batch, generator_state),
            np.zeros(CONFIG.num_parameters),
            [np.zeros(CONFIG.num_parameters)] * 2,
        )
    assert (state(trained), trained.position) == before


def test_a_position_within_a_group_is_refused() -> None:
    trained = trainer(changed(accumulate=2))
    position = Position(1, 0, 3, trained.position.generator_state)
    with pytest.raises(CllmError, match="step 1 cannot be at batch 3"):
        trained.restore(position, trained.model.parameters, trained.model.moments)


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", 0, "an integer in [1, 2147483647]: got 0"),
        ("batch_size", 2**31, "an integer in [1, 2147483647]: got 2147483648"),
        ("seq_len", 2.0, "an integer in [1, 2147483647]: got 2.0"),
        ("epochs", True, "an integer in [1, 2147483647]: got True"),
        ("learning_rate", 0.0, "a number in (0, inf): got 0.0"),
        ("learning_rate", float("nan"), "a number in (0, inf): got nan"),
        ("learning_rate", float("inf"), "a number in (0, inf): got inf"),
        ("learning_rate", 10**400, "a number in (0, inf): got 1000"),
        ("clip", -1.0, "a number in [0, inf): got -1.0"),
        ("validation_fraction", 1.0, "a number in [0, 1): got 1.0"),
        ("optimizer", "sgd", "one of adam, adamw: got 'sgd'"),
        ("schedule", 3, "one of constant, linear, cosine, step: got 3"),
        ("seed", -1, "an integer in [0, 2147483647]: got -1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(CllmError) as caught:
        changed(**{name: value})
    assert str(caught.value).startswith(f"{name} must be {said}")


def test_adam_with_weight_decay_is_refused() -> None:
    with pytest.raises(CllmError, match=r"weight_decay 0\.01 needs the optimizer adamw"):
        changed(optimizer="adam")
    assert changed(optimizer="adam", weight_decay=0.0).weight_decay == 0
