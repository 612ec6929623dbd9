"""The check of who may free what, and when."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial

from cllm.config import Config
from cllm.harness.cases import Setting, draw_case
from cllm.harness.checks.check import check
from cllm.harness.differences import differences, first_of
from cllm.harness.guard import Arena, Side
from cllm.harness.guard.guarded import Lent, plan_of, run
from cllm.harness.guard.life import Results
from cllm.harness.verdict import Verdict
from cllm.model import Model
from cllm.plan import Operation

SETTING = Setting(Config(29, 12, 3, 2, 17), 5, 7)


@check("buffers.freed", Operation.EVALUATION)
def freed(candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
    """What is handed in is not freed, and not used any more once its caller has let go of it.

    Each array of the caller's is unreadable after the call, buffers as soon as neither model nor
    caller holds them; models come and go over the same buffers, in any order.
    """
    case = draw_case(SETTING, seed)
    plan = plan_of(candidate, case, 1)

    def problems() -> Iterator[str]:
        for kept in (True, False):
            arena = Arena(plan.buffers.values(), Side.START)
            models = [candidate(plan, dict(arena.buffers)) for _ in range(3)]
            expected = run(models[0], case, Lent(case))
            for drop in (0, -1):
                yield from _changed_by(arena.buffers, partial(models.pop, drop))
                if not kept:
                    arena.close()
                got = run(models[0], case, Lent(case))
                yield from differences(got, expected, "but {} before another model was dropped")
            yield from _changed_by(arena.buffers, models.pop)

    return first_of(problems(), "buffers outlived models, and models the caller's hold on buffers")


def _changed_by(buffers: Results, drop: Callable[[], Model]) -> Iterator[str]:
    """What changes in buffers, all of which are read and written, when a model is dropped."""
    before = {name: array.copy() for name, array in buffers.items()}
    drop()
    gc.collect()
    yield from differences(buffers, before, "but {} before a model was dropped")
    for name, array in buffers.items():
        array[...] = before[name]
