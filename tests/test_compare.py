"""`cllm compare`: what samples say, when it stops, what a side can be, real processes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.bench.configurations import CONFIGURATIONS, Configuration
from cllm.harness.bench.task import Kind
from cllm.harness.cases import Setting
from cllm.harness.compare import builds, command
from cllm.harness.compare.builds import Build, prepare
from cllm.harness.compare.comparison import (
    Comparison,
    Entry,
    Instructions,
    Interval,
    Outcome,
    Side,
)
from cllm.harness.compare.process import ForkServer, Launch, sharing
from cllm.harness.compare.run import (
    RENEWED,
    Benchmark,
    Round,
    compare,
    limited,
    measure,
    prepare_work,
    rounds,
)
from cllm.harness.compare.sequential import (
    ALPHA,
    FEWEST,
    boundary,
    decide,
    rejected_at,
    shift_interval,
    spent,
)
from cllm.harness.compare.session import (
    BINDING,
    VISIT_SECONDS,
    LaunchFailed,
    Visited,
    Work,
    draw_places,
    log_speeds,
    trips_of,
    visit_round,
)

Floats = NDArray[np.float64]

LITTLE = Configuration("little", Setting(Config(11, 4, 1, 2, 3), 2, 5), 1, True, 1.0, 0.5)
STEP = Benchmark(LITTLE, Kind.STEP, 1)

OTHER = """
from cllm.optimized import Model as Optimized
from cllm.reference import Model

class Wrong(Model):
    def _step(self, *arguments):
        return 1.001 * super()._step(*arguments)

class Fails(Model):
    def _step(self, *arguments):
        raise OSError("no such device")

class Bound(Optimized):
    def _step(self, *arguments):
        super()._step(*arguments)
        import os
        cpus = [
            os.sched_getaffinity(int(thread))
            for thread in os.listdir("/proc/self/task")
        ]
        apart = [each for each in cpus if len(each) == 1]
        return float(len(set().union(*apart)) if apart else -1)

class Dies(Model):
    def _step(self, *arguments):
        import os
        os.abort()
"""


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


# -- what samples say ------------------------------------------------------------------------


def test_equal_builds_cross_a_boundary_with_the_chance_that_is_spent() -> None:
    """Of all orders of all rounds, those that any look up to the 60th round calls different."""
    one = {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}  # differences above 0 in a round, in ways of 6
    inside, crossed = {0: 1}, 0.0
    for n in range(1, 61):
        reached: dict[int, int] = {}
        for (before, ways), (more, times) in itertools.product(inside.items(), one.items()):
            reached[before + more] = reached.get(before + more, 0) + ways * times
        least, most = boundary(n), 4 * n - boundary(n)
        out = {count: ways for count, ways in reached.items() if count <= least or count >= most}
        crossed += sum(out.values()) / 6**n
        inside = {count: ways for count, ways in reached.items() if count not in out}
        assert crossed <= spent(n)
        if n >= FEWEST:  # with one difference more there it would be more than is spent
            beyond = sum(ways for count, ways in inside.items() if count == least + 1) / 6**n
            assert crossed + 2 * beyond > spent(n)
    assert crossed > 0.9 * spent(n)


def test_all_looks_together_spend_alpha() -> None:
    assert [spent(rounds) for rounds in (0, 1, FEWEST - 1)] == [0.0, 0.0, 0.0]
    assert 0.95 * ALPHA < spent(100) < spent(100_000) < ALPHA
    assert [boundary(rounds) for rounds in (4, 5, 6, 7, 8)] == [-1, 1, 2, 3, 5]


def brute_force(first: Floats, second: Floats, level: float) -> tuple[float, float]:
    """The shifts that no stratified rank-sum test rejects, from all orders of all rounds."""
    orders = [sum(ranks) for ranks in itertools.combinations((1, 2, 3, 4), 2)]
    sums = [sum(each) for each in itertools.product(orders, repeat=len(first))]

    def accepted(shift: float) -> bool:
        ranks = np.argsort(np.argsort(np.hstack([first, second - shift]), axis=1), axis=1) + 1
        found = int(ranks[:, 2:].sum())
        lower = np.mean([s <= found for s in sums])
        upper = np.mean([s >= found for s in sums])
        return bool(min(lower, upper) > level / 2)

    differences = np.sort((second[:, :, None] - first[:, None, :]).ravel())
    middles = (differences[:-1] + differences[1:]) / 2
    inside = [i for i, middle in enumerate(middles) if accepted(middle)]
    return float(differences[inside[0]]), float(differences[inside[-1] + 1])


@pytest.mark.parametrize("level", [0.2, 0.05, 0.02])
def test_the_interval_is_that_of_the_stratified_rank_sum_test(level: float) -> None:
    first, second = np.random.default_rng(3).normal(0.0, 1.0, (2, 5, 2))
    second += 0.3
    center, low, high = shift_interval(first, second, rejected_at(5, level))
    assert (low, high) == pytest.approx(brute_force(first, second, level))
    assert low < center < high


def test_too_few_for_a_level_reject_nothing() -> None:
    few = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert shift_interval(few, few, rejected_at(2, 0.01))[1:] == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="4 rounds, must be at least 5"):
        decide(np.zeros((4, 2)), np.zeros((4, 2)), 0.02)


def test_the_first_look_can_decide() -> None:
    base = np.linspace(-0.001, 0.001, 2 * FEWEST).reshape(FEWEST, 2)
    assert decide(base, base - 0.1, 0.02).outcome is Outcome.SLOWER


@settings(max_examples=50)
@given(
    st.lists(st.tuples(*[st.floats(-1.0, 1.0)] * 4), min_size=FEWEST, max_size=40),
    st.floats(0.001, 0.5),
)
def test_base_and_head_exchanged_say_the_opposite(
    rounds: list[tuple[float, ...]], minimum: float
) -> None:
    opposite = {Outcome.SLOWER: Outcome.FASTER, Outcome.FASTER: Outcome.SLOWER}
    base, head = np.hsplit(np.array(rounds), 2)
    found = decide(base, head, minimum)
    mirrored = decide(head, base, minimum)
    assert mirrored.outcome == opposite.get(found.outcome, found.outcome)
    assert mirrored.interval.low == pytest.approx(1 / found.interval.high)
    assert mirrored.detectable == pytest.approx(found.detectable)


@pytest.mark.parametrize(
    ("center", "spread", "outcome"),
    [
        (-0.05, 0.01, Outcome.SLOWER),
        (0.05, 0.01, Outcome.FASTER),
        (0.0, 0.01, Outcome.SAME),
        (-0.01, 0.002, Outcome.SAME),  # equality is excluded, but the minimum effect as well
        (-0.021, 0.05, Outcome.INCONCLUSIVE),
        (0.0, 0.1, Outcome.INCONCLUSIVE),
    ],
)
def test_outcomes(center: float, spread: float, outcome: Outcome) -> None:
    head = center + np.linspace(-spread, spread, 20).reshape(10, 2)
    assert decide(np.zeros((10, 2)), head, 0.02).outcome is outcome


@pytest.mark.parametrize("disturbed", [1, 2])
def test_a_disturbed_process_only_loses_its_place(disturbed: int) -> None:
    """As where two threads of one process found no second core."""
    base, head = np.random.default_rng(0).normal(0.0, 0.005, (2, 8, 2))
    head -= 0.1
    base[:disturbed, 0] -= 0.5
    assert decide(base, head, 0.02).outcome is Outcome.SLOWER
    much_more = base.copy()
    much_more[:disturbed, 0] -= 5.0
    assert decide(base, head, 0.02).interval == decide(much_more, head, 0.02).interval


def test_equal_builds_are_seldom_called_different() -> None:
    """At most 1 of 100, over all looks; noise with outliers as a machine's."""
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        base, head = 0.03 * generator.standard_t(2, (2, 75, 2))
        outcomes = (decide(base[:n], head[:n], 0.02).outcome for n in range(FEWEST, 76))
        first = next((found for found in outcomes if found is not Outcome.INCONCLUSIVE), None)
        wrong += first in (Outcome.SLOWER, Outcome.FASTER)
    assert wrong <= 8  # of Binomial(400, 0.01) more has a chance of 2%, and the seed is fixed


# -- when it stops ---------------------------------------------------------------------------


def fake(rates: Callable[[int], Sequence[float]], results: Sequence[float] = (1.0, 2.0, 3.0)):  # type: ignore[no-untyped-def]
    """Rounds without processes, a second each, and their clock."""
    taken = 0

    def visit() -> Round:
        nonlocal taken
        taken += 1
        processes = [
            Visited(list(results), per_call=1, trips=[1 / rate], mean=1 / rate)
            for rate in rates(taken)
        ]
        return Round(processes, 1e9)

    return visit, lambda: float(taken)


def of_little(visit: Callable[[], Round], clock: Callable[[], float], budget: float = 60) -> Entry:
    return measure(
        STEP, visit, budget=budget, minimum_effect=0.02, seed=0, progress=quiet, clock=clock
    )


def wobbling(head: float) -> Callable[[int], list[float]]:
    generator = np.random.default_rng(1)
    return lambda n: (
        np.array([100.0, 100.0 * head, 100.0, 100.0 * head])
        * np.exp(0.002 * generator.standard_normal(4))
    ).tolist()


@pytest.mark.parametrize(
    ("head", "outcome"), [(0.9, Outcome.SLOWER), (1.1, Outcome.FASTER), (1.0, Outcome.SAME)]
)
def test_a_clear_answer_ends_at_the_first_look(head: float, outcome: Outcome) -> None:
    entry = of_little(*fake(wobbling(head)))
    assert entry.outcome is outcome
    assert entry.seconds == FEWEST
    assert entry.ratio is not None
    assert entry.ratio.low <= head <= entry.ratio.high or entry.ratio.ratio == pytest.approx(
        head, rel=0.01
    )
    assert entry.noise is not None
    assert entry.noise.low < 1 < entry.noise.high
    assert entry.detectable is not None
    assert 0.02 < entry.detectable < 0.03
    assert len(entry.base) == len(entry.head_again) == len(entry.peaks) == FEWEST
    assert entry.unit == "steps/s"


def test_an_open_answer_uses_the_budget_and_no_more() -> None:
    entry = of_little(*fake(lambda n: [100, 97 + 6 * (n % 2), 100, 97 + 6 * (n % 2)]), budget=20.5)
    assert entry.outcome is Outcome.INCONCLUSIVE
    assert entry.seconds == 20.0
    assert entry.reason.startswith("still open after 20 s: ")
    assert entry.ratio is not None


def test_too_few_samples_are_said() -> None:
    entry = of_little(*fake(wobbling(0.5)), budget=3)
    assert (entry.outcome, entry.ratio) == (Outcome.INCONCLUSIVE, None)
    assert entry.reason == (
        "too few rounds of processes: 1 in 1 s, 5 are needed: give it 5 s or more"
    )
    assert len(entry.base) == 1


def test_a_round_longer_than_the_budget_is_the_only_one() -> None:
    visit, _ = fake(wobbling(0.5))
    clock = itertools.count(step=40.0)
    entry = of_little(visit, lambda: next(clock), budget=10)
    assert len(entry.base) == 1
    assert entry.reason.endswith("5 are needed: give it 200 s or more")


def test_a_side_that_computes_something_else_is_not_called_faster() -> None:
    visit, clock = fake(wobbling(2.0))

    def wrong() -> Round:
        seen = visit()
        seen.processes[1].results[1] = 2.001
        return seen

    entry = of_little(wrong, clock)
    assert entry.outcome is Outcome.FAILED
    assert entry.reason == "computes something else: loss of step 2 is 2.001, base has 2"
    visit, clock = fake(wobbling(2.0), results=[float("nan")])
    assert "loss of step 1 is nan" in of_little(visit, clock).reason


def test_what_stays_for_longer_than_a_trip_falls_on_all() -> None:
    """As where two threads find both cores for some trips alone: the fastest of all trips was a
    matter of luck, of which one process has more."""
    state = np.array([1.0, 1.0, 0.6, 0.6, 0.6])
    base, head = ((state * share).tolist() for share in (1.0, 1.03))
    lucky = [0.6, *head[1:]]
    found = log_speeds([base, head, base, lucky])
    assert found[0] == found[2]
    assert found[1] - found[0] == pytest.approx(-np.log(1.03))
    assert found[3] == pytest.approx(found[1])
    assert np.median(found) == pytest.approx(0.0)


def test_the_difference_of_the_sides_is_no_noise() -> None:
    entry = of_little(*fake(wobbling(0.5)))
    assert entry.noise is not None
    assert 0.98 < entry.noise.low < 1 < entry.noise.high < 1.02


# -- real processes --------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "others.py").write_text(OTHER)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("others", None)


@pytest.mark.parametrize(("kind", "results"), [(Kind.STEP, 3), (Kind.GREEDY, 4)])
def test_a_round_of_real_processes(tmp_path: Path, kind: Kind, results: int) -> None:
    benchmark = Benchmark(LITTLE, kind, 1)
    work = prepare_work(benchmark, 0, tmp_path / "work.npz")
    launches = [Launch(name, sys.executable) for name in ("reference", "optimized")]
    found = visit_round(launches, work, np.random.default_rng(0), trips=1, seconds=0.001)
    one, other = (np.array(process.results) for process in found)
    assert one.shape == (results,)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for process in found:
        (fastest,) = process.trips
        assert 0 < fastest <= process.mean
        assert process.rate == pytest.approx((1 if kind is Kind.STEP else 4) / fastest)


@pytest.mark.parametrize(
    ("seconds", "trips"),
    [(0.024, 9), (0.15, 9), (0.18, 7), (0.25, 5), (0.3, 5), (0.4, 3), (30.0, 3)],
)
def test_long_calls_have_fewer_trips(seconds: float, trips: int) -> None:
    assert trips_of(seconds) == trips


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ("others:Fails", "head cannot be measured: OSError: no such device"),
        ("others:Dies", "head cannot be measured: crashed by SIGABRT"),
        ("others:Wrong", "computes something else: loss of step 1"),
        (
            "others:Vanished",
            "head cannot be measured: CllmError: model 'others:Vanished' cannot be",
        ),
    ],
)
@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("shared", [True, False])
def test_a_side_that_cannot_be_measured_says_why(
    tmp_path: Path, candidate: str, reason: str, shared: bool
) -> None:
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    base, head = Launch("reference", sys.executable), Launch(candidate, sys.executable)
    if shared:
        base, head = sharing(base, head)
        assert base.interpreter == head.interpreter != {}
    with rounds(base, head, work, np.random.default_rng(0)) as visit:
        entry = measure(STEP, visit, budget=60, minimum_effect=0.02, seed=0, progress=quiet)
    assert entry.outcome is Outcome.FAILED
    assert entry.reason.startswith(reason)


@pytest.mark.usefixtures("others")
def test_a_base_that_cannot_be_measured_decides_nothing(tmp_path: Path) -> None:
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    base, head = Launch("others:Fails", sys.executable), Launch("reference", sys.executable)
    with rounds(base, head, work, np.random.default_rng(0)) as visit:
        entry = measure(STEP, visit, budget=60, minimum_effect=0.02, seed=0, progress=quiet)
    assert entry.outcome is Outcome.INCONCLUSIVE
    assert entry.reason == "base cannot be measured: OSError: no such device"


@pytest.mark.parametrize("seed", range(3))
def test_what_both_sides_share_is_no_fault_of_head(tmp_path: Path, seed: int) -> None:
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    launches = [Launch("reference", sys.executable)] * 4
    with ForkServer(Launch("reference", "/bin/false"), {}) as server:
        with pytest.raises(LaunchFailed, match="crashed with exit status 1") as caught:
            visit_round(launches, work, np.random.default_rng(seed), server)
        assert caught.value.place == 0


def test_what_processes_are_forked_from_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[ForkServer | None] = []

    def visit(
        sides: list[Launch], work: Work, generator: np.random.Generator, server: ForkServer | None
    ) -> list[Visited]:
        used.append(server)
        return []

    monkeypatch.setattr("cllm.harness.compare.run.visit_round", visit)
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    side = Launch("reference", sys.executable)
    with rounds(*sharing(side, side), work, np.random.default_rng(0)) as next_round:
        for _ in range(2 * RENEWED + 1):
            next_round()
    assert None not in used
    assert [len([*same]) for _, same in itertools.groupby(used, id)] == [RENEWED, RENEWED, 1]


def test_threads_are_bound_to_neighbours_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BINDING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {9, 2, 4})
    generator = np.random.default_rng(0)
    drawn = [draw_places(2, generator) for _ in range(50)]
    assert {each["OMP_PLACES"] for each in drawn} == {"{2},{4}", "{4},{9}", "{9},{2}"}
    assert {each["OMP_PROC_BIND"] for each in drawn} == {"true"}
    assert draw_places(4, generator) == {}
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    assert draw_places(2, generator) == {}
    monkeypatch.delenv("OMP_PROC_BIND")
    for number, bound in (("2", True), ("8", False), ("", True)):
        monkeypatch.setenv("OMP_NUM_THREADS", number)
        assert bool(draw_places(2, generator)) is bound


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("bound", [True, False])
def test_threads_of_openmp_have_a_cpu_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: bool
) -> None:
    for name in (*BINDING, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    benchmark = Benchmark(CONFIGURATIONS["small"], Kind.STEP, 2)
    work = prepare_work(benchmark, 0, tmp_path / "work.npz")
    environment = {} if bound else {"OMP_PROC_BIND": "false"}
    launches = [Launch("others:Bound", sys.executable, environment)] * 2
    found = visit_round(launches, work, np.random.default_rng(0), trips=1, seconds=0.001)
    for process in found:
        assert process.results[-1] == (2 if bound else -1)


def test_all_processes_are_visited_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a side a little slower than another one would be measured in another way."""
    asked, built = [], iter([0.97 * VISIT_SECONDS, 1.03 * VISIT_SECONDS] * 2)

    class Fake:
        def send(self, call: str, **arguments: object) -> None:
            pass

        def receive(self, limit: float) -> dict[str, object]:
            return {}

        def ask(self, call: str, limit: float, **arguments: object) -> dict[str, object]:
            if call == "build":
                return {"results": [], "per_call": 1, "seconds": next(built)}
            if call == "visit":
                asked.append(arguments)
            return {"fastest": 1.0, "mean": 1.0}

        def finish(self) -> None:
            pass

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(ForkServer, "fork", lambda *arguments: Fake())
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    launches = [Launch("a", sys.executable)] * 4
    found = visit_round(launches, work, np.random.default_rng(0))
    alike = {"seconds": VISIT_SECONDS, "warm_up": False, "calls": 1}
    assert asked == [alike] * len(asked)
    assert len(asked) == 2 * 4 * len(found[0].trips)


def test_threads_are_those_of_numpy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment = limited(Launch("a", "python", {"MKL_NUM_THREADS": "5"}), 2).environment
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["MKL_NUM_THREADS"] == "5"
    assert "OMP_NUM_THREADS" not in environment  # the user's own is inherited


def test_a_comparison_is_kept_whole() -> None:
    build = Build("optimized", "candidate", Launch("optimized", sys.executable), "1.0")
    found = compare(
        build, build, [STEP], budget=0.01, minimum_effect=0.5, instructions=False, seed=0,
        progress=quiet,
    )  # fmt: skip
    document = json.loads(json.dumps(found.to_dict()))
    again = Comparison.from_dict(document)
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())
    assert found.entries[0].reason.startswith("too few rounds of processes: 1 in ")
    assert found.settings["candidate"] == "optimized"


def entry_of(outcome: Outcome) -> Entry:
    return Entry(
        "a", "small", "step", 1, "steps/s", outcome, "why", ratio=Interval(1, 0.9, 1.1),
        instructions=Instructions(1, 2, 2.0, "more"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "worst", "status"),
    [
        ([Outcome.SAME, Outcome.SLOWER, Outcome.INCONCLUSIVE], Outcome.SLOWER, 1),
        ([Outcome.SLOWER, Outcome.FAILED, Outcome.SAME], Outcome.FAILED, 1),
        ([Outcome.SAME, Outcome.INCONCLUSIVE, Outcome.FASTER], Outcome.INCONCLUSIVE, 3),
        ([Outcome.SAME, Outcome.FASTER], Outcome.FASTER, 0),
        ([Outcome.SAME], Outcome.SAME, 0),
        ([], Outcome.INCONCLUSIVE, 3),
    ],
)
def test_the_worst_decides(outcomes: list[Outcome], worst: Outcome, status: int) -> None:
    side = Side("a", "wheel")
    entries = [entry_of(outcome) for outcome in outcomes]
    comparison = Comparison("now", side, side, entries, {}, "avx2", {}, 1.0, {})
    assert (comparison.outcome, comparison.exit_status) == (worst, status)
    document = json.dumps(comparison.to_dict())
    again = Comparison.from_dict(json.loads(document))
    assert again.outcome == worst
    assert json.dumps(again.to_dict()) == document


@pytest.mark.parametrize("change", [{"version": 2}, {"kind": "verification"}])
def test_another_document_is_refused(change: dict[str, object]) -> None:
    side = Side("a", "wheel")
    document = Comparison("now", side, side, [], {}, "avx2", {}, 1.0, {}).to_dict() | change
    with pytest.raises(CllmError, match="not a comparison of version 1"):
        Comparison.from_dict(document)


# -- what a side can be ----------------------------------------------------------------------


PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "someproject"
version = "{version}"
"""

BACKEND = '''
"""Builds a wheel of one module without any other package."""
import pathlib
import zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "someproject-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.write("someproject.py")
        info = "someproject-1.0.dist-info/"
        metadata = "Metadata-Version: 2.1\\nName: someproject\\nVersion: 1.0\\n"
        wheel.writestr(info + "METADATA", metadata)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
'''

MODULE = """
from cllm.reference import Model as Reference

__version__ = "{version}"


class Model(Reference):
    pass
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two commits of a project with a candidate."""
    folder = tmp_path_factory.mktemp("project")
    git(folder, "init", "--quiet", "--initial-branch=main")
    for version in ("1.0", "2.0"):
        (folder / "pyproject.toml").write_text(PROJECT.format(version=version))
        (folder / "backend.py").write_text(BACKEND)
        (folder / "someproject.py").write_text(MODULE.format(version=version))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", f"version {version}")
    return folder


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True)


CANDIDATE = "someproject:Model"


def test_revisions_and_folders_are_installed_apart(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = prepare("HEAD~1", CANDIDATE, project, tmp_path)
    after = prepare("main", CANDIDATE, project, tmp_path)
    folder = prepare(str(project), CANDIDATE, project, tmp_path)
    assert [side.kind for side in (before, after, folder)] == ["revision", "revision", "folder"]
    assert [side.version for side in (before, after, folder)] == ["1.0", "2.0", "2.0"]
    assert [side.commit and side.commit.subject for side in (before, after, folder)] == [
        "version 1.0", "version 2.0", "version 2.0",
    ]  # fmt: skip
    monkeypatch.setattr(builds, "_install", lambda *arguments: pytest.fail("built again"))
    assert prepare("HEAD~1", CANDIDATE, project, tmp_path) == before
    environment = str(Path(before.launch.python).parents[1])
    found = prepare(environment, CANDIDATE, project, tmp_path)
    assert (found.kind, found.version) == ("environment", "1.0")
    monkeypatch.chdir(project)
    with pytest.raises(CllmError, match="someproject:Model cannot be loaded in "):
        prepare(sys.prefix, CANDIDATE, project, tmp_path)  # it lies in the current folder alone


def test_a_wheel_is_installed(project: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path]
    subprocess.run([*pip, project], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    found = prepare(str(wheel), CANDIDATE, project, tmp_path)
    assert (found.kind, found.version, found.launch.candidate) == ("wheel", "2.0", CANDIDATE)


def test_a_candidate_is_taken_where_it_is(tmp_path: Path) -> None:
    found = prepare("optimized", "reference", tmp_path, tmp_path)
    assert (found.kind, found.launch) == ("candidate", Launch("optimized", sys.executable))
    assert found.version


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-branch", "'no-such-branch' must be a git revision, a folder with"),
        ("--output=x", "'--output=x' must be a git revision"),
        ("missing.whl", "no wheel at missing.whl"),
        ("no.such:Model", "No module named 'no'"),
    ],
)
def test_what_is_no_side_is_refused(project: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CllmError, match=message):
        prepare(name, CANDIDATE, project, tmp_path)


def test_sources_that_cannot_be_installed_leave_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "pyproject.toml").write_text("[build-system\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(CllmError, match="sources cannot be installed: "):
        prepare(str(sources), CANDIDATE, project, scratch)
    assert not list(scratch.iterdir())
    with pytest.raises(CllmError, match=r"someproject:Gone cannot be loaded in .*Gone"):
        prepare(str(project), "someproject:Gone", project, scratch)


def test_a_candidate_from_elsewhere_is_not_measured_for_that_of_a_side(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(MODULE.format(version="3.0"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CllmError, match=r"elsewhere:Model is not in .*, it is found at .*: --candidate names"
    ):
        prepare(str(project), "elsewhere:Model", project, tmp_path)


# -- the command -----------------------------------------------------------------------------


def test_the_command_says_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGURATIONS, "small", LITTLE)
    words = ["reference", "reference", "--threads", "1", "--budget", "0.01", "--output", tmp_path]
    result = CliRunner().invoke(command.compare, [*map(str, words), "--no-instructions"])
    assert result.exit_code == 3, result.output
    assert "little step, 1 thread" in result.stdout
    assert "reference against reference: inconclusive." in result.stdout
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert document["base"]["name"] == "reference"
    printed = CliRunner().invoke(command.compare, [*map(str, words[:6]), "--json"])
    assert json.loads(printed.stdout)["kind"] == "comparison"


@pytest.mark.parametrize("option", ["--budget", "--minimum-effect"])
@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_what_is_no_number_is_refused(option: str, value: str) -> None:
    result = CliRunner().invoke(command.compare, ["reference", "reference", option, value])
    assert result.exit_code == 2
    assert option in result.stderr


def test_sizes_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    sizes = {"vocab_size": 11, "embed_dim": 4, "num_layers": 1, "num_heads": 2, "ff_dim": 3}
    table = sizes | {"batch_size": 2, "seq_len": 5}
    file.write_text("\n".join(["[mine]", *(f"{name} = {size}" for name, size in table.items())]))
    words = ["reference", "reference", "--threads", "1", "--budget", "0.01", "--no-instructions"]
    result = CliRunner().invoke(command.compare, [*words, "--configurations", str(file), "--json"])
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert document["entries"][0]["configuration"] == "mine"
    assert document["entries"][0]["sizes"] == table
    assert document["settings"]["configurations"] == []
    assert document["settings"]["file"] == str(file)


def test_the_overview_names_everything() -> None:
    side = Side("main", "revision")
    full = Entry(
        "small step, 1 thread", "small", "step", 1, "steps/s", Outcome.SLOWER, "why",
        ratio=Interval(0.95, 0.94, 0.96), decision=Interval(0.95, 0.93, 0.97),
        noise=Interval(1.0, 0.99, 1.02), detectable=0.025, seconds=8.2,
        instructions=Instructions(100, 103, 1.03, "more"),
    )  # fmt: skip
    short = Entry("b", "small", "step", 2, "steps/s", Outcome.INCONCLUSIVE, "crashed by SIGSEGV")
    text = command.overview(Comparison("now", side, side, [full, short], {}, "avx2", {}, 1.0, {}))
    for said in ("slower", "0.950 (0.940 to 0.960)", "±2.0%", "2.5%", "more (+3.00%)", "8 s; why"):
        assert said in text
    assert "crashed by SIGSEGV" in text
    assert text.endswith("main against main: slower.")


def test_a_worker_that_fails_is_named(tmp_path: Path) -> None:
    work = prepare_work(STEP, 0, tmp_path / "work.npz")
    with pytest.raises(LaunchFailed, match="crashed"):
        visit_round([Launch("reference", "/bin/false")], work, np.random.default_rng(0))
