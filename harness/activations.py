"""Where a candidate first leaves the reference: layer, operation, index.

Promises: activations are compared after `forward`, in the order of the network, over the common
names that both plans offer.
"""

from __future__ import annotations

import re
from functools import partial

from cllm.harness.cases import Case
from cllm.harness.runner import Arrays, build, calibrate, copy
from cllm.harness.tolerance import FORWARD, Comparison, compare_tensors
from cllm.model import ACTIVATIONS, Model
from cllm.plan import Operation

OPERATIONS = {
    "x0": "embedding",
    "ln1": "first layer norm",
    "qkv": "queries, keys and values",
    "attn": "attention",
    "x_mid": "residual of the attention",
    "ln2": "second layer norm",
    "ff": "feed-forward",
    "x_out": "residual of the feed-forward",
    "logits": "unembedding",
}
"""What computes each activation."""


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
    """One clause of evidence; empty where the forward pass agrees."""
    found = first_disagreement(candidate, reference, case)
    return (
        f"the forward pass first leaves the reference at {place(found.tensor)}: {found}"
        if found
        else ""
    )


def place(activation: str) -> str:
    """Layer and operation of what is called "layer1.ff"."""
    prefix, _, name = activation.rpartition(".")
    layer = re.sub(r"layer(\d+)", r"layer \1, ", prefix)
    return layer + OPERATIONS.get(name, name)


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
