"""The command line: build, try a sample, say what survived."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mutation import campaign, report
from mutation.build import Build
from mutation.mutants import Mutant

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """0 where every mutant was killed or is known to make no difference, else 1."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    add = parser.add_argument
    add("--sample", type=int, default=300, help="how many mutants, 0 for all (%(default)s)")
    add("--seed", type=int, default=1, help="chooses the sample (%(default)s)")
    add("--only", default="", help="those whose description contains this")
    add("--processes", type=int, default=1, help="how many at once (%(default)s)")
    add("--folder", type=Path, default=ROOT / "build" / "mutation", help="where to build")
    add("--report", type=Path, help="write the result here, as Markdown")
    add("--list", action="store_true", help="list the mutants and try none")
    options = parser.parse_args()
    build = Build(ROOT / "optimized", options.folder, options.processes)
    of = [mutant for mutant in build.mutants if options.only in str(mutant)]
    chosen = campaign.sample(of, options.sample or len(of), options.seed)
    print(f"{len(chosen)} of {len(build.mutants)} mutants", flush=True)
    if options.list:
        for mutant in chosen:
            print(mutant.number, mutant)
        return 0

    def say(mutant: Mutant, outcome: dict[str, str | float]) -> None:
        killer = outcome["killer"] or "SURVIVED"
        print(f"{outcome['seconds']:6.1f} s  {killer}: {mutant}", flush=True)

    found = campaign.run(build.folder, chosen, options.processes, say)
    if options.report:
        text = report.markdown(found, build.mutants, build.excluded, options.seed)
        options.report.write_text(text)
    for name, why in found.unfit.items():
        print(f"left out, as it does not pass without a mutant: {name}: {why}")
    for mutant in report.unexplained(found):
        print(f"survived: {mutant.key}")
    print(report.summary(found))
    return 1 if report.unexplained(found) or found.unfit else 0


if __name__ == "__main__":
    sys.exit(main())
