"""Mutation testing of the code that judges: would its tests notice a wrong verdict?

Promises: cosmic-ray (https://cosmic-ray.readthedocs.io) makes its mutants in a copy of the
installed package; a sample of them is held against the tests of tolerances and verdicts, and each
survivor is named, with the reason why it makes no difference, from `equivalent.toml`, or as not
explained.
Leaves out: the kernels (`mutation.campaign`).

    python -m mutation.verdicts --help
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

import cllm

HERE = Path(__file__).parent
MODULES = ("tolerance.py", "judge.py", "verdict.py")
"""Of the harness."""

TESTS = ("test_tolerance.py", "test_verdict.py")

NO_MISTAKES = ["core/ReplaceBinaryOperator_BitOr_.*", "core/ReplaceComparisonOperator_Is_Eq"]
"""Operators that change annotations, and `is` between members of an enumeration."""


def prepare(folder: Path) -> Path:
    """Copy the package and the tests to `folder`; the configuration, which lies there too."""
    shutil.rmtree(folder, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(cllm.__file__).parent, folder / "cllm", ignore=ignore)
    (folder / "tests").mkdir()
    for name in TESTS:
        shutil.copy(HERE.parents[1] / name, folder / "tests")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n")
    python = json.dumps(f"{sys.executable} -m pytest -x -q -p no:cacheprovider tests")
    paths = json.dumps([f"cllm/harness/{name}" for name in MODULES])
    configuration = folder / "mutants.toml"
    configuration.write_text(
        f"[cosmic-ray]\nmodule-path = {paths}\ntimeout = 60.0\nexcluded-modules = []\n"
        f"test-command = {python}\n[cosmic-ray.distributor]\nname = 'local'\n"
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(NO_MISTAKES)}\n"
    )
    return configuration


def skip_most(database: WorkDB, count: int, seed: int) -> None:
    """Leave `count` mutants to be tried, by chance."""
    items = sorted(database.pending_work_items, key=_place)
    random.Random(seed).shuffle(items)
    for item in items[count:]:
        database.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED))


def _place(item: WorkItem) -> tuple[str, str, int]:
    mutation = item.mutations[0]
    return str(mutation.module_path), mutation.operator_name, mutation.occurrence


def key(result: WorkResult) -> str:
    """The line and what became of it."""
    lines = [line for line in (result.diff or "").splitlines() if line[:3] not in ("---", "+++")]
    old, new = (" ".join(s[1:] for s in lines if s[:1] == sign).split() for sign in "-+")
    return f"{' '.join(old)} -> {' '.join(new)}"


def report(tried: Iterable[WorkResult], seed: int) -> tuple[str, int]:
    """Markdown, and how many of the survivors nobody has explained."""
    groups = tomllib.loads((HERE / "equivalent.toml").read_text())["verdict"]
    known = {mutant: group["reason"] for group in groups for mutant in group["mutants"]}
    results = list(tried)
    left = sorted(key(one) for one in results if one.test_outcome is TestOutcome.SURVIVED)
    killed = len(results) - len(left)
    new = [mutant for mutant in left if mutant not in known]
    text = [
        "# Mutation testing of the code that judges",
        "",
        "Mutants that cosmic-ray makes of the harness's tolerances and verdicts, each held against",
        "their tests. `tox -e verdicts` repeats it.",
        "",
        f"{killed} of {len(results)} mutants killed ({killed / len(results):.1%}), {len(left)} "
        f"survived, {len(new)} of them not explained: a sample, seed {seed}.",
        "",
        *(f"- `{mutant}`: {known.get(mutant, '**not explained**')}" for mutant in left),
        "",
    ]
    return "\n".join(text), len(new)


def main() -> int:
    """0 where every mutant was killed or is known to make no difference, else 1."""
    parser = argparse.ArgumentParser(prog="python -m mutation.verdicts")
    parser.add_argument("--sample", type=int, default=200, help="how many mutants (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the sample (%(default)s)")
    parser.add_argument("--folder", type=Path, required=True, help="where to work; it is emptied")
    parser.add_argument("--report", type=Path, help="write the result here, as Markdown")
    options = parser.parse_args()
    configuration = prepare(options.folder)
    session = options.folder / "session.sqlite"
    both = [str(configuration.name), str(session.name)]

    def tool(*command: str) -> None:
        scripts = Path(sys.executable).parent
        subprocess.run([scripts / command[0], *command[1:]], cwd=options.folder, check=True)

    tool("cosmic-ray", "init", *both)
    tool("cr-filter-operators", session.name, configuration.name)
    with use_db(session) as database:
        skip_most(database, options.sample, options.seed)
    tool("cosmic-ray", "exec", *both)
    with use_db(session) as database:
        results = [result for _, result in database.completed_work_items]
    tried = [one for one in results if one.worker_outcome is not WorkerOutcome.SKIPPED]
    text, unexplained = report(tried, options.seed)
    print(text)
    if options.report:
        options.report.write_text(text)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
