"""The interface, in both models: order of calls, bad input, batches smaller than planned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm import CllmError, Config, Model, Sampling, Update
from cllm.check import check_number, check_size
from cllm.harness.cases import draw_parameters
from cllm.model import update_rows
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
        lambda: raw.steps(ids(0, 2, 5), ids(0, 2, 5), []),
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
        lambda: model.steps(ids(1, 1, 4), ids(1, 1, 4), [UPDATE]),
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
        with pytest.raises(CllmError, match="divisor must be a number in"):
            model.step(ids(2, 5), ids(2, 5), UPDATE, divisor)  # type: ignore[arg-type]
    model.loss(ids(2, 5))  # a refused call spoils nothing


@each_model
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.full((2, 5), 11, np.int32), r"targets must lie in -1\.\.10: got 11\.\.11"),
        (np.full((2, 5), -2, np.int32), r"targets must lie in -1\.\.10: got -2\.\.-2"),
        (np.zeros((2, 5), np.int64), "targets must be int32: got int64"),
        (np.zeros((2, 4), np.int32), r"targets must have shape \(2, 5\): got \(2, 4\)"),
        (
            np.zeros((2, 6), np.int32),
            r"targets must have a shape in \(1,1\)\.\.\(2, 5\): got \(2, 6\)",
        ),
        (np.zeros((1, 2, 5), np.int32), r"targets must be an array \(B,T\)"),
        (None, r"targets must be an array \(B,T\)"),
    ],
)
def test_a_step_with_bad_targets_is_refused_and_nothing_is_touched(
    cls: type[Model], targets: NDArray[np.int32], message: str
) -> None:
    model = build(cls)
    model.forward(ids(2, 5))
    before = {name: array.copy() for name, array in model.activations().items()}
    with pytest.raises(CllmError, match=message):
        model.step(ids(2, 5, seed=7), targets, UPDATE)
    for name, array in model.activations().items():
        assert np.array_equal(array, before[name]), name
    model.loss(ids(2, 5))  # forward's work is still there


@each_model
def test_ids_behind_a_mask_are_checked_like_all(cls: type[Model]) -> None:
    model, hidden = build(cls), np.ma.masked_greater(np.full((2, 5), 11, np.int32), 10)
    with pytest.raises(CllmError, match="tokens must lie in"):
        model.forward(hidden)
    with pytest.raises(CllmError, match="tokens must lie in"):
        model.step(hidden, ids(2, 5), UPDATE)
    with pytest.raises(CllmError, match="tokens must lie in"):
        model.feed(hidden[0])


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0}, {"step": 1.5}, {"learning_rate": -1.0}, {"learning_rate": float("nan")},
        {"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": 0.0}, {"weight_decay": -1.0}, {"clip": 0.0},
        {"step": True}, {"step": 2**31}, {"learning_rate": 10**400}, {"clip": math.inf},
    ],
    ids=str,
)  # fmt: skip
def test_bad_updates_are_refused_by_name(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(CllmError, match=f"{name} must be"):
        Update(**{"step": 1, "learning_rate": 0.1, **change})  # type: ignore[arg-type]


def refusal(make: Callable[[], object]) -> str | None:
    try:
        make()
    except CllmError as error:
        return str(error)
    return None


NUMBER_RANGES = {
    "learning_rate": (0.0, math.inf, False),
    "beta1": (0.0, 1.0, False),
    "beta2": (0.0, 1.0, False),
    "epsilon": (0.0, math.inf, True),
    "weight_decay": (0.0, math.inf, False),
    "clip": (0.0, math.inf, True),
}


@given(
    name=st.sampled_from(["step", *NUMBER_RANGES]),
    value=st.floats()
    | st.sampled_from([0, 1, 0.0, -0.0, 1.0, 5e-324, 2**31 - 1, 2**31, 10**400, -(10**400)])
    | st.integers()
    | st.booleans()
    | st.text(max_size=2)
    | st.floats(width=32).flatmap(lambda x: st.sampled_from([np.float32(x), np.float64(x), [x]])),
)
def test_an_update_refuses_what_the_check_of_each_field_refuses(name: str, value: Any) -> None:
    def check() -> object:
        if name == "step":
            return check_size(name, value)
        low, high, open_below = NUMBER_RANGES[name]
        return check_number(name, value, low, high, open_below=open_below)

    changed = {"step": 1, "learning_rate": 0.1, name: value}
    assert refusal(lambda: Update(**changed)) == refusal(check)


def test_rows_of_updates_hold_their_fields_in_order() -> None:
    updates = [Update(7, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), Update(2**31 - 1, 0)]
    rows = update_rows(updates)
    assert (rows.dtype, rows.flags.c_contiguous) == (np.float64, True)
    assert rows[0].tolist() == [*dataclasses.astuple(updates[0])]
    assert rows[1].tolist() == [*dataclasses.astuple(updates[1])[:-1], math.inf]


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
@pytest.mark.parametrize("shape", [(2, 5), (1, 5), (2, 3), (1, 1)])
def test_steps_is_step_after_step(cls: type[Model], shape: tuple[int, int]) -> None:
    many, single = build(cls), build(cls)
    many.feed(ids(2))
    tokens, targets = ids(4, *shape), ids(4, *shape, seed=2, low=-1)
    targets[1] = -1  # a batch without a counted target
    updates = [
        Update(1, 1e-2),
        Update(2, 1e-3, clip=0.5),
        Update(3, 0, 0.8, 0.9, 1e-6, 0.1),
        Update(9, 1e-2, weight_decay=0.2, clip=1),
    ]
    losses = many.steps(tokens, targets, updates)
    assert (losses.dtype, losses.shape) == (np.float64, (4,))
    assert losses.tolist() == [single.step(*k) for k in zip(tokens, targets, updates, strict=True)]
    for name in ("parameters", "first_moment", "second_moment"):
        for tensor, view in many.tensors(name).items():
            assert np.array_equal(view, single.tensors(name)[tensor]), (name, tensor)
    assert len(many.context) == 0  # the cache is of the old parameters
    with pytest.raises(RuntimeError, match=r"forward\(\) must come directly before"):
        many.loss(targets[0])


@each_model
def test_steps_takes_arrays_of_any_layout_and_as_many_as_none(cls: type[Model]) -> None:
    tokens, targets = ids(3, 2, 5), ids(3, 2, 5, seed=2)
    updates = [Update(step, 1e-2) for step in (1, 2, 3)]
    expected = build(cls).steps(tokens, targets, updates)
    window = np.zeros((2, 6, 5), np.int32)
    window[:, ::2] = tokens.transpose(1, 0, 2)
    strided = window[:, ::2].transpose(1, 0, 2)
    unaligned = np.zeros(targets.nbytes + 1, np.uint8)[1:].view(np.int32).reshape(3, 2, 5)
    unaligned[...] = targets
    unaligned.flags.writeable = False
    assert np.array_equal(build(cls).steps(strided, unaligned, updates), expected)
    none = build(cls).steps(tokens[:0], targets[:0], [])
    assert (none.dtype, none.shape) == (np.float64, (0,))


@each_model
def test_steps_over_the_model_s_own_buffers_takes_what_lay_there(cls: type[Model]) -> None:
    model = build(cls, 3)
    views = model.activations()
    views["tokens"][...], views["targets"][...] = ids(3, 5), ids(3, 5, seed=2)
    swapped = views["targets"][:, None], views["tokens"][:, None]
    updates = [Update(step, 1e-2) for step in (1, 2, 3)]
    expected = build(cls, 3).steps(swapped[0].copy(), swapped[1].copy(), updates)
    assert np.array_equal(model.steps(*swapped, updates), expected)


def batches(change: str) -> tuple[Any, Any, Any]:
    """Three batches and updates, one thing of them bad."""
    tokens, targets = ids(3, 2, 5), ids(3, 2, 5, seed=2)
    updates: list[Any] = [Update(step, 1e-2) for step in (1, 2, 3)]
    if change == "token":
        tokens[1, 1, 4] = 11
    if change == "target":
        targets[2, 0, 0] = -2
    if change == "update":
        updates[1] = None
    found: dict[str, tuple[Any, Any, Any]] = {
        "tokens short": (tokens[:2], targets, updates),
        "targets short": (tokens, targets[:2], updates),
        "updates short": (tokens, targets, updates[:2]),
        "tokens dtype": (tokens.astype(np.int64), targets, updates),
        "targets dtype": (tokens, targets.astype(np.float32), updates),
        "one batch": (tokens[0], targets[0], updates[:1]),
        "targets list": (tokens, targets.tolist(), updates),
        "tokens long": (np.zeros((3, 2, 6), np.int32), targets, updates),
        "no rows": (tokens[:, :0], targets[:, :0], updates),
        "targets shape": (tokens, targets[:, :, :4], updates),
    }
    return found.get(change, (tokens, targets, updates))


@each_model
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("token", r"^tokens\[1\] must lie in 0\.\.10: got \d\.\.11$"),
        ("target", r"^targets\[2\] must lie in -1\.\.10: got -2\.\.\d+$"),
        ("update", r"^updates\[1\] must be a cllm\.Update: got NoneType$"),
        ("tokens short", "got 2, 3 and 3"),
        ("targets short", "got 3, 2 and 3"),
        ("updates short", "got 3, 3 and 2"),
        ("tokens dtype", "^tokens must be int32: got int64$"),
        ("targets dtype", "^targets must be int32: got float32$"),
        ("one batch", r"^tokens must be an array \(k,B,T\)$"),
        ("targets list", r"^targets must be an array \(k,B,T\)$"),
        (
            "tokens long",
            r"a batch of tokens must have a shape in \(1,1\)\.\.\(2, 5\): got \(2, 6\)",
        ),
        ("no rows", r"a batch of tokens must have a shape in \(1,1\)\.\.\(2, 5\): got \(0, 5\)"),
        ("targets shape", r"a batch of targets must have shape \(2, 5\): got \(2, 4\)"),
    ],
)
def test_steps_refuses_all_where_one_is_bad(cls: type[Model], change: str, message: str) -> None:
    model = build(cls)
    model.forward(ids(2, 5, seed=8))
    before = {name: array.copy() for name, array in model.activations().items()}
    with pytest.raises(CllmError, match=message):
        model.steps(*batches(change))
    for name, array in model.activations().items():
        assert np.array_equal(array, before[name]), name
    model.loss(ids(2, 5))  # a refused call spoils nothing


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
