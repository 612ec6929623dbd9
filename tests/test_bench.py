"""The benchmark: arithmetic of its figures, who is counted and who is not, report and command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness import peers
from cllm.harness.bench import bandwidth, footprint, run
from cllm.harness.bench import contest as contests
from cllm.harness.bench.bandwidth import read_array, token_bytes
from cllm.harness.bench.charts import svg
from cllm.harness.bench.command import bench
from cllm.harness.bench.configurations import CONFIGURATIONS, Configuration
from cllm.harness.bench.contest import Contest, Entry, Status, hold
from cllm.harness.bench.flops import matmul_parameters, step_flops, utilization
from cllm.harness.bench.machine import is_crowded
from cllm.harness.bench.markdown import command, render
from cllm.harness.bench.models import Found
from cllm.harness.bench.operations import name_of
from cllm.harness.bench.process import THREAD_VARIABLES, WorkerFailed
from cllm.harness.bench.summary import summarize
from cllm.harness.bench.task import Kind
from cllm.harness.bench.workload import draw_workload
from cllm.harness.cases import Setting
from cllm.harness.commit import to_dict
from cllm.harness.history.record import Commit
from cllm.harness.history.sources import read_runs
from cllm.harness.history.store import DEFAULT, open_history
from cllm.harness.pairs.table import PAIRS
from cllm.harness.peers import Competitor, Peer, Variant, model

LITTLE = Configuration("little", Setting(Config(11, 4, 1, 2, 3), 2, 5), 2, True, 1.0, 0.5, 2.0)

COMMIT = Commit("0123456789abcdef", datetime(2026, 3, 1, 12, tzinfo=UTC), "Faster", "main", True)

FAKES = """
import os
import signal

from cllm.harness.peers.models import build as honest


def build(kind, workload, variant, threads):
    if variant == "hangs":
        signal.pause()
    if variant == "crashes":
        os.abort()
    if variant == "raises":
        raise ImportError("no such library")
    task = honest(kind, workload, "reference", 1)
    if variant == "crashes later":
        called, task.call = task.call, lambda: os.abort() if task.done > 5 else go()
        task.done = 0
        def go():
            task.done += 1
            return called()
    if variant == "wrong":
        evidence, task.evidence = task.evidence, lambda output: 1.001 * evidence(output)
    if variant == "not finite":
        evidence, task.evidence = task.evidence, lambda output: float("nan") * evidence(output)
    return task
"""


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Competitor]:
    """A peer that behaves as its variant says."""
    (tmp_path / "fakes.py").write_text(FAKES)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def make(variant: str, library: str = "Fake") -> Competitor:
        options = {"variant": variant, "threads": 1}
        return Competitor(library, variant, 1, "fakes", options, {"PYTHONPATH": path})

    return make


def held(*competitors: Competitor, kind: Kind = Kind.STEP, blocks: int = 2) -> Contest:
    return hold(
        LITTLE,
        kind,
        [model("reference", 1)],
        competitors,
        expected(kind),
        seconds=1e-3,
        blocks=blocks,
        seed=0,
        progress=lambda *_: None,
    )


def expected(kind: Kind) -> list[float] | None:
    if kind is Kind.SAMPLED:
        return None
    with contests.Worker.start({}) as worker:
        exact = model("reference", 1, "float64")
        found: list[float] = contests.build(worker, exact, LITTLE, kind, 0)["results"]
    return found


def test_flops_of_known_sizes() -> None:
    setting = CONFIGURATIONS["tiny"].setting  # V27 D32 L1 H1 F128 B2 T8
    assert matmul_parameters(setting.config) == 27 * 32 + 3 * 32 * 32 + 2 * 32 * 128 == 12_128
    # attention: 3 passes, 2 rows, 1 head, 2 products of 32 multiply-adds for 36 pairs
    assert step_flops(setting) == 6 * 12_128 * 16 + 3 * 2 * 2 * 2 * 32 * 36 == 1_191_936
    assert utilization(setting, 1000.0, 1_191_936 * 2000.0) == 0.5


def test_bytes_of_a_token() -> None:
    setting = CONFIGURATIONS["small"].setting  # D64 L2 T16, 82,624 parameters
    # tokens at positions 1..15 read 2, 3, ..., 16 keys and as many values of each layer
    cache = sum(2 * 2 * 64 * keys for keys in range(2, 17)) / 15
    assert token_bytes(setting) == 4 * (82_624 + cache)
    assert bandwidth.utilization(setting, 1000.0, 2000.0 * token_bytes(setting)) == 0.5


@pytest.mark.parametrize("threads", [1, 3])
def test_the_probe_reads_what_a_token_reads(threads: int) -> None:
    small = CONFIGURATIONS["small"].setting
    assert read_array(small, threads).nbytes == token_bytes(small)
    tiniest = Setting(Config(1, 1, 1, 1, 1), 1, 2)
    assert read_array(tiniest, threads).size == 128 * threads
    assert bandwidth.read_bandwidth(threads, read_array(tiniest, threads)) > 0


@pytest.mark.parametrize("kind", list(Kind))
def test_an_honest_peer_is_raced(kind: Kind, fake: Callable[..., Competitor]) -> None:
    found = held(fake("honest"), kind=kind)
    assert [entry.status for entry in found.entries] == [Status.RACED] * 2
    assert [len(entry.rates) for entry in found.entries] == [2, 2]
    assert set(found.peaks) == {1}
    assert len(found.peaks[1]) == len(found.hand_overs) == 2
    assert [len(rates) for rates in found.reads.values()] == ([] if kind.is_training else [2])
    row = summarize(found, 0)
    for each in row["entries"]:
        assert (each["mfu"] is not None) == kind.is_training
        assert (each["mbu"] is not None) == (not kind.is_training)
        assert each["build_seconds"] == sum(each["startup"].values())
        assert set(each["startup"]) == {"start", "first_call"}
        assert min(each["startup"].values()) > 0
    assert row["best_peer"] == "Fake honest, 1 thread"
    ratio, low, high = row["entries"][0]["versus"]["Fake honest, 1 thread"]
    assert low <= ratio <= high


@pytest.mark.parametrize(
    ("variant", "status", "reason"),
    [
        ("wrong", Status.REFUSED, "the loss of step 1 is"),
        ("not finite", Status.REFUSED, "the loss of step 1 is nan, must be"),
        ("raises", Status.FAILED, "ImportError: no such library"),
        ("crashes", Status.FAILED, "crashed by SIGABRT"),
        ("crashes later", Status.FAILED, "crashed by SIGABRT"),
    ],
)
def test_who_is_wrong_or_crashes_is_not_counted(
    variant: str, status: Status, reason: str, fake: Callable[..., Competitor]
) -> None:
    found = held(fake(variant), fake("honest", "Honest"))
    assert found.entries[1].status is status
    assert reason in found.entries[1].reason
    row = summarize(found, 0)
    assert row["entries"][1]["rate"] is None
    assert row["best_peer"] == "Honest honest, 1 thread"


def test_who_hangs_is_reported(
    fake: Callable[..., Competitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contests, "BUILD_LIMIT", 8.0)
    entry = held(fake("hangs")).entries[1]
    assert (entry.status, entry.reason) == (Status.FAILED, "hung: no answer within 8 s")


def test_wrong_tokens_and_wrong_logits_are_refused(fake: Callable[..., Competitor]) -> None:
    wanted = expected(Kind.GREEDY)
    assert wanted is not None
    assert len(wanted) == 4 + 11
    greedy = Contest(LITTLE, Kind.GREEDY, [])
    assert contests.difference(greedy, wanted, wanted) == ""
    other = [wanted[0] + 1, *wanted[1:]]
    assert contests.difference(greedy, other, wanted).startswith("token 1 is")
    last = [*wanted[:-1], wanted[-1] + 2e-4 * max(map(abs, wanted[4:]))]
    assert contests.difference(greedy, last, wanted).startswith("logit 11 is")
    assert contests.difference(greedy, wanted[:-1], wanted) == "14 results, must be 15"
    sampled = Contest(LITTLE, Kind.SAMPLED, [])
    assert contests.difference(sampled, [0.0, 11.0, 3.0, 2.0], None) == "tokens outside 0..10"


def entry(trial: float | None, library: str = "A", is_peer: bool = True) -> Entry:
    return Entry(Competitor(library, "", 1, "", {}), is_peer, trial=trial)


def test_the_fastest_variants_of_a_library_are_in_front() -> None:
    entries = [entry(100.0), entry(91.0), entry(80.0), entry(None), entry(5.0, "B")]
    entries.append(entry(1.0, "A", is_peer=False))
    front = [contests.is_in_front(each, entries) for each in entries]
    assert front == [True, True, False, False, True, True]


def test_a_ratio_is_taken_over_common_blocks() -> None:
    ours, theirs = entry(1.0, "ours", is_peer=False), entry(1.0, "theirs")
    ours.status = theirs.status = Status.RACED
    ours.rates, theirs.rates = [4.0, 100.0, 6.0], [2.0, None, 3.0]
    row = summarize(Contest(LITTLE, Kind.STEP, [ours, theirs], {1: [1e9, 2e9, 3e9]}, [None]), 0)
    assert row["entries"][0]["versus"]["theirs, 1 thread"] == pytest.approx([2.0, 2.0, 2.0])
    assert row["entries"][0]["mfu"] == pytest.approx(step_flops(LITTLE.setting) * 6.0 / 2e9)
    assert row["entries"][1]["rate"] == 2.5
    assert row["hand_over_seconds"] is None


def test_a_share_of_the_bandwidth() -> None:
    ours = entry(1.0, "ours", is_peer=False)
    ours.status, ours.rates = Status.RACED, [40.0, 50.0, 60.0]
    found = Contest(LITTLE, Kind.GREEDY, [ours], {1: [1e9]}, [None], {1: [1e6, 2e6, 9e6]})
    row = summarize(found, 0)
    assert row["reads"] == {"1": 2e6}
    assert row["entries"][0]["mbu"] == pytest.approx(token_bytes(LITTLE.setting) * 50.0 / 2e6)


def test_workloads_are_the_same_again_and_rotate() -> None:
    setting = CONFIGURATIONS["small"].setting
    first, again = (draw_workload(setting, 1, 32) for _ in range(2))
    assert (first.parameters == again.parameters).all()
    assert (first.tokens == again.tokens).all()
    assert len(first.tokens) % 32 == 0
    assert (first.tokens[0] != first.tokens[1]).any()
    assert (draw_workload(setting, 2, 32).tokens != first.tokens).any()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BLOCKS", 2)
    monkeypatch.setattr("cllm.harness.bench.footprint.IMPORTS", 1)
    monkeypatch.setitem(CONFIGURATIONS, "little", LITTLE)
    (option,) = (p for p in bench.params if p.name == "configurations")
    monkeypatch.setattr(option.type, "choices", [*CONFIGURATIONS])


MODELS = """
import os

from cllm.model import Model as Abstract
from cllm.reference import Model as Reference

print("junk")


class Mine(Reference):
    pass


class Crash(Reference):
    def step(self, tokens, targets, update):
        os.abort()
"""

CRASHED = "crashed by SIGABRT: junk"
"""With what was said last."""

SHORT = ("--configuration", "little", "--threads", "1", "--seconds", "0.001")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: None) -> Path:
    """The current folder, with models that are not installed."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODELS)
    return tmp_path


def found_in(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return document


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(bench, arguments, catch_exceptions=False)


@pytest.mark.usefixtures("measured")
def test_the_command_writes_its_report(
    tmp_path: Path, fake: Callable[..., Competitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(fake("honest").environment)
    variants = (Variant("honest", "honest", tuple(Kind)), Variant("wrong", "wrong", tuple(Kind)))
    library = Peer("Fake", "json", "fakes", variants, environment)
    absent = Peer("Absent", "there_is_no_such_library", "fakes", variants, {})
    monkeypatch.setattr(peers, "PEERS", (library, absent))
    asked: list[Path] = []
    monkeypatch.setattr(run, "commit_of", lambda source: asked.append(source) or COMMIT)
    output = tmp_path / "new" / "speed.md"
    own = tmp_path / "own.toml"
    own.write_text(
        "[mine]\nvocab_size = 7\nembed_dim = 4\nnum_layers = 1\nnum_heads = 1\nff_dim = 3\n"
        "batch_size = 1\nseq_len = 3\n"
    )
    options = ["--configuration", "little", "--threads", "1", "--seconds", "0.001"]
    options += ["--configurations", str(own), "--history", str(tmp_path / "history.db")]
    result = invoke("reference", "--peers", *options, "--output", str(output))
    assert result.exit_code == 0
    assert "Not installed, not measured: Absent (pip install 'cllm[peers]')" in result.stderr
    assert "Fake honest, 1 thread" in result.stdout
    assert "over the blocks" in result.stdout.splitlines()[0]
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "speed.json",
        "speed.md",
        "speed.svg",
    ]
    found = json.loads(output.with_suffix(".json").read_text())
    works = [(contest["configuration"], contest["kind"]) for contest in found["contests"]]
    assert works == [*(("little", str(kind)) for kind in Kind), ("mine", "step")]
    assert found["peer_versions"] == {"Fake": ""}  # a module of the standard library
    assert datetime.fromisoformat(found["created"]).utcoffset() is not None
    assert found["commit"] == to_dict(COMMIT)
    assert [path.name for path in asked] == ["model.py"]  # of the reference
    statuses = {
        c["kind"]: e["status"]
        for c in found["contests"]
        for e in c["entries"]
        if e["variant"] == "wrong" and c["configuration"] == "little"
    }
    assert statuses.pop("sampled") in ("raced", "tried")  # nothing to hold drawn tokens against
    assert statuses == dict.fromkeys(("step", "steps", "greedy"), "refused")
    with open_history(tmp_path / "history.db") as history:
        (kept,) = history.runs()
    assert kept == read_runs(output.with_suffix(".json"))[0]
    assert kept.commit == COMMIT
    assert len(found["operations"]["rows"]) == len(PAIRS)
    assert found["missing_figures"] == []
    assert all(row["ratio"] > 0 for row in found["operations"]["rows"])
    assert found["memory"][0]["planned_bytes"] == sum(found["memory"][0]["roles"].values())
    text = output.read_text()
    assert text == render(found, "speed.svg")
    assert "**Not measured: Absent**" in text
    repeated = f"bench reference --peers --configurations {own} --configuration little --threads 1"
    assert repeated in command(found)
    assert (svg(found) or "").startswith("<svg")


def test_operations_have_names_of_their_own() -> None:
    names = {
        (name_of(pair), *(key for key, value in pair.scalars.items() if value is None))
        for pair in PAIRS
    }
    assert len(names) == len(PAIRS)
    assert ("sample temperature=0.8 top_p=0.9", "top_k") in names
    assert ("sample temperature=1.3 top_k=3 top_p=1",) in names
    assert ("linear_forward", "bias") in names


@pytest.mark.parametrize("name", ["mine:Mine", "mine.py:Mine"])
def test_a_model_of_the_current_folder(name: str, here: Path) -> None:
    result = invoke(name, *SHORT, "--output", "speed.md")
    assert result.exit_code == 0
    found = found_in(here / "speed.md")
    assert found["missing_figures"] == []
    (row,) = found["imports"]
    assert (row["model"], row["module"]) == (name, name.partition(":")[0])
    assert row["seconds"] > 0
    assert row["numpy_seconds"] > 0


def test_an_import_that_fails_says_why(here: Path) -> None:
    Path("picky.py").write_text("import sys\nassert 'cllm' in sys.modules, 'cllm comes first'\n")
    for module in ("picky", "picky.py"):
        with pytest.raises(WorkerFailed, match="AssertionError: cllm comes first"):
            footprint.imports(Found("picky:Model", module, None))


def test_a_model_that_crashes_costs_no_other_figure(here: Path) -> None:
    history = ("--history", "history.db")
    result = invoke("mine.py", *SHORT, "--output", "speed.md", *history)
    assert result.exit_code == 1
    found = found_in(here / "speed.md")
    assert found["settings"]["models"] == ["mine.py:Mine", "mine.py:Crash"]
    what = {
        (contest["kind"], entry["library"]): (entry["status"], entry["reason"])
        for contest in found["contests"]
        for entry in contest["entries"]
    }
    assert {kind for (kind, name), _ in what.items()} == set(map(str, Kind))
    for (kind, name), became in what.items():
        crashes = (kind, name) == ("step", "mine.py:Crash")
        assert became == (("failed", CRASHED) if crashes else ("raced", ""))
    assert [row["model"] for row in found["memory"]] == ["mine.py:Mine"]
    assert [row["model"] for row in found["imports"]] == ["mine.py:Mine", "mine.py:Crash"]
    figure = "memory of mine.py:Crash, 1 thread, little"
    assert found["missing_figures"] == [{"figure": figure, "value": None, "reason": CRASHED}]
    assert f"no {figure}: {CRASHED}" in result.stdout
    assert f"**Could not be had**: {figure}: {CRASHED}." in Path("speed.md").read_text()
    with open_history("history.db") as kept:
        assert len([*kept.runs()]) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.py", "import os; os.abort()", "'mine.py' cannot be loaded: crashed by SIGABRT"),
        ("mine:A", "import os; os.abort()", "'mine:A' cannot be loaded: crashed by SIGABRT"),
        ("mine.py", "number = 1", "'mine.py' names no candidate"),
        ("absent.py", "", "model 'absent.py': there is no such file"),
        ("mine", MODELS, "model must be one of ['optimized', 'reference'] or module:Class"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_first(
    name: str, content: str, said: str, here: Path
) -> None:
    Path("mine.py").write_text(content)
    with pytest.raises(CllmError, match=re.escape(said)):
        invoke("reference", name, *SHORT, "--output", "speed.md")
    assert [path.name for path in here.iterdir() if path.suffix] == ["mine.py"]


def test_a_model_gives_its_libraries_as_many_threads(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    invoke("reference", *SHORT, "--threads", "3", "--output", "speed.md")
    for contest in found_in(here / "speed.md")["contests"]:
        for row in contest["entries"]:
            assert row["environment"] == {
                name: str(row["threads"]) for name in THREAD_VARIABLES if name[:3] != "MKL"
            }
        assert {row["threads"] for row in contest["entries"]} == {1, 3}
    assert "but `MKL_NUM_THREADS=7` was set from outside" in Path("speed.md").read_text()


def refuse(*words: str) -> str:
    """What is said of a bad command line."""
    with pytest.raises((OSError, click.UsageError)) as caught:
        bench.main([*words], standalone_mode=False)
    return str(caught.value)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-nan", "Infinity"])
def test_a_length_that_is_no_number_is_refused(seconds: str) -> None:
    assert f"{seconds} is not a finite number" in refuse("--seconds", seconds)


def test_a_report_that_cannot_be_written_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure", lambda *_, **__: pytest.fail("measured"))
    (tmp_path / "speed.json").mkdir()
    (tmp_path / "speed.md").write_text("an old one")
    assert "speed.json" in refuse("--output", str(tmp_path / "speed.md"))
    assert (tmp_path / "speed.md").read_text() == "an old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md"]
    # a folder in which nobody makes files, not even root
    assert "/proc/self/speed.md" in refuse("--output", "/proc/self/speed.md")
    assert ".svg is written beside the report" in refuse("--output", str(tmp_path / "b.svg"))


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ("optimized", "optimized is a model: name it before --history"),
        ("mymodel:MyModel", "mymodel:MyModel is a model: name it before --history"),
        ("nothing://speed", "nothing://speed"),
        ("report.md", "report.md: is no SQLite database"),
    ],
)
def test_a_history_that_cannot_be_had_is_refused_first(
    history: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*arguments: object, **options: object) -> None:
        pytest.fail("measured before it was refused")

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.chdir(tmp_path)
    Path("report.md").write_text("# Report\n")
    with pytest.raises((CllmError, click.BadParameter), match=re.escape(said)):
        bench.main(["--output", "speed.md", "--history", history], standalone_mode=False)
    assert Path("report.md").read_text() == "# Report\n"


def test_the_history_without_an_url_is_the_usual_one() -> None:
    def given(*words: str) -> object:
        return bench.make_context("bench", list(words)).params["history"]

    assert given("optimized") is None
    assert given("optimized", "--history") == str(DEFAULT)
    assert given("--history", "--peers") == str(DEFAULT)
    assert given("--history", "sqlite:///x.db") == "sqlite:///x.db"


@pytest.mark.usefixtures("measured")
def test_a_model_that_is_not_there_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(CllmError, match="model must be one of"):
        invoke("nothing", "--output", str(tmp_path / "speed.md"))
    assert not [*tmp_path.iterdir()]


def result() -> dict[str, Any]:
    """A fixed one."""
    ours, theirs = entry(9.0, "optimized", is_peer=False), entry(1.0, "Fake")
    theirs.startup = {"start": 1.5, "first_call": 2.0}
    broken = entry(None, "Broken")
    broken.status, broken.reason = Status.FAILED, "crashed | badly"
    ours.status = theirs.status = Status.RACED
    ours.rates, theirs.rates = [30.0, 30.0, 30.0], [10.0, 10.0, 10.0]
    peak = 100.0 * step_flops(LITTLE.setting)
    contest = Contest(LITTLE, Kind.STEP, [ours, theirs, broken], {1: [peak] * 3}, [3e-8] * 3)
    return {
        "machine": {
            "cpu": "a CPU", "usable_cores": 2, "memory_bytes": 2**30, "system": "Linux",
            "python": "CPython", "numpy": "2", "blas": "a BLAS", "load_average": 0.0,
            "cllm": "9.8", "compiler": "GCC (D) 12.2.0", "thread_variables": {},
        },
        "commit": to_dict(COMMIT),
        "peer_versions": {"Fake": "1.2"},
        "settings": {
            "models": ["optimized"], "configurations": ["little"], "file": None, "threads": [1],
            "peers": True, "seconds": 0.5, "seed": 7, "blocks": 3,
        },
        "missing_peers": [], "missing_figures": [],
        "probe": {"level": "avx2", "fma": {"1": 1e11}, "read": {"1": {"L2": 1e11}}},
        "contests": [summarize(contest, 0)],
        "operations": {
            "configuration": "little",
            "rows": [
                {
                    "function": "linear_forward", "without": ["bias"], "ratio": 4.0,
                    "optimized_seconds": 2e-6, "reference_seconds": 8e-6,
                }
            ],
        },
        "memory": [
            {
                "model": "optimized", "configuration": "little", "threads": 1,
                "parameter_bytes": 1000, "planned_bytes": 5000, "grown_bytes": 8000,
                "roles": {"parameter": 1000, "activation": 4000},
            }
        ],
        "imports": [
            {"model": "o", "module": "m", "seconds": 0.15, "numpy_seconds": 0.1}
        ],
        "seconds": 120.0,
    }  # fmt: skip


@pytest.mark.usefixtures("measured")
def test_the_report_says_what_was_found() -> None:
    text = render(result(), None)
    for line in (
        "| **little** V11 D4 L1 H2 F3 B2 T5 | 30.0 | 10.0; 3.00× | failed "
        "| 3.00 (3.00 to 3.00) | 1 |",
        "| `linear_forward` without bias | 2.00 | 8.00 | 4.00 |",
        "| little | 30% | 50% |",
        "| little step | Broken, 1 thread | – | – | failed: crashed \\| badly |",
        "| optimized, little, 1 thread | 1000 B (1.00) | 3.9 KiB (4.00) | 4.9 KiB (5.00) "
        "| 7.8 KiB (8.00) |",
        "| `m` | 150 | 100 | 50 |",
        "| little step | Fake, 1 thread | 1,500 | 2,000 | 100 |",
        "| little step | optimized, 1 thread | – | – | 33.3 |",
        "CPython, NumPy 2 with a BLAS, cllm 9.8 by GCC (D) 12.2.0, Fake 1.2; instruction set avx2.",
        "Commit `0123456789ab` on main of 2026-03-01, with changes that are not committed.",
        f"| little step | {100e-9 * step_flops(LITTLE.setting):.0f}",
    ):
        assert line in text
    assert "in 2 minutes" in text
    assert "were not all there" not in text
    assert "![" not in text


@pytest.mark.usefixtures("measured")
def test_the_report_of_a_generation() -> None:
    found = result()
    found["commit"], found["settings"]["threads"] = None, [1, 2]
    one, two = (entry(1.0, "optimized", is_peer=False) for _ in range(2))
    two.competitor = replace(two.competitor, threads=2)
    one.status = two.status = Status.RACED
    one.rates, two.rates = [1000.0] * 3, [1500.0] * 3
    reads = {threads: [4e3 * token_bytes(LITTLE.setting)] * 3 for threads in (1, 2)}
    contest = Contest(LITTLE, Kind.GREEDY, [one, two], {1: [1.0], 2: [2.0]}, [None], reads)
    found["contests"] = [summarize(contest, 0)]
    text = render(found, None)
    assert "Not in a git repository." in text
    nbytes = token_bytes(LITTLE.setting)
    read = f"{4e-6 * nbytes:.0f}"
    assert f"| little | 25% | 38% | {nbytes} B | {read} | {read} | 1.50 (1.50 to 1.50) |" in text
    assert "| little greedy | optimized, 2 threads | – | – | 2.67 |" in text


def test_cores_that_are_shared_are_noticed() -> None:
    row = {"peak_blocks": {"1": [100.0] * 4, "2": [199.0, 198.0, 197.0, 110.0]}}
    assert not is_crowded(row)
    row["peak_blocks"]["2"] = [199.0, 198.0, 110.0, 110.0]
    assert is_crowded(row)
    assert not is_crowded({"peak_blocks": {"2": [1.0]}})


def test_what_is_aimed_at_is_for_our_own_model() -> None:
    theirs = result()
    assert " aim |" in render(theirs, None)
    theirs["settings"]["models"] = ["mine.py:Mine"]
    for entry in theirs["contests"][0]["entries"]:
        if entry["library"] == "optimized":
            entry["library"] = "mine.py:Mine"
    assert "| 3.00 (3.00 to 3.00) |" in render(theirs, None)
    assert " aim |" not in render(theirs, None)


def test_no_picture_without_peers() -> None:
    alone = result()
    alone["contests"][0]["best_peer"] = None
    assert svg(alone) is None
