"""Checks of the time that a call takes, as ratios inside one run: no figure of a machine.

Leaves out: steps per second, which the benchmark measures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.decoder import Sampling
from cllm.harness.cases import Case, Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.runner import Arrays, build, differentiate
from cllm.harness.verdict import Inconclusive, Status, Verdict
from cllm.layout import tensor_views
from cllm.model import Model, Update
from cllm.plan import Operation

SETTING = Setting(Config(64, 32, 1, 2, 64), 8, 16)
"""Large enough that the arithmetic takes most of the time, in NumPy too."""

DENORMAL = 1e-40
"""Below the smallest normal float32, 1.2e-38."""

DIVISOR = 3e38
"""Near the largest float32: it makes the gradients of a loss denormal, and none vanish."""

UPDATE = Update(1000, 0.0)
"""Denormal parameters stay as they are from one step to the next."""

CLIP = 1e-36
"""Scales gradients of a global norm near 1 so that most of them are denormal."""

GREEDY = Sampling(0.0)
UNIFORMS = np.zeros(8)
"""For the tokens that one call draws."""

VISITS = 8
"""Of each input in turn, there and back: what else slows the machine meets them alike."""

SLOWER = 4.0
"""A processor's own penalty reaches 100; what is due to chance stays near 1."""

Calls = dict[str, Callable[[], object]]


@check("speed.denormals", Operation.EVALUATION)
def denormals(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Denormal weights, gradients and moments slow neither steps nor passes nor decoding down.

    A failure takes more than 4 times the processor time of ordinary numbers, and more than twice
    as many times as the reference takes in the same run. That the inputs do lead to denormal
    numbers is seen in the reference.
    """
    ordinary = draw_case(SETTING, seed)
    weights = _with_denormal_weights(ordinary)
    inputs = {"weights": weights}
    _require(_activations(reference, weights), ("qkv", "attn", "ff_in", "ff_act", "ff"))
    if Operation.TRAINING in candidate.parts:
        inputs["gradients and moments"] = gradients = _with_denormal_gradients(ordinary)
        _require(differentiate(reference, gradients, "float32"), ("weight", "bias", "gain"))
    penalty = _penalty_of_processor(seed)
    worst, slowest = 0.0, ""
    for (call, kind), ratio in _ratios(candidate, ordinary, inputs).items():
        if ratio > SLOWER:
            usual = _ratios(reference, ordinary, inputs)[call, kind]
            if ratio > 2 * usual:
                evidence = (
                    f"{call} takes {ratio:.3g} times as long with denormal {kind} as with "
                    f"ordinary ones; the reference {usual:.3g} times, a product {penalty:.3g} times"
                )
                return Verdict(Status.FAIL, evidence)
        if ratio > worst:
            worst, slowest = ratio, f"{call} with denormal {kind}"
    evidence = (
        f"{slowest} takes {worst:.3g} times as long as with ordinary numbers, all else less; "
        f"a product takes this processor {penalty:.3g} times as long"
    )
    return Verdict(Status.PASS, evidence)


def _with_denormal_weights(case: Case) -> Case:
    """Values, attention and feed-forward of denormal numbers."""
    parameters = case.parameters.copy()
    for name, tensor in tensor_views(case.setting.config, parameters).items():
        if name.endswith("qkv_weight"):
            tensor[:, 2 * tensor.shape[1] // 3 :] *= DENORMAL
        elif ".ff_" in name:
            tensor *= DENORMAL
    return replace(case, parameters=parameters.astype(np.float32).astype(np.float64))


def _with_denormal_gradients(case: Case) -> Case:
    """Gradients, and so Adam's moments, of denormal numbers."""
    first, second = case.first_moment * DENORMAL, case.second_moment * DENORMAL
    return replace(case, divisor=DIVISOR, first_moment=first, second_moment=second)


def _activations(model: type[Model], case: Case) -> Mapping[str, NDArray[np.generic]]:
    built = build(model, case, operation=Operation.EVALUATION)
    built.forward(case.tokens)
    return built.activations()


def _require(arrays: Mapping[str, NDArray[np.generic]] | Arrays, endings: tuple[str, ...]) -> None:
    """Raise `Inconclusive` unless each array of such a name is denormal at least in part."""
    smallest = np.finfo(np.float32).tiny
    for name, array in arrays.items():
        if name.endswith(endings):
            size = np.abs(array.astype(np.float64))
            if np.mean((size > 0) & (size < smallest)) < 0.25:
                raise Inconclusive(f"the reference's {name} did not become denormal")


def _ratios(
    model: type[Model], ordinary: Case, inputs: dict[str, Case]
) -> dict[tuple[str, str], float]:
    """By call and kind of input, how many times as long as with the ordinary one it takes."""
    usual = _calls(model, ordinary)
    others = {kind: _calls(model, case) for kind, case in inputs.items()}
    found = {}
    for call in usual:
        times = _median_times([usual[call], *(calls[call] for calls in others.values())])
        for kind, seconds in zip(inputs, times[1:], strict=True):
            found[call, kind] = seconds / times[0]
    return found


def _calls(model: type[Model], case: Case) -> Calls:
    """What a model offers, at the point of training that the case describes."""
    built = build(model, case, operation=Operation.EVALUATION)
    calls: Calls = {
        "forward and loss": lambda: (built.forward(case.tokens), built.loss(case.targets))
    }
    if Operation.TRAINING in model.parts:
        trained = build(model, case)
        calls["step"] = lambda: trained.step(case.tokens, case.targets, UPDATE, case.divisor)
        stepped = build(model, case)
        # `steps` takes no divisor: it is the clipping that makes its gradients denormal
        update = UPDATE if case.divisor is None else replace(UPDATE, clip=CLIP)
        batches = case.tokens[None], case.targets[None]
        calls["steps"] = lambda: stepped.steps(*batches, [update])
    if Operation.GENERATION in model.parts:
        decoder = build(model, case, operation=Operation.GENERATION)

        def decode() -> None:
            decoder.reset()
            decoder.feed(case.tokens[0])

        calls["decoding"] = decode
        generator = build(model, case, operation=Operation.GENERATION)

        def generate() -> None:
            generator.reset()
            generator.feed(case.tokens[0, :1])
            generator.generate(len(UNIFORMS), GREEDY, UNIFORMS)

        calls["generate"] = generate
    return calls


def _median_times(calls: list[Callable[[], object]]) -> list[float]:
    """Seconds of processor time, of all threads, of the median visit; there and back (ABBA)."""
    seconds: list[list[float]] = [[] for _ in calls]
    order = [*range(len(calls)), *reversed(range(len(calls)))]
    for i in order * (VISITS // 2):
        start = time.process_time()
        calls[i]()
        seconds[i].append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def _penalty_of_processor(seed: int) -> float:
    """How many times as long NumPy takes for products that are denormal."""
    factors = np.random.default_rng(seed).uniform(0.5, 1.0, 2000).astype(np.float32)
    small, products = factors * np.float32(DENORMAL), np.empty_like(factors)
    usual, denormal = _median_times(
        [
            lambda: [np.multiply(factors, factors, products) for _ in range(5)],
            lambda: [np.multiply(factors, small, products) for _ in range(5)],
        ]
    )
    return denormal / usual
