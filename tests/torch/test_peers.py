"""The peers of the benchmark against the reference, in every variant; and that the check bites.

Not part of the plain test run: PyTorch and JAX are needed, and have a tox environment of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as fn

from cllm.config import Config
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.contest import Contest, Status, build, difference, hold
from cllm.harness.bench.process import Worker
from cllm.harness.bench.task import Kind
from cllm.harness.bench.workload import draw_workload
from cllm.harness.cases import Setting
from cllm.harness.peers import PEERS, SMALL_STEP, Peer, model, pytorch

LITTLE = Configuration("little", Setting(Config(37, 12, 2, 3, 20), 3, 7), 3, True, 1.0, 0.5)


def expected(kind: Kind) -> list[float] | None:
    if kind is Kind.SAMPLED:
        return None
    with Worker.start({}) as worker:
        exact = model("reference", 1, "float64")
        found: list[float] = build(worker, exact, LITTLE, kind, 0)["results"]
    return found


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.library)
def test_every_variant_computes_the_same(peer: Peer, kind: Kind) -> None:
    """One thread each: how many there are changes no result, and compiling takes time."""
    competitors = {
        each.variant: each
        for flops in (1, SMALL_STEP)
        for each in peer.competitors(kind, 1, int(flops))
    }
    found = hold(
        LITTLE,
        kind,
        [],
        [*competitors.values()],
        expected(kind),
        seconds=0.01,
        blocks=1,
        seed=0,
        progress=lambda *_: None,
    )
    for entry in found.entries:
        assert entry.status in (Status.RACED, Status.TRIED), f"{entry.competitor}: {entry.reason}"
        assert {*entry.startup} == {"start", "first_call"}


def eager_difference(kind: Kind) -> str:
    """What is wrong with PyTorch, eager, in this process."""
    workload = draw_workload(LITTLE.setting, 0, LITTLE.calls_at_once)
    task = pytorch.build(kind, workload, "eager", 1)
    results: list[float] = []
    for _ in range(3 if kind.is_training else 1):
        task.begin()
        results += task.evidence(task.call()).tolist()
    return difference(Contest(LITTLE, kind, []), results, expected(kind))


def looking_ahead(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return fn.scaled_dot_product_attention(q, k, v)


def gradient_descent(network: pytorch.Network, *, compiled: bool) -> pytorch.Step:
    """Gradient descent in place of Adam."""

    def step(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = network(tokens, targets)
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 1e-3 * parameter.grad
        network.zero_grad()
        return loss.detach()

    return step


def sigmoid_gelu(x: torch.Tensor, approximate: str) -> torch.Tensor:
    """The other approximation; the exact function is too near to be told apart by a loss."""
    return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("causal", looking_ahead),
        ("module_step", gradient_descent),
        ("fn.gelu", sigmoid_gelu),
        ("LEARNING_RATE", 2e-3),
        ("EPSILON", 1e-3),
    ],
)
def test_a_network_that_is_not_the_same_is_refused(
    name: str, fault: Callable[..., object] | float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert eager_difference(Kind.STEP) == ""
    monkeypatch.setattr(f"cllm.harness.peers.pytorch.{name}", fault)
    assert eager_difference(Kind.STEP).startswith("the loss of step")


def test_a_cache_that_is_not_the_same_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert eager_difference(Kind.GREEDY) == ""
    normal = fn.scaled_dot_product_attention

    def forgets(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return normal(q, k[:, :, -2:], v[:, :, -2:])

    monkeypatch.setattr("cllm.harness.peers.pytorch.fn.scaled_dot_product_attention", forgets)
    assert eager_difference(Kind.GREEDY) != ""
