"""A sample of mutants, tried by several processes.

Promises: the sample depends on the seed and on the mutants themselves, not on what else stands in
the sources: where a line is added, the others stay in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mutation.mutants import Mutant

HERE = Path(__file__).parent


@dataclass
class Campaign:
    """What was tried and what became of it."""

    mutants: list[Mutant]
    seconds: dict[str, float] = field(default_factory=dict)
    """By check, without a mutant."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Checks that do not pass without a mutant: they were left out."""
    outcomes: dict[int, dict[str, str | float]] = field(default_factory=dict)
    """By number: killer, how, seconds."""

    @property
    def survivors(self) -> list[Mutant]:
        """Those that no check saw."""
        return [mutant for mutant in self.mutants if not self.outcomes[mutant.number]["killer"]]


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them by chance."""
    return sorted(mutants, key=lambda mutant: mutant.rank(seed))[:count]


def run(
    folder: Path,
    mutants: list[Mutant],
    processes: int = 1,
    report: Callable[[Mutant, dict[str, str | float]], None] = lambda mutant, outcome: None,
    skip: Iterable[str] = (),
) -> Campaign:
    """Try these mutants of the build in `folder`."""
    campaign = Campaign(mutants)
    waiting = iter(mutants)
    paths = [str(folder), str(HERE.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}

    def work(_: int) -> None:
        command = [sys.executable, "-P", "-m", "mutation.trials", *skip]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment, cwd=folder
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            first = json.loads(server.stdout.readline())
            campaign.seconds |= first["seconds"]
            campaign.unfit |= first["unfit"]
            for mutant in waiting:
                server.stdin.write(f"{mutant.number}\n")
                outcome = json.loads(server.stdout.readline())
                campaign.outcomes[mutant.number] = outcome
                report(mutant, outcome)
            server.stdin.close()

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(work, range(processes)))
    return campaign
