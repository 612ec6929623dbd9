"""The harness: holds any implementation against the reference.

`CHECKS` is the table of checks by dotted name; each is called as `check(candidate, reference,
seed)` and gives a `Verdict`. `cllm.harness.verify` trains two models side by side on real text,
runs every check and measures both; `cllm.harness.report` writes it down.
"""

from cllm.harness.checks import Check
from cllm.harness.table import CHECKS
from cllm.harness.verdict import Status, Verdict, exit_status

__all__ = ["CHECKS", "Check", "Status", "Verdict", "exit_status"]
