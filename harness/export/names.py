"""What a result is called where there is one name only, and how far its samples spread.

Promises: a name depends on what was measured alone, so that it is the same from run to run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import quantiles

from cllm.harness.history.record import Result, digest
from cllm.harness.publish.words import unique
from cllm.harness.words import threads_of

UNITS = {"s": "seconds", "B": "bytes"}
"""By the symbols of metrics, which are a unit, or one per another."""


def names(results: Sequence[Result]) -> list[str]:
    """`small step, optimized, 2 threads (steps/s)`, one for each result.

    Results that differ in their sizes alone get the digest of these as well; of those of one and
    the same series all but the first get a number, so that none takes another's place.
    """
    titles = [_title(result) for result in results]
    digests = [digest(result.configuration) for result in results]
    sizes = Counter(title for title, _ in set(zip(titles, digests, strict=True)))
    return unique(
        [
            title if sizes[title] == 1 else f"{title} {found}"
            for title, found in zip(titles, digests, strict=True)
        ]
    )


def _title(result: Result) -> str:
    run = f"{result.benchmark}, {result.candidate}, {threads_of(result.threads)}"
    return f"{run} ({result.metric})"


def unit(metric: str) -> str:
    """A metric in words: `steps_per_second`, `seconds`, `bytes`."""
    top, slash, bottom = metric.partition("/")
    parts = [UNITS.get(top, top)]
    if slash:
        parts += ["per", UNITS.get(bottom, bottom).removesuffix("s")]
    return "_".join(parts)


def quartiles(result: Result) -> tuple[float, float] | None:
    """A quarter of the samples lies below the first, a quarter above the second."""
    if len(result.samples) < 2:
        return None
    low, _, high = quantiles(result.samples, n=4, method="inclusive")
    return low, high
