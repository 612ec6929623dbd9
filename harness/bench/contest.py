"""One configuration, one kind of work, every competitor: checked, chosen, then raced.

Promises: each competitor works in a process of its own and is first held against the reference in
float64; of a library the fastest variants are found in short trials; they and the models are
visited in turn, block by block, every other block backwards, so that a drift of the machine falls
on all alike; the machine's peak is measured again in each block. What fails is an entry with its
reason.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cllm.harness import probe
from cllm.harness.bench.bandwidth import read_array, read_bandwidth
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.process import Worker, WorkerFailed
from cllm.harness.bench.task import Kind
from cllm.harness.benchmark import Progress
from cllm.harness.peers import Competitor

TOLERANCE = 1e-4
"""Relative, for the first losses and for logits; float32 is off by some 1e-6 there."""

BUILD_LIMIT = 300.0
"""Seconds to import, build, compile and take the first steps."""

VISIT_LIMIT = 60.0
"""Seconds for a visit beyond those asked for; one step of the reference may take several."""

TRIALS = 2
"""Visits of a trial, of which the faster counts."""

CLOSE = 0.9
"""Variants of a library that reach this share of its fastest one's trial are raced as well."""

SLOW_SECONDS = 3.0
"""A competitor whose one call takes longer is visited in every `SELDOM`th block only."""
SELDOM = 5


class Status(enum.StrEnum):
    """What became of a competitor."""

    RACED = "raced"
    TRIED = "tried"
    """Another variant of the same library was faster."""
    REFUSED = "refused"
    """It computes something else: its speed does not count."""
    FAILED = "failed"
    """It crashed, hung, or cannot be built."""


@dataclass
class Entry:
    """A competitor and what was seen of it."""

    competitor: Competitor
    is_peer: bool
    status: Status = Status.TRIED
    reason: str = ""
    startup: dict[str, float] = field(default_factory=dict)
    """Seconds until the first result: `start`, to import and build, and `first_call`."""
    trial: float | None = None
    """Steps or tokens per second of the trial."""
    rates: list[float | None] = field(default_factory=list)
    """Steps or tokens per second, block by block; None where it was not visited."""

    def to_dict(self) -> dict[str, Any]:
        """Without what only a worker needs."""
        c = self.competitor
        return {
            "library": c.library,
            "variant": c.variant,
            "threads": c.threads,
            "environment": dict(c.environment),
            "is_peer": self.is_peer,
            "status": str(self.status),
            "reason": self.reason,
            "build_seconds": sum(self.startup.values()) if self.startup else None,
            "startup": self.startup,
            "trial": self.trial,
            "rates": self.rates,
        }


@dataclass
class Contest:
    """Everything that was seen of one configuration and kind."""

    configuration: Configuration
    kind: Kind
    entries: list[Entry]
    peaks: dict[int, list[float]] = field(default_factory=dict)
    """FLOP/s by number of threads, block by block."""
    hand_overs: list[float | None] = field(default_factory=list)
    """Seconds from core to core, block by block."""
    reads: dict[int, list[float]] = field(default_factory=dict)
    """Bytes/s read by number of threads, block by block, from as many bytes as a token needs."""


def hold(
    configuration: Configuration,
    kind: Kind,
    models: Sequence[Competitor],
    peers: Sequence[Competitor],
    expected: Sequence[float] | None,
    *,
    seconds: float,
    blocks: int,
    seed: int,
    progress: Progress,
) -> Contest:
    """Try every competitor, and race the models and the best variant of each peer.

    `expected` are the first results, `None` where they are a matter of chance. A visit lasts
    about `seconds`.
    """
    entries = [Entry(c, False) for c in models] + [Entry(c, True) for c in peers]
    contest = Contest(configuration, kind, entries)
    stage, total = f"{configuration.name} {kind}", len(entries) + blocks
    workers: dict[int, Worker] = {}  # by the place of their entry
    with ExitStack() as stack:
        for place, entry in enumerate(entries):
            progress(f"{stage}: {entry.competitor}", place, total)
            workers[place] = stack.enter_context(Worker.start(entry.competitor.environment))
            _try(entry, workers[place], contest, expected, seconds, seed)
            for other in [at for at in workers if not is_in_front(entries[at], entries)]:
                workers.pop(other).close()
        for place in workers:
            entries[place].status = Status.RACED
        threads = sorted({c.threads for c in models})
        arrays = {}
        if not kind.is_training:
            arrays = {count: read_array(configuration.setting, count) for count in threads}
        for block in range(blocks):
            progress(f"{stage}: racing", len(entries) + block, total)
            for count in threads:
                contest.peaks.setdefault(count, []).append(probe.fma_peak(count))
            for count, array in arrays.items():
                contest.reads.setdefault(count, []).append(read_bandwidth(count, array))
            contest.hand_overs.append(probe.hand_over())
            for place in list(workers)[:: 1 if block % 2 == 0 else -1]:
                rate = _visit(entries[place], workers[place], seconds, block)
                entries[place].rates.append(rate)
    progress(f"{stage}: done", total, total)
    return contest


def is_in_front(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Whether it may be the fastest of its library; each model and thread count is its own."""
    if entry.trial is None:
        return False
    library = entry.competitor.library
    rivals = [e.trial for e in entries if e.is_peer and e.competitor.library == library and e.trial]
    return not entry.is_peer or entry.trial >= CLOSE * max(rivals)


def _try(
    entry: Entry,
    worker: Worker,
    contest: Contest,
    expected: Sequence[float] | None,
    seconds: float,
    seed: int,
) -> None:
    """Build, check and visit; an entry that stays in the contest has a trial."""
    try:
        built = build(worker, entry.competitor, contest.configuration, contest.kind, seed)
        entry.startup = built["startup"]
        if reason := difference(contest, built["results"], expected):
            entry.status, entry.reason = Status.REFUSED, reason
            return
        visits = [worker.ask("visit", VISIT_LIMIT, seconds=seconds) for _ in range(TRIALS)]
    except WorkerFailed as error:
        entry.status, entry.reason = Status.FAILED, str(error)
        return
    entry.trial = max(visit["rate"] for visit in visits)


def build(
    worker: Worker, competitor: Competitor, configuration: Configuration, kind: Kind, seed: int
) -> dict[str, Any]:
    """What a worker replies to the building of its task: `results` and `startup`."""
    setting = configuration.setting
    return worker.ask(
        "build",
        BUILD_LIMIT,
        module=competitor.module,
        kind=kind,
        sizes=list(setting.config.sizes.values()),
        batch=[setting.batch_size, setting.seq_len],
        seed=seed,
        calls_at_once=configuration.calls_at_once,
        options=dict(competitor.options),
    )


def difference(contest: Contest, results: Sequence[float], expected: Sequence[float] | None) -> str:
    """What is wrong with the first results; nothing: an empty text.

    Losses, each to `TOLERANCE` of itself. Of a generation first the tokens, which must be equal,
    or exist where chance has drawn them, then the logits after them, to `TOLERANCE` of the largest.
    """
    setting, found = contest.configuration.setting, np.asarray(results)
    drawn = 0 if contest.kind.is_training else setting.seq_len - 1
    if expected is None:
        size = setting.config.vocab_size
        within = (found[:drawn] >= 0) & (found[:drawn] < size)
        return "" if within.all() else f"tokens outside 0..{size - 1}"
    wanted = np.asarray(expected)
    if found.shape != wanted.shape:
        return f"{len(found)} results, must be {len(wanted)}"
    scale = np.abs(wanted) if contest.kind.is_training else np.abs(wanted[drawn:]).max()
    allowed = np.broadcast_to(TOLERANCE * scale, wanted.shape).copy()
    allowed[:drawn] = 0.0
    wrong = ~(np.abs(found - wanted) <= allowed)  # NaN is wrong
    if not wrong.any():
        return ""
    first = int(wrong.argmax())
    what = "the loss of step" if contest.kind.is_training else "token"
    what, at = (
        (what, first) if contest.kind.is_training or first < drawn else ("logit", first - drawn)
    )
    return f"{what} {at + 1} is {found[first]:.9g}, must be {wanted[first]:.9g}"


def _visit(entry: Entry, worker: Worker, seconds: float, block: int) -> float | None:
    """Its rate, unless it is not its turn."""
    if entry.status is Status.FAILED:
        return None
    if block % SELDOM and entry.trial is not None and entry.trial * SLOW_SECONDS < 1:
        return None
    try:
        rate: float = worker.ask("visit", VISIT_LIMIT + seconds, seconds=seconds)["rate"]
    except WorkerFailed as error:
        entry.status, entry.reason = Status.FAILED, str(error)
        return None
    return rate
