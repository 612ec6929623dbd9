"""The competitors of a benchmark: models by name, and other libraries at their best.

Promises: a table as data. A library is tried in each of its variants on each configuration; its
fastest one counts. Nothing here imports a library.
Leaves out: how a library is asked (`models`, `pytorch`, `jax`: one file each, imported only in
workers).
"""

from __future__ import annotations

import enum
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cllm.harness.bench.task import Kind
from cllm.harness.words import threads_of

EXTRA = "cllm[peers]"

SMALL_STEP = 1e9
"""FLOPs of a step or of a generation from which on it is large."""


class Work(enum.Enum):
    """Where a variant can be the fastest: elsewhere a minute of compiling would be wasted."""

    ANY = enum.auto()
    SMALL = enum.auto()
    LARGE = enum.auto()


@dataclass(frozen=True)
class Competitor:
    """Something that is measured, in a process of its own."""

    library: str
    """PyTorch, JAX, or the name of a model."""
    variant: str
    threads: int
    module: str
    """Its `build(kind, workload, **options)` gives the task."""
    options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.library, self.variant)))}, {threads_of(self.threads)}"


@dataclass(frozen=True)
class Variant:
    """One way to use a library."""

    name: str
    mode: str
    """What the library's `build` is told."""
    kinds: tuple[Kind, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    work: Work = Work.ANY


@dataclass(frozen=True)
class Peer:
    """A library that trains and runs the same network."""

    library: str
    package: str
    """Found by this name when it is installed."""
    module: str
    variants: tuple[Variant, ...]
    environment: Mapping[str, str]
    """For every variant; `{threads}` stands for their number."""

    def is_installed(self) -> bool:
        """Whether it can be measured here; it is not imported."""
        return importlib.util.find_spec(self.package) is not None

    def competitors(self, kind: Kind, threads: int, flops: int) -> Iterator[Competitor]:
        """Its variants for a task: with all threads, and with one where the work is small."""
        work = Work.SMALL if flops < SMALL_STEP else Work.LARGE
        counts = sorted({1, threads} if work is Work.SMALL else {threads})
        for variant in self.variants:
            if kind not in variant.kinds or variant.work not in (Work.ANY, work):
                continue
            for count in counts:
                given = {**self.environment, **variant.environment}
                environment = {name: value.format(threads=count) for name, value in given.items()}
                options = {"variant": variant.mode, "threads": count}
                yield Competitor(
                    self.library, variant.name, count, self.module, options, environment
                )


GENERATION = (Kind.GREEDY, Kind.SAMPLED)
CPP = {"TORCHINDUCTOR_CPP_WRAPPER": "1"}
SYNCHRONOUS = {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}

PEERS = (
    # OpenMP's waiting threads are left to spin: PyTorch takes two to four times as long without.
    Peer(
        "PyTorch",
        "torch",
        "cllm.harness.peers.pytorch",
        (
            Variant("eager", "eager", (Kind.STEP, *GENERATION)),
            Variant("torch.compile", "compile", (Kind.STEP,), work=Work.LARGE),
            Variant("compiled step", "functional", (Kind.STEP,)),
            Variant("compiled step, C++ wrapper", "functional", (Kind.STEP,), CPP, Work.SMALL),
            Variant("torch.compile, C++ wrapper", "compile", GENERATION, CPP),
        ),
        {"OMP_NUM_THREADS": "{threads}"},
    ),
    Peer(
        "JAX",
        "jax",
        "cllm.harness.peers.jax",
        (
            Variant("jit", "jit", (Kind.STEP,)),
            Variant("jit, synchronous", "jit", (Kind.STEP,), SYNCHRONOUS, Work.SMALL),
            Variant("scan", "scan", (Kind.STEPS, *GENERATION)),
        ),
        {"NPROC": "{threads}", "JAX_PLATFORMS": "cpu"},
    ),
)


def model(name: str, threads: int, dtype: str = "float32") -> Competitor:
    """A model of `cllm.registry`."""
    options = {"name": name, "threads": threads, "dtype": dtype}
    return Competitor(name, "", threads, "cllm.harness.peers.models", options)
