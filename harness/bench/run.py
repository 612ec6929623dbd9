"""The whole measurement: machine, training, generation, memory, import, in one run.

Promises: everything that `performance.json` holds; a peer that is not installed is named, and so is
a figure that cannot be had, with the reason: it costs no other. Nothing is written here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import cllm.harness.peers as registered
from cllm.harness import probe
from cllm.harness.bench import footprint
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.contest import Contest, Status, build, hold
from cllm.harness.bench.flops import call_flops
from cllm.harness.bench.models import find_models
from cllm.harness.bench.process import Worker, WorkerFailed, thread_variables
from cllm.harness.bench.summary import summarize
from cllm.harness.bench.task import Kind
from cllm.harness.benchmark import Progress
from cllm.harness.commit import commit_of, to_dict
from cllm.harness.machine import fingerprint
from cllm.harness.peers import Competitor, Peer, model

BLOCKS = 11
OPERATIONS = "medium"
"""The sizes of single operations, where that configuration is measured."""
OPERATIONS_LIMIT = 3600.0
"""Seconds for all of them; the reference takes many minutes at the largest sizes."""
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
    found = find_models(models)  # refused now, not after an hour
    models = [each.name for each in found]
    start = time.monotonic()
    wanted = registered.PEERS if peers else ()
    there = [peer for peer in wanted if peer.is_installed()]
    bench = _Run(models, list(threads), there, seconds, seed, progress)
    progress("probing the machine", 0, 1)
    result: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": fingerprint(),
        "commit": to_dict(commit_of(found[0].file)),
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
    missing: list[dict[str, Any]] = []
    sizes = next((c for c in configurations if c.name == OPERATIONS), configurations[0])
    result["operations"] = {"configuration": sizes.name, "rows": []}
    for rows in _had(missing, "single operations", partial(_operations, sizes, seed)):
        result["operations"]["rows"] = rows
    progress("memory and import", 0, 1)
    most = bench.threads[-1]
    result["memory"] = [
        row
        for name in models
        for configuration in configurations
        for row in _had(
            missing,
            f"memory of {model(name, most)}, {configuration.name}",
            partial(footprint.memory, name, most, configuration),
        )
    ]
    result["imports"] = [
        row
        for each in found
        for row in _had(missing, f"import of {each.name}", partial(footprint.imports, each))
    ]
    result["missing_figures"] = missing
    progress("memory and import", 1, 1)
    result["seconds"] = time.monotonic() - start
    return result


def has_failed(result: dict[str, Any]) -> bool:
    """Whether a model that was asked for crashed, hung or computed something else, anywhere."""
    return any(
        entry["status"] in (Status.FAILED, Status.REFUSED)
        for contest in result["contests"]
        for entry in contest["entries"]
        if entry["library"] in result["settings"]["models"]
    )


def _had(missing: list[dict[str, Any]], figure: str, measured: Callable[[], Any]) -> list[Any]:
    """What was measured, alone; nothing where that fails, but the reason among what is missing."""
    try:
        return [measured()]
    except WorkerFailed as error:
        missing.append({"figure": figure, "value": None, "reason": str(error)})
        return []


def _operations(configuration: Configuration, seed: int) -> list[dict[str, Any]]:
    """Rows of single operations, on one thread."""
    setting = configuration.setting
    sizes, batch = [*setting.config.sizes.values()], [setting.batch_size, setting.seq_len]
    with Worker.start(thread_variables(1)) as worker:
        reply = worker.ask("operations", OPERATIONS_LIMIT, sizes=sizes, batch=batch, seed=seed)
    rows: list[dict[str, Any]] = reply["rows"]
    return rows


def _version(peer: Peer) -> str:
    """Of the installed package; empty where it tells none."""
    try:
        return metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return ""


def _model(name: str, threads: int) -> Competitor:
    """A model whose libraries have as many threads as it has."""
    return replace(model(name, threads), environment=thread_variables(threads))


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
        with Worker.start(exact.environment) as worker:
            results: list[float] = build(worker, exact, configuration, kind, self._seed)["results"]
        return results

    def _contest(
        self, configuration: Configuration, kind: Kind, expected: Sequence[float] | None
    ) -> Contest:
        most = self.threads[-1]
        models: list[Competitor] = [
            _model(name, count) for name in self._models for count in self.threads
        ]
        if kind in (Kind.STEP, Kind.GREEDY) and REFERENCE not in self._models:
            models.append(_model(REFERENCE, most))
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
