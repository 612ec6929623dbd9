"""The harness: holds any implementation (the candidate) against the reference.

`checks/` holds what is checked, one file for each family; the rest is what they stand on, in this
order: `cases` (random inputs), `runner` (a model on a case), `tolerance` (one result against the
reference's), `judge` (all results of a check), `verdict`; `guard/` (buffers between unreadable
pages) and `isolation` (a process of its own for each check).

`conformance/` is `cllm check` and the plugin of pytest; `faults/` are planted defects, and
`detection/` shows that the checks catch them. `cllm.harness.verify` runs a model's checks, trains
two models side by side on real text (`lockstep`) and measures both (`benchmark`);
`cllm.harness.report` writes it down. `pairs` is the table of operations that both models have.

What is exported is imported when it is first asked for: the plugin is loaded by every pytest.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cllm.harness.bench.parametrize import parametrize_with_benchmarks
    from cllm.harness.checks import CHECKS, Check
    from cllm.harness.conformance.parametrize import parametrize_with_checks
    from cllm.harness.pairs.pair import Pair
    from cllm.harness.trainer.parts import TrainerParts
    from cllm.harness.verdict import Status, Verdict, exit_status

__all__ = [
    "CHECKS",
    "Check",
    "Pair",
    "Status",
    "TrainerParts",
    "Verdict",
    "exit_status",
    "parametrize_with_benchmarks",
    "parametrize_with_checks",
]

_HOMES = {
    "CHECKS": "checks",
    "Check": "checks",
    "Pair": "pairs.pair",
    "TrainerParts": "trainer.parts",
    "parametrize_with_benchmarks": "bench.parametrize",
    "parametrize_with_checks": "conformance.parametrize",
}  # the others live in cllm.harness.verdict


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'cllm.harness' has no attribute {name!r}")
    return getattr(import_module(f"cllm.harness.{_HOMES.get(name, 'verdict')}"), name)
