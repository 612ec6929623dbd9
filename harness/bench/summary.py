"""A contest in figures: median rates, ratios with their intervals, shares of the peak.

Promises: numbers, strings and lists alone, as `performance.json` holds them; a ratio is taken
block by block, between visits of the same block.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from cllm.harness.bench import bandwidth
from cllm.harness.bench.contest import Contest, Entry, Status
from cllm.harness.bench.flops import step_flops, utilization
from cllm.harness.benchmark import median_ratio

Summary = dict[str, Any]


def summarize(contest: Contest, seed: int) -> Summary:
    """What is kept of a contest."""
    setting = contest.configuration.setting
    peaks = {str(threads): median(found) for threads, found in contest.peaks.items()}
    reads = {str(threads): median(found) for threads, found in contest.reads.items()}
    best = best_peer(contest.entries)
    entries = []
    for entry in contest.entries:
        row = entry.to_dict() | {"rate": rate(entry), "mfu": None, "mbu": None, "versus": {}}
        if entry.status is Status.RACED and not entry.is_peer:
            row["versus"] = {
                str(other.competitor): compare(entry, other, seed)
                for other in contest.entries
                if other is not entry and other.status is Status.RACED
            }
        threads = str(entry.competitor.threads)
        if row["rate"] and contest.kind.is_training and threads in peaks:
            row["mfu"] = utilization(setting, row["rate"], peaks[threads])
        if row["rate"] and not contest.kind.is_training and threads in reads:
            row["mbu"] = bandwidth.utilization(setting, row["rate"], reads[threads])
        entries.append({"name": str(entry.competitor), **row})
    hand_overs = [found for found in contest.hand_overs if found is not None]
    return {
        "configuration": contest.configuration.name,
        "kind": str(contest.kind),
        "sizes": setting.config.sizes,
        "batch_size": setting.batch_size,
        "seq_len": setting.seq_len,
        "calls_at_once": contest.configuration.calls_at_once,
        "step_flops": step_flops(setting),
        "token_bytes": bandwidth.token_bytes(setting),
        "peaks": peaks,
        "peak_blocks": {str(threads): found for threads, found in contest.peaks.items()},
        "reads": reads,
        "read_blocks": {str(threads): found for threads, found in contest.reads.items()},
        "hand_over_seconds": median(hand_overs) if hand_overs else None,
        "hand_over_blocks": contest.hand_overs,
        "best_peer": None if best is None else str(best.competitor),
        "entries": entries,
    }


def rate(entry: Entry) -> float | None:
    """The median over blocks, or that of the trial for what was not raced."""
    found = [rate for rate in entry.rates if rate is not None]
    if entry.status is Status.RACED and found:
        return median(found)
    return entry.trial if entry.status is Status.TRIED else None


def best_peer(entries: Sequence[Entry]) -> Entry | None:
    """The fastest peer of those that were raced."""
    raced = [entry for entry in entries if entry.is_peer and entry.status is Status.RACED]
    return max(raced, key=lambda entry: rate(entry) or 0.0, default=None)


def compare(entry: Entry, other: Entry, seed: int) -> list[float]:
    """Median ratio of the rates over the blocks that both took part in, low and high end."""
    pairs = [
        (mine, theirs)
        for mine, theirs in zip(entry.rates, other.rates, strict=True)
        if mine is not None and theirs is not None
    ]
    mine, theirs = (list(rates) for rates in zip(*pairs, strict=True))
    return list(median_ratio(mine, theirs, seed))
