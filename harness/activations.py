"""Where a candidate first leaves the reference: layer, operation, index.

Promises: activations are compared after `forward`, in the order of the network, over the common
names that both plans offer.
"""

from __future__ import annotations

from functools import partial

from cllm.harness.cases import Case
from cllm.harness.runs import Arrays, build, calibrate, copy
from cllm.harness.tolerance import FORWARD, Comparison, compare_tensors
from cllm.model import ACTIVATIONS, Model
from cllm.plan import Operation


def first_disagreement(
    candidate: type[Model], reference: type[Model], case: Case
) -> Comparison | None:
    """The first activation out of its tolerance, or None."""
    exact, errors = calibrate(partial(_activations, reference), case)
    got = _activations(candidate, case, "float32")
    common = {name: tensor for name, tensor in exact.items() if name in got}
    comparisons = compare_tensors(got, common, errors, FORWARD)
    return next((comparison for comparison in comparisons if not comparison.passed), None)


def explain(candidate: type[Model], reference: type[Model], case: Case) -> str:
    """One clause of evidence."""
    found = first_disagreement(candidate, reference, case)
    if found is None:
        return "the activations agree"
    return f"first leaves the reference at {found}"


def _activations(model: type[Model], case: Case, dtype: str) -> Arrays:
    """Copies by common name, in the order of the network."""
    training = Operation.TRAINING in model.parts
    operation = Operation.TRAINING if training else Operation.EVALUATION
    built = build(model, case, dtype, operation=operation)
    built.forward(case.tokens)
    first, *layered, last = ACTIVATIONS
    layers = range(case.setting.config.num_layers)
    names = [first, *(f"layer{layer}.{name}" for layer in layers for name in layered), last]
    offered = built.activations()
    return {name: copy(offered[name]) for name in names if name in offered}
