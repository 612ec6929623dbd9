"""The harness: holds any implementation (the candidate) against the reference.

`checks/` holds what is checked, one file for each family; the rest is what they stand on, in this
order: `cases` (random inputs), `runner` (a model on a case), `tolerance` (one result against the
reference's), `judge` (all results of a check), `verdict`. `cllm.harness.verify` runs every check,
trains two models side by side on real text (`lockstep`) and measures both (`benchmark`);
`cllm.harness.report` writes it down. `pairs` is the table of operations that both models have.
"""

from cllm.harness.checks import CHECKS, Check
from cllm.harness.verdict import Status, Verdict, exit_status

__all__ = ["CHECKS", "Check", "Status", "Verdict", "exit_status"]
