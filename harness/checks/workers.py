"""Checks of the threads at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm.config import Config
from cllm.harness.cases import Setting, draw_case, draw_updates
from cllm.harness.checks.check import check
from cllm.harness.differences import first_of
from cllm.harness.guard import Arena, Side
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model
from cllm.plan import Operation

THREADS = (2, 12)
SETTING = Setting(Config(250, 48, 2, 3, 96), 24, 16)
"""Work enough for the most threads: rows for each, and each row of logits some pages."""

COPIED = ("tokens", "targets")
"""Filled by the calling thread, whoever works."""

CALLS = 20
"""Work that is dealt out as it goes may leave a thread without any in one call, not in so many."""


@check("threads.workers", Operation.EVALUATION)
def workers(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """Every planned thread of a model that declares itself parallel writes something.

    Seen page by page, as the thread that is the first to write to it, in forward, in backward and
    in a step; the call with the most threads counts.
    """
    if not candidate.parallel:
        evidence = f"{candidate.__name__} does not declare that it uses the planned threads"
        return Verdict(Status.NOT_APPLICABLE, evidence)

    def problems() -> Iterator[str]:
        for threads in THREADS:
            yield from _idle(candidate, threads, seed)

    planned = " and ".join(map(str, THREADS))
    return first_of(problems(), f"all of {planned} planned threads wrote to the buffers")


def _idle(candidate: type[Model], threads: int, seed: int) -> Iterator[str]:
    """Each pass in which fewer threads than planned have written to any buffer."""
    case = draw_case(SETTING, seed)
    training = Operation.TRAINING in candidate.parts
    plan = candidate.plan(
        case.setting.config,
        case.setting.batch_size,
        case.setting.seq_len,
        operations=(Operation.TRAINING if training else Operation.EVALUATION,),
        threads=threads,
    )
    watched = [name for name in plan.buffers if name not in COPIED]
    [update] = draw_updates(np.random.default_rng(seed), 1, 1)
    with Arena(plan.buffers.values(), Side.START) as arena:
        model = candidate(plan, dict(arena.buffers))
        model.load(case.parameters)

        def forward_and_loss() -> None:
            model.forward(case.tokens)
            model.loss(case.targets)

        passes: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "forward": (lambda: None, lambda: model.forward(case.tokens)),
        }
        if training:
            passes["backward"] = (forward_and_loss, model.backward)
            passes["step"] = (
                lambda: None,
                lambda: model.step(case.tokens, case.targets, update),
            )
        for name, (before, run) in passes.items():
            most = 0
            for _ in range(CALLS):
                before()
                with arena.watch(*watched) as writers:
                    run()
                most = max(most, len(set().union(*writers.values())))
                if most >= threads:
                    break
            else:
                yield f"{name}: {most} of {threads} planned threads wrote to the buffers"
