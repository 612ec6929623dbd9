"""The whole measurement: machine, training, generation, memory, import, in one run.

Promises: everything that `performance.json` holds; a peer that is not installed is named. Nothing
is written here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import cllm.harness.peers as registered
from cllm.harness import probe
from cllm.harness.bench import footprint
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.contest import Contest, build, hold
from cllm.harness.bench.flops import call_flops
from cllm.harness.bench.operations import measure_operations
from cllm.harness.bench.process import Worker
from cllm.harness.bench.summary import summarize
from cllm.harness.bench.task import Kind
from cllm.harness.benchmark import Progress
from cllm.harness.commit import commit_of, to_dict
from cllm.harness.machine import fingerprint
from cllm.harness.peers import Competitor, Peer, model
from cllm.registry import find_model

BLOCKS = 11
OPERATIONS = "medium"
"""The sizes of single operations, where that configuration is measured."""
REFERENCE = "reference"


def measure(
    models: Sequence[str],
    configurations: Sequence[Configuration],
    threads: Sequence[int],
    *,
    peers: bool,
    seconds: float,
    seed: int,
    progress: Progress,
    file: Path | None = None,
) -> dict[str, Any]:
    """What `performance.json` holds: numbers, strings and lists alone.

    `file` is where configurations of one's own come from.
    """
    sources = [source_of(name) for name in models]  # refused now, not after an hour
    start = time.monotonic()
    wanted = registered.PEERS if peers else ()
    there = [peer for peer in wanted if peer.is_installed()]
    bench = _Run(models, sorted(set(threads)), there, seconds, seed, progress)
    progress("probing the machine", 0, 1)
    result: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": fingerprint(),
        "commit": to_dict(commit_of(sources[0])),
        "settings": {
            "models": list(models),
            "configurations": [c.name for c in configurations],
            "file": None if file is None else str(file),
            "threads": bench.threads,
            "peers": peers,
            "seconds": seconds,
            "seed": seed,
            "blocks": BLOCKS,
        },
        "peer_versions": {peer.library: _version(peer) for peer in there},
        "missing_peers": [peer.library for peer in wanted if peer not in there],
        "probe": probe.survey(bench.threads),
    }
    result["contests"] = [
        summarize(contest, seed)
        for configuration in configurations
        for contest in bench.contests(configuration)
    ]
    progress("single operations", 0, 1)
    sizes = next((c for c in configurations if c.name == OPERATIONS), configurations[0])
    result["operations"] = {
        "configuration": sizes.name,
        "rows": measure_operations(sizes, seed),
    }
    progress("memory and import", 0, 1)
    result["memory"] = [
        footprint.memory(name, bench.threads[-1], configuration)
        for name in models
        for configuration in configurations
    ]
    result["imports"] = [footprint.imports(name) for name in models]
    progress("memory and import", 1, 1)
    result["seconds"] = time.monotonic() - start
    return result


def source_of(name: str) -> Path | None:
    """The file that defines a model; None where none does. Raises `CllmError` as `find_model`."""
    file = getattr(sys.modules.get(find_model(name).__module__), "__file__", None)
    return Path(file) if file else None


def _version(peer: Peer) -> str:
    """Of the installed package; empty where it tells none."""
    try:
        return metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return ""


class _Run:
    """The contests of one run."""

    def __init__(
        self,
        models: Sequence[str],
        threads: list[int],
        peers: Sequence[Peer],
        seconds: float,
        seed: int,
        progress: Progress,
    ) -> None:
        self._models, self.threads, self._peers = models, threads, peers
        self._seconds, self._seed, self._progress = seconds, seed, progress

    def contests(self, configuration: Configuration) -> Iterator[Contest]:
        """One for each kind of work that the configuration asks for."""
        expected: dict[Kind, list[float]] = {}
        for kind in configuration.kinds:
            if (checked := kind.checked_as) is not None and checked not in expected:
                expected[checked] = self._expected(configuration, checked)
            yield self._contest(configuration, kind, expected.get(checked) if checked else None)

    def _expected(self, configuration: Configuration, kind: Kind) -> list[float]:
        """The first results of the reference in float64."""
        self._progress(f"{configuration.name} {kind}: the reference in float64", 0, 1)
        exact = model(REFERENCE, 1, "float64")
        with Worker(exact.environment) as worker:
            results: list[float] = build(worker, exact, configuration, kind, self._seed)["results"]
        return results

    def _contest(
        self, configuration: Configuration, kind: Kind, expected: Sequence[float] | None
    ) -> Contest:
        most = self.threads[-1]
        models: list[Competitor] = [
            model(name, count) for name in self._models for count in self.threads
        ]
        if kind in (Kind.STEP, Kind.GREEDY) and REFERENCE not in self._models:
            models.append(model(REFERENCE, most))
        flops = call_flops(configuration.setting, kind)
        peers = [c for peer in self._peers for c in peer.competitors(kind, most, flops)]
        return hold(
            configuration,
            kind,
            models,
            peers,
            expected,
            seconds=self._seconds,
            blocks=BLOCKS,
            seed=self._seed,
            progress=self._progress,
        )
