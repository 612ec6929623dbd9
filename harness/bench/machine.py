"""The machine of a run: what it is, what it could do, and which revision it ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cllm.harness.bench.figures import share, spread, table
from cllm.harness.words import threads_of
from cllm.plan import format_bytes

Result = dict[str, Any]
Row = dict[str, Any]

CROWDED = 0.8
"""Share of the multiply-adds of single threads that as many together reach on cores of their own.

Clocks fall by some percent when all cores work.
"""


def machine_section(result: Result) -> Iterator[str]:
    """The section, paragraph by paragraph."""
    machine, probe = result["machine"], result["probe"]
    yield "## Machine"
    yield (
        f"{machine['cpu']}, {machine['usable_cores']} usable cores, "
        f"{format_bytes(machine['memory_bytes'])} memory, {machine['system']}; "
        f"{', '.join(_versions(result))}; "
        f"instruction set {probe['level']}. {_commit(result['commit'])} Measured in the same run:"
    )
    places = [*next(iter(probe["read"].values()))]
    yield table(
        ["threads", "multiply-adds, GFLOP/s", *(f"reads from {p}, GB/s" for p in places)],
        (
            [threads, f"{peak / 1e9:.0f}"]
            + [f"{probe['read'][threads][place] / 1e9:.0f}" for place in places]
            for threads, peak in probe["fma"].items()
        ),
    )
    counts = list(probe["fma"])
    yield (
        "Asked again in each block (median, lowest to highest); core to core is the time until a "
        "cache line that one core has written is read by the other:"
    )
    yield table(
        ["", *(f"GFLOP/s, {threads_of(count)}" for count in counts), "core to core, ns"],
        (
            [f"{contest['configuration']} {contest['kind']}"]
            + [spread(contest["peak_blocks"].get(count, []), 1e-9) for count in counts]
            + [spread(contest["hand_over_blocks"], 1e9)]
            for contest in result["contests"]
        ),
    )
    if crowded := [contest for contest in result["contests"] if is_crowded(contest)]:
        names = ", ".join(f"{contest['configuration']} {contest['kind']}" for contest in crowded)
        yield (
            "**The cores were not all there**: in some blocks the threads together reached less "
            f"than {share(CROWDED)} of the multiply-adds of as many single ones. What several "
            f"threads do is not to be judged by {names}."
        )


def _versions(result: Result) -> Iterator[str]:
    """Python, libraries, compiler."""
    machine = result["machine"]
    yield f"{machine['python']}, NumPy {machine['numpy']} with {machine['blas']}"
    yield f"cllm {machine['cllm']}{machine['compiler'] and ' by '}{machine['compiler']}"
    yield from (f"{library} {version}" for library, version in result["peer_versions"].items())


def _commit(commit: Row | None) -> str:
    """The revision that was measured."""
    if commit is None:
        return "Not in a git repository."
    branch = f" on {commit['branch']}" if commit["branch"] else ""
    changed = ", with changes that are not committed" if commit["dirty"] else ""
    return f"Commit `{commit['sha'][:12]}`{branch} of {commit['time'][:10]}{changed}."


def is_crowded(contest: Row) -> bool:
    """Whether several threads had much less than so many cores, in the median block or worse."""
    peaks = {int(threads): sorted(found) for threads, found in contest["peak_blocks"].items()}
    if 1 not in peaks:
        return False
    single = peaks[1][len(peaks[1]) // 2]
    # a quarter of the blocks: a single one does not move a median
    return any(
        found[len(found) // 4] < CROWDED * threads * single for threads, found in peaks.items()
    )
