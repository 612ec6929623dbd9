"""The harness is tested itself: each check has faults that it catches, and honest models pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from cllm.harness import CHECKS, Status
from cllm.harness.faults import FAULTS
from cllm.harness.faults.catalogue import Array, Patched
from cllm.harness.faults.gradients import TiedEmbeddingHalfDone
from cllm.plan import Operation
from cllm.reference import Model as Reference
from cllm.registry import find_model

CAUGHT = [(fault.candidate, name) for fault in FAULTS.values() for name in fault.caught_by]


@pytest.mark.parametrize(
    ("model", "name"), CAUGHT, ids=[f"{model.__name__}-{name}" for model, name in CAUGHT]
)
def test_fault_is_caught(model: type[Reference], name: str) -> None:
    verdict = CHECKS[name](model, Reference, 0)
    assert verdict.status is Status.FAIL, verdict.evidence


def test_every_check_has_a_fault() -> None:
    assert {name for _, name in CAUGHT} == set(CHECKS)


def test_a_wrong_reference_is_caught() -> None:
    """The complex step needs no backward pass, so it tells who of the two is wrong."""
    verdict = CHECKS["gradients.complex_step"](Reference, TiedEmbeddingHalfDone, 0)
    assert verdict.status is Status.FAIL
    assert "reference's embedding" in verdict.evidence


def sequential(x: Array, weight: Array) -> Array:
    """The product x W, one summand after the other."""
    total = np.zeros((*x.shape[:-1], weight.shape[-1]), x.dtype)
    for k in reversed(range(x.shape[-1])):
        total += x[..., k, None] * weight[k]
    return total


class SumsInAnotherOrder(Patched):
    """Right, with the rounding errors of a plain loop."""

    @staticmethod
    def linear(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
        out[...] = sequential(x, weight)
        if bias is not None:
            out += bias

    @staticmethod
    def unembedding(logits: Array, x: Array, weight: Array) -> None:
        logits[...] = sequential(x, weight.T)

    @staticmethod
    def linear_backward(
        dx: Array, dweight: Array, dbias: Array | None, dout: Array, x: Array, weight: Array
    ) -> None:
        dx[...] = sequential(dout, weight.T)
        rows = dout.reshape(-1, dout.shape[-1])
        for row, given in zip(rows, x.reshape(-1, x.shape[-1]), strict=True):
            dweight += given[:, None] * row
            if dbias is not None:
                dbias += row

    functions: ClassVar = {
        "linear_forward": linear,
        "unembedding_forward": unembedding,
        "linear_backward": linear_backward,
    }


class ComputesInFloat64(Reference):
    """Right, and better than asked: every activation passes through float64."""

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        wide = Reference.create(
            self.config,
            *(self.planned.batch_size, self.planned.seq_len),
            self.parameters,
            dtype="float64",
        )
        a = self.activations()
        wide.forward(a["tokens"].copy())
        wide.loss(a["targets"].copy(), divisor)
        wide.zero_gradients()
        wide.backward()
        self.gradients[...] += wide.gradients.astype(np.float32)


HONEST = [(find_model(model), name) for model in ("reference", "optimized") for name in CHECKS]
ODD = {
    SumsInAnotherOrder: (
        "loss.value",
        "loss.trajectory",
        "gradients.reference",
        "generation.cache",
    ),
    ComputesInFloat64: ("gradients.reference", "gradients.accumulate", "gradients.complex_step"),
}
HONEST += [(model, name) for model, names in ODD.items() for name in names]


@pytest.mark.parametrize(
    ("model", "name"),
    HONEST,
    ids=[f"{m.__module__}.{m.__name__}-{n}" for m, n in HONEST],
)
def test_honest_candidate_passes(model: type[Reference], name: str) -> None:
    verdict = CHECKS[name](model, Reference, 0)
    assert verdict.status is Status.PASS, (verdict.evidence, verdict.details.get("traceback"))
    assert verdict.check == name


class EvaluatesOnly(Reference):
    parts = frozenset({Operation.EVALUATION})


@pytest.mark.parametrize("name", CHECKS)
def test_missing_part_is_not_applicable(name: str) -> None:
    verdict = CHECKS[name](EvaluatesOnly, Reference, 0)
    applies = CHECKS[name].needs == {Operation.EVALUATION}
    assert verdict.status is (Status.PASS if applies else Status.NOT_APPLICABLE)
    assert applies or "EvaluatesOnly does not offer" in verdict.evidence
