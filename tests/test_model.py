"""The interface, in both models: order of calls, bad input, batches smaller than planned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cllm import CllmError, Config, Model, Sampling, Update
from cllm.harness.cases import draw_parameters
from cllm.registry import find_model

CONFIG = Config(11, 6, 2, 3, 5)
PARAMETERS = draw_parameters(CONFIG, np.random.default_rng(0))
UPDATE = Update(1, 1e-2)
each_model = pytest.mark.parametrize(
    "cls", [find_model("reference"), find_model("optimized")], ids=["reference", "optimized"]
)


def build(cls: type[Model], batch: int = 2, time: int = 5) -> Model:
    operations = ["training", "generation"]
    return cls.create(CONFIG, batch, time, PARAMETERS, operations=operations)


def ids(*shape: int, seed: int = 1, low: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(low, CONFIG.vocab_size, shape, np.int32)


@each_model
def test_calls_out_of_order_are_refused(cls: type[Model]) -> None:
    plan = cls.plan(CONFIG, 2, 5, operations=["training", "generation"])
    raw = cls(plan, plan.allocate())
    calls: list[Callable[[], object]] = [
        lambda: raw.forward(ids(2, 5)),
        lambda: raw.step(ids(2, 5), ids(2, 5), UPDATE),
        lambda: raw.feed(ids(1)),
        raw.zero_gradients,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"prepare\(\) must come first"):
            call()
    model = build(cls)
    with pytest.raises(RuntimeError, match=r"forward\(\) must come directly before"):
        model.loss(ids(2, 5))
    with pytest.raises(RuntimeError, match=r"loss\(\) must come directly before"):
        model.backward()
    model.forward(ids(2, 5))
    with pytest.raises(RuntimeError, match=r"loss\(\) must come directly before"):
        model.backward()
    model.loss(ids(2, 5))
    model.backward()
    with pytest.raises(RuntimeError, match=r"loss\(\) must come directly before"):
        model.backward()  # the activations are consumed
    model.forward(ids(2, 5))
    model.update(UPDATE)
    with pytest.raises(RuntimeError, match=r"forward\(\) must come directly before"):
        model.loss(ids(2, 5))  # the parameters have moved
    with pytest.raises(RuntimeError, match="feed at least one token first"):
        model.generate(1, Sampling(), np.zeros(1))
    model.feed(ids(2))
    model.update(UPDATE)
    with pytest.raises(RuntimeError, match="feed at least one token first"):
        model.generate(1, Sampling(), np.zeros(1))  # the cache is of the old parameters


@each_model
def test_operations_outside_the_plan_are_refused(cls: type[Model]) -> None:
    model = cls.create(CONFIG, 1, 4, PARAMETERS, operations=["evaluation"])
    model.forward(ids(1, 4))
    model.loss(ids(1, 4))
    calls: list[Callable[[], object]] = [
        model.backward, model.zero_gradients, model.reset, lambda: model.update(UPDATE),
        lambda: model.feed(ids(1)), lambda: model.step(ids(1, 4), ids(1, 4), UPDATE),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(RuntimeError, match="is not in the plan"):
            call()


@each_model
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((2, 5), 11, np.int32), r"tokens must lie in 0\.\.10: got 11\.\.11"),
        (np.full((2, 5), -1, np.int32), r"tokens must lie in 0\.\.10: got -1\.\.-1"),
        (np.zeros((2, 5), np.uint32), "tokens must be int32: got uint32"),
        (np.zeros((2, 5), np.int64), "tokens must be int32: got int64"),
        (np.zeros((2, 5), np.float32), "tokens must be int32: got float32"),
        (np.zeros((3, 5), np.int32), r"shape in \(1,1\)\.\.\(2, 5\): got \(3, 5\)"),
        (np.zeros((2, 6), np.int32), r"shape in \(1,1\)\.\.\(2, 5\): got \(2, 6\)"),
        (np.zeros((0, 5), np.int32), "shape in"),
        (np.zeros(5, np.int32), r"must be an array \(B,T\)"),
        ([[1, 2]], r"must be an array \(B,T\)"),
    ],
)
def test_bad_tokens_are_refused_and_nothing_is_touched(
    cls: type[Model], tokens: NDArray[np.int32], message: str
) -> None:
    model = build(cls)
    model.forward(ids(2, 5))
    before = {name: array.copy() for name, array in model.activations().items()}
    for call in (model.forward, lambda bad: model.step(bad, ids(2, 5), UPDATE)):
        with pytest.raises(CllmError, match=message):
            call(tokens)
        for name, array in model.activations().items():
            assert np.array_equal(array, before[name]), name


@each_model
def test_bad_targets_and_divisors_are_refused(cls: type[Model]) -> None:
    model = build(cls)
    model.forward(ids(2, 5))
    with pytest.raises(CllmError, match=r"targets must lie in -1\.\.10: got -2"):
        model.loss(np.full((2, 5), -2, np.int32))
    with pytest.raises(CllmError, match=r"targets must have shape \(2, 5\): got \(2, 4\)"):
        model.loss(ids(2, 4))
    for divisor in (0, -1.0, float("nan"), float("inf"), "3"):
        with pytest.raises(CllmError, match="divisor must be a number in"):
            model.loss(ids(2, 5), divisor)  # type: ignore[arg-type]
    model.loss(ids(2, 5))  # a refused call spoils nothing


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0}, {"step": 1.5}, {"learning_rate": -1.0}, {"learning_rate": float("nan")},
        {"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": 0.0}, {"weight_decay": -1.0}, {"clip": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_bad_updates_are_refused_by_name(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(CllmError, match=f"{name} must be"):
        Update(**{"step": 1, "learning_rate": 0.1, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"temperature": "hot"}],
    ids=str,
)
def test_bad_sampling_is_refused_by_name(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(CllmError, match=f"{name} must be"):
        Sampling(**change)  # type: ignore[arg-type]


@each_model
def test_a_smaller_batch_gives_what_a_plan_of_its_own_gives(cls: type[Model]) -> None:
    large, exact = build(cls, 4, 9), build(cls, 3, 7)
    large.forward(ids(4, 9, seed=5))  # leaves something behind in every buffer
    losses = []
    for model in (large, exact):
        model.zero_gradients()
        model.forward(ids(3, 7))
        losses.append(model.loss(ids(3, 7, seed=2, low=-1)))
        model.backward()
    assert losses[0] == losses[1]
    assert np.array_equal(large.gradients, exact.gradients)
    for name, array in exact.activations().items():
        if name in {"x0", "layer1.x_out", "layer0.attn_lse"}:
            assert np.array_equal(large.activations()[name], array), name


@each_model
def test_micro_batches_add_up_to_the_large_batch(cls: type[Model]) -> None:
    tokens, targets = ids(4, 5), ids(4, 5, seed=2, low=-1)
    whole = build(cls, 4)
    whole.forward(tokens)
    loss = whole.loss(targets)
    whole.backward()
    parts = build(cls, 4)
    counted, total = int((targets >= 0).sum()), 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        parts.forward(tokens[rows])
        total += parts.loss(targets[rows], counted)
        parts.backward()
    assert total == pytest.approx(loss, rel=1e-6)
    assert np.allclose(parts.gradients, whole.gradients, rtol=1e-5, atol=1e-6)


@each_model
def test_no_counted_target_means_no_loss_and_unchanged_gradients(cls: type[Model]) -> None:
    model = build(cls)
    model.gradients[...] = np.linspace(-1, 1, model.gradients.size)
    before = model.gradients.copy()
    model.forward(ids(2, 5))
    assert model.loss(np.full((2, 5), -1, np.int32)) == 0.0
    model.backward()
    assert np.array_equal(model.gradients, before)


@each_model
def test_step_is_the_calls_one_by_one_and_ignores_old_gradients(cls: type[Model]) -> None:
    fused, single = build(cls), build(cls)
    fused.gradients.fill(7)
    for step in range(1, 4):
        tokens, targets = ids(2, 5, seed=step), ids(2, 5, seed=step + 9)
        update = Update(step, 1e-2, weight_decay=0.1, clip=0.5)
        loss = fused.step(tokens, targets, update)
        single.zero_gradients()
        single.forward(tokens)
        assert single.loss(targets) == loss
        single.backward()
        single.update(update)
        assert np.array_equal(fused.parameters, single.parameters)


@each_model
def test_steps_is_step_after_step(cls: type[Model]) -> None:
    many, single = build(cls), build(cls)
    tokens, targets = ids(3, 2, 5), ids(3, 2, 5, seed=2)
    updates = [Update(step, 1e-2 / step) for step in (1, 2, 3)]
    losses = many.steps(tokens, targets, updates)
    assert losses.tolist() == [single.step(*k) for k in zip(tokens, targets, updates, strict=True)]
    assert np.array_equal(many.parameters, single.parameters)
    with pytest.raises(CllmError, match="got 3, 3 and 2"):
        many.steps(tokens, targets, updates[:2])


@each_model
@pytest.mark.parametrize("time", [1, 2, 5])
def test_the_window_slides_by_half_and_stays_exact(cls: type[Model], time: int) -> None:
    model = cls.create(CONFIG, 1, time, PARAMETERS, operations=["evaluation", "generation"])
    fed, kept = ids(13), time // 2
    for n in range(len(fed)):
        logits = model.feed(fed[n : n + 1]).copy()
        context = model.context
        assert np.array_equal(context, fed[n + 1 - len(context) : n + 1])
        assert len(context) == (n + 1 if n < time else kept + 1 + (n - time) % (time - kept))
        assert np.allclose(logits, model.forward(context[None])[0, -1], rtol=1e-5, atol=1e-5)


@each_model
def test_generation_in_chunks_equals_one_call(cls: type[Model]) -> None:
    uniforms = np.random.default_rng(3).random(17)
    whole, parts = build(cls), build(cls)
    for model in (whole, parts):
        model.feed(ids(3))
    expected = whole.generate(17, Sampling(0.9), uniforms)
    chunks = [
        parts.generate(len(chunk), Sampling(0.9), chunk) for chunk in np.split(uniforms, [1, 6])
    ]
    assert np.array_equal(np.concatenate(chunks), expected)
    parts.reset()
    assert len(parts.context) == 0


@each_model
@pytest.mark.parametrize(
    "uniforms",
    [np.zeros(2), np.zeros(3, np.float32), np.full(3, 1.0), np.full(3, np.nan), np.full(3, -0.1)],
)
def test_bad_uniforms_are_refused(cls: type[Model], uniforms: NDArray[np.float64]) -> None:
    model = build(cls)
    model.feed(ids(1))
    with pytest.raises(CllmError, match="uniforms must"):
        model.generate(3, Sampling(), uniforms)


@each_model
def test_bad_prompts_are_refused(cls: type[Model]) -> None:
    model = build(cls)
    for bad in (ids(0), ids(1, 1), np.zeros(2, np.int64), np.full(2, 11, np.int32), [1]):
        with pytest.raises(CllmError, match="tokens"):
            model.feed(bad)  # type: ignore[arg-type]
    assert len(model.context) == 0


def test_load_refuses_parameters_of_another_shape() -> None:
    with pytest.raises(
        CllmError, match=r"parameters must be an array of shape \(\d+,\): got \(3,\)"
    ):
        build(find_model("reference")).load(np.zeros(3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", r"one of \['optimized', 'reference'\] or module:Class: got 'nonsense'"),
        ("no.such:Model", "'no.such:Model' cannot be loaded: No module named 'no'"),
        ("cllm.config:Nothing", "cannot be loaded"),
        ("cllm.config:Config", "is not a subclass of cllm.Model"),
        (":Model", "module:Class"),
    ],
)
def test_names_that_are_no_model_are_refused(name: str, message: str) -> None:
    with pytest.raises(CllmError, match=message):
        find_model(name)


@each_model
def test_a_model_keeps_the_buffers_that_it_was_given(cls: type[Model]) -> None:
    plan = cls.plan(CONFIG, 2, 5)
    given = {name: np.zeros(buffer.shape, buffer.dtype) for name, buffer in plan.buffers.items()}
    model = cls(plan, given)
    model.load(PARAMETERS)
    expected = build(cls).step(ids(2, 5), ids(2, 5, seed=2), UPDATE)
    given.update({name: np.full_like(array, 7) for name, array in given.items()})
    assert np.allclose(model.parameters, PARAMETERS)
    assert model.step(ids(2, 5), ids(2, 5, seed=2), UPDATE) == expected


@each_model
def test_logits_that_are_not_finite_are_not_sampled(cls: type[Model]) -> None:
    model = build(cls)
    model.feed(ids(2))
    model.parameters.fill(1e30)
    model.prepare()
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="logits of the next token are not finite"),
    ):
        model.feed(ids(2))
    assert len(model.context) == 0


@each_model
def test_what_is_no_array_or_update_is_refused(cls: type[Model]) -> None:
    model = build(cls)
    for bad in (PARAMETERS.tolist(), PARAMETERS.astype(complex), PARAMETERS.astype(str)):
        with pytest.raises(CllmError, match="parameters must be"):
            model.load(bad)
    with pytest.raises(CllmError, match=r"update must be a cllm\.Update: got NoneType"):
        model.step(ids(2, 5), ids(2, 5), None)  # type: ignore[arg-type]
    with pytest.raises(CllmError, match=r"update must be a cllm\.Update: got dict"):
        model.update({})  # type: ignore[arg-type]
    model.feed(ids(1))
    for uniforms in ([0.5, 0.5], np.zeros(4)[::2]):
        with pytest.raises(CllmError, match="uniforms must be"):
            model.generate(2, Sampling(), uniforms)  # type: ignore[arg-type]
    with pytest.raises(CllmError, match=r"dtype must be one of .*: got 'junk'"):
        cls.plan(CONFIG, 1, 1, dtype="junk")
    evaluating = cls.create(CONFIG, 1, 1, PARAMETERS, operations=["evaluation"])
    for name in ("gradients", "moments"):
        with pytest.raises(RuntimeError, match="training is not in the plan"):
            getattr(evaluating, name)
