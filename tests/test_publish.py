"""Reports of comparisons, of runs and of verifications: page, Markdown, JUnit XML, JSON."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import junitparser
import pytest
import vl_convert
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cllm.errors import CllmError
from cllm.harness.compare.comparison import (
    Comparison,
    Entry,
    Instructions,
    Interval,
    Outcome,
    Side,
)
from cllm.harness.compare.instructions import BLIND
from cllm.harness.machine import fingerprint
from cllm.harness.publish import comparison, junit, page, performance, summary
from cllm.harness.publish.command import report as command
from cllm.harness.publish.command import report_of
from cllm.harness.publish.source import LONGEST

Document = dict[str, Any]

EVIL = '</script><script>alert(1)</script>|`x`\n<b>"q" [a](b) @you #1'

SIZES = {
    "vocab_size": 381, "embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128,
    "batch_size": 4, "seq_len": 16,
}  # fmt: skip
PARAMETERS = 82_624

PROBE = {
    "level": "avx2",
    "fma": {"1": 1e11, "2": 2e11},
    "read": {"1": {"L2": 9e10, "memory": 3e10}, "2": {"L2": 2e11, "memory": 4e10}},
}

RATIOS = {
    Outcome.SLOWER: 0.97, Outcome.FASTER: 1.05, Outcome.SAME: 1.001, Outcome.INCONCLUSIVE: 0.99,
}  # fmt: skip


def entry(outcome: Outcome, name: str = "small step, 2 threads", threads: int = 2) -> Entry:
    ratio = RATIOS[outcome]
    interval = Interval(ratio, ratio - 0.005, ratio + 0.005)
    return Entry(
        name, "small", "step", threads, "steps/s", outcome, "as the interval says", SIZES,
        ratio=interval,
        decision=replace(interval, low=ratio - 0.01, high=ratio + 0.01, confidence=0.99),
        noise=Interval(1.0, 0.996, 1.004),
        detectable=0.008,
        base=(2500.0, 2400.0), base_again=(2500.0, 2600.0),
        head=(2500.0 * ratio, 2500.0 * ratio), head_again=(2500.0 * ratio, 2400.0),
        peaks=(2e11, 2.1e11), flops=30_000_000, seconds=12.0,
        instructions=Instructions(1000, 1031, 1.031, "more"),
    )  # fmt: skip


def failed(name: str = "medium greedy, 1 thread") -> Entry:
    return Entry(
        name, "medium", "greedy", 1, "tokens/s", Outcome.INCONCLUSIVE,
        "head crashed by SIGSEGV", SIZES, instructions_reason="valgrind is not installed",
    )  # fmt: skip


def made(*entries: Entry) -> Comparison:
    commit = {"sha": "ca041df2f1f1aaaa", "subject": "Softmax in two passes", "dirty": True}
    return Comparison(
        "2026-11-20T12:00:00+00:00",
        Side("main", "revision", "0.1.0"),
        Side("faster", "revision", "0.1.0", commit),
        entries, fingerprint(), "avx2", {"minimum_effect": 0.01, "seed": 3}, 243.0, PROBE,
    )  # fmt: skip


def documented(*entries: Entry) -> Document:
    """As the file has it."""
    found: Document = json.loads(json.dumps(made(*entries).to_dict()))
    return found


def reported(*entries: Entry) -> Document:
    return comparison.report_of(made(*entries))


def run() -> Document:
    """A `performance.json` with a model, a peer, one that failed and one that was only tried."""

    def racer(name: str, rate: float | None, **values: Any) -> Document:
        return {
            "name": f"{name}, 2 threads", "library": name, "threads": 2, "is_peer": True,
            "status": "raced", "reason": "", "build_seconds": 0.5, "rate": rate, "mfu": None,
            "rates": [rate, None, rate], "versus": {},
        } | values  # fmt: skip

    best = "Fake, 2 threads"
    ours = racer(
        "optimized", 3000.0, is_peer=False, mfu=0.5, versus={best: [1.5, 1.4, 1.6]},
        rates=[2900.0, None, 3100.0],
    )  # fmt: skip
    broken = racer("Broken", None, status="failed", reason="crashed", rates=[], build_seconds=None)
    tried = racer("Slow", 5.0, status="tried", rates=[])
    sizes = {name: SIZES[name] for name in list(SIZES)[:5]}
    contest = {
        "configuration": "small", "kind": "step", "sizes": sizes, "batch_size": 4, "seq_len": 16,
        "best_peer": best, "entries": [ours, racer("Fake", 2000.0), broken, tried],
    }  # fmt: skip
    greedy = copy.deepcopy(contest) | {"kind": "greedy"}
    greedy["entries"][0]["versus"] = {best: [4.0, 3.9, 4.1]}
    return {
        "machine": fingerprint(),
        "settings": {
            "models": ["optimized"], "configurations": ["small"], "seed": 0, "threads": [2],
            "peers": True, "seconds": 0.1,
        },
        "missing_peers": ["JAX"],
        "missing_figures": [{"figure": "memory of Mine", "reason": "crashed <by> SIGABRT"}],
        "peer_versions": {"Fake": "7.8"},
        "probe": PROBE,
        "contests": [contest, greedy],
        "operations": {
            "configuration": "small",
            "rows": [
                {
                    "function": "linear_forward", "without": ["bias"], "ratio": 4.0,
                    "optimized_seconds": 2e-6, "reference_seconds": 8e-6,
                }
            ],
        },
        "memory": [
            {
                "model": "optimized", "configuration": "small", "threads": 2, "grown_bytes": 8192,
                "parameter_bytes": 1000, "planned_bytes": 2048,
            }
        ],
        "imports": [
            {"model": "optimized", "module": "m", "seconds": 0.08, "numpy_seconds": 0.06},
        ],
        "seconds": 240.0,
    }  # fmt: skip


def verified() -> Document:
    """A `report.json` of `cllm verify` with training."""
    verdict = {"check": "loss.value", "summary": "It holds.", "details": {}}
    return {
        "version": 1, "created": "2026-11-20T12:00:00+00:00", "status": "inconclusive",
        "start": None, "machine": fingerprint(), "tensors": [], "benchmark": None,
        "settings": {
            "candidate": "optimized", "reference": "reference", "checks": [], "paths": [],
            "steps": 30, "seed": 0, "threads": 2, "isa": None, "config": None, "parameters": None,
            "batch_size": 4, "seq_len": 16, "text": None,
        },
        "verdicts": [
            {**verdict, "status": "pass", "evidence": "fine"},
            {**verdict, "check": "races.model", "status": "inconclusive", "evidence": "no TSan"},
            {**verdict, "check": "data.all", "status": "not applicable", "evidence": "no corpus"},
        ],
        "curves": {
            "candidate": [6.0, 5.0], "reference": [6.0, 5.0], "tolerance": [1e-6, 1e-6],
            "entropy": 4.9,
        },
    }  # fmt: skip


class Page(HTMLParser):
    """What a page loads, its places, and the text of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.images: list[str] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._hidden += tag in ("script", "style")
        self.loads += [found[name] for name in ("src", "srcset", "poster") if name in found]
        self.loads += [found["href"]] if tag == "link" else []
        self.ids += [found["id"]] if "id" in found else []
        if found.get("role") == "img":
            self.images.append(found["aria-label"])

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


ALL = (
    entry(Outcome.SAME, "tiny step, 1 thread", 1),
    entry(Outcome.SLOWER),
    failed(),
    entry(Outcome.FASTER, "large step, 2 threads"),
)

REPORTS: dict[str, Callable[[], Document]] = {
    "comparison": lambda: reported(*ALL),
    "one": lambda: reported(entry(Outcome.SAME)),
    "nothing measured": lambda: reported(failed()),
    "forty": lambda: reported(*(entry(Outcome.SAME, f"step {i}") for i in range(40))),
    "no probe": lambda: comparison.report_of(replace(made(*ALL), probe={})),
    "run": lambda: performance.report_of(run()),
}

each_report = pytest.mark.parametrize("kind", REPORTS)


@pytest.mark.parametrize(
    ("outcomes", "headline", "status", "exit_status"),
    [
        (["same", "slower", "inconclusive", "faster"], "1 of 4 benchmarks is slower", "slower", 1),
        (["slower", "slower"], "2 of 2 benchmarks are slower", "slower", 1),
        (["inconclusive", "faster"], "Nothing is slower, but 1 of 2 is inconclusive",
         "inconclusive", 3),
        (["faster", "same"], "1 of 2 benchmarks is faster, none slower", "faster", 0),
        (["same", "same"], "No difference that counts in 2 benchmarks", "same", 0),
        (["slower"], "small step, 2 threads: slower, −3.0%", "slower", 1),
        (["inconclusive"], "small step, 2 threads: inconclusive", "inconclusive", 3),
    ],
)  # fmt: skip
def test_headline_status_and_where_to_look(
    outcomes: list[str], headline: str, status: str, exit_status: int
) -> None:
    found = reported(*(entry(Outcome(outcome)) for outcome in outcomes))
    assert found["headline"] == headline
    assert (found["status"], found["exit_status"]) == (status, exit_status)
    start = "small step, 2 threads: −3.0%, 95% interval −3.5% to −2.5%"
    assert found["start"] == (start if status == "slower" else None)
    text = Page(page.render(found)).text
    assert headline in text
    assert (f"Look first at {start}" in text) is (status == "slower")


def test_the_most_urgent_stands_first_and_names_are_told_apart() -> None:
    found = reported(*ALL, entry(Outcome.SLOWER))
    assert [row["title"] for row in found["benchmarks"]] == [
        "small step, 2 threads",
        "small step, 2 threads (2)",
        "medium greedy, 1 thread",
        "large step, 2 threads",
        "tiny step, 1 thread",
    ]


def test_report_holds_the_figures() -> None:
    row = reported(*ALL)["benchmarks"][0]
    assert row["ratio"] == asdict(Interval(0.97, 0.965, 0.975))
    assert row["medians"] == {"base": 2500.0, "head": 2425.0}
    assert row["share"] == pytest.approx(2425.0 * 30e6 / 2.1e11)
    (roof, *_) = reported(*ALL)["rooflines"]
    assert (roof["threads"], roof["peak"]) == (1, 1e11)
    point = roof["points"][0]
    assert point["intensity"] == pytest.approx(30e6 / (40 * PARAMETERS))
    assert point["speed"] == pytest.approx(2500.0 * RATIOS[Outcome.SAME] * 30e6)
    assert reported(failed())["benchmarks"][0]["share"] is None


def test_tiles_name_the_extremes_and_the_noise() -> None:
    found = {title: (figure, text) for title, figure, text in comparison.tiles(reported(*ALL))}
    assert found["Most slowed down"] == ("−3.0%", "small step, 2 threads; judged slower")
    assert found["Most sped up"] == ("+5.0%", "large step, 2 threads; judged faster")
    assert found["Noise"][0] == "±0.40%"
    assert found["An effect of"][0] == "0.80%"
    found = {tile[0]: tile[1:] for tile in comparison.tiles(reported(entry(Outcome.FASTER)))}
    assert found["Most slowed down"][0] == "nothing"
    assert comparison.tiles(reported(failed())) == []


@each_report
def test_page_needs_no_network_and_every_chart_has_a_place_and_words(kind: str) -> None:
    report = REPORTS[kind]()
    html = page.render(report)
    found = Page(html)
    assert [load for load in found.loads if not load.startswith("data:")] == []
    assert html.count("<script") == 3
    specs = page.specifications(report)
    assert set(specs) <= set(found.ids)
    assert len(found.images) == len(specs)
    assert all(len(words) > 40 for words in found.images)
    assert len(set(found.ids)) == len(found.ids)


@each_report
def test_charts_can_be_drawn(kind: str) -> None:
    """By the same Vega-Lite as the page's."""
    for name, spec in page.specifications(REPORTS[kind]()).items():
        svg = vl_convert.vegalite_to_svg({**spec, "width": 500})
        assert svg.count("role-mark") >= 3, name
        assert "NaN" not in svg
        assert "Infinity" not in svg


def test_charts_are_left_out_where_there_is_nothing_to_draw() -> None:
    assert page.specifications(REPORTS["nothing measured"]()) == {}
    assert set(page.specifications(REPORTS["no probe"]())) == {"chart-ratios", "chart-rates"}
    roofs = {"chart-roofline-1", "chart-roofline-2"}
    both = page.specifications(REPORTS["comparison"]())
    assert set(both) == {"chart-ratios", "chart-rates", *roofs}
    one = page.specifications(REPORTS["run"]())
    assert set(one) == {"chart-versus", "chart-rates", "chart-roofline-2"}


def test_page_of_a_comparison_says_what_was_found() -> None:
    text = Page(page.render(reported(*ALL))).text
    for said in (
        "faster (version 0.1.0, ca041df2f1f1 “Softmax in two passes”, changed after it) against "
        "main (version 0.1.0): 4 benchmarks on both sides in turn, in 4 minutes.",
        "▼ slower −3.0% −3.5% to −2.5% −0.40% to +0.40% 0.80% 2,500 2,425 steps/s 35% +3.1% more",
        "medium greedy, 1 thread head crashed by SIGSEGV Instructions: valgrind is not installed "
        "? inconclusive – – – – – –",
        "the band is ±1.0%, within which a difference does not count",
        "Minimum effect 0.01",
        BLIND,
        "Repeat it cllm compare main faster --minimum-effect 0.01 --seed 3",
        fingerprint()["cpu"],
    ):
        assert said in text, said


def test_page_of_a_run_says_what_was_found() -> None:
    text = Page(page.render(performance.report_of(run()))).text
    for said in (
        "optimized: 1.50 to 4.00 times the best peer",
        "JAX not installed, not measured",
        "small step optimized, 2 threads 3,000 steps/s 50% 1.50 (1.40 to 1.60) 0.50",
        "✗ failed: crashed",
        "Fake 7.8",
        "Could not be had memory of Mine crashed <by> SIGABRT",
        "linear_forward without bias 2.00 8.00 4.00",
        "cllm bench optimized --peers --configuration small --threads 2 --seconds 0.1 --seed 0",
    ):
        assert said in text, said
    assert "Slow" not in text
    assert "Least ahead of a peer 1.50×" in text


def test_a_run_in_which_a_model_failed_is_bad_and_one_of_a_peer_is_not() -> None:
    document = run()
    assert performance.report_of(document)["exit_status"] == 0
    document["contests"][0]["entries"][0] |= {"status": "refused", "reason": "the loss is 3"}
    found = performance.report_of(document)
    assert (found["status"], found["exit_status"]) == ("fail", 1)
    assert found["headline"] == "1 measurement of optimized failed"
    assert found["start"] == "small step, optimized, 2 threads: refused: the loss is 3"


def test_every_interval_and_rate_is_in_the_charts() -> None:
    specs = page.specifications(reported(*ALL))
    ratios = [row for rows in specs["chart-ratios"]["datasets"].values() for row in rows]
    drawn = {row["title"]: row for row in ratios if "ratio" in row and "first" in row}
    assert set(drawn) == {row["title"] for row in reported(*ALL)["benchmarks"] if row["ratio"]}
    slower = drawn["small step, 2 threads"]
    assert (slower["low"], slower["high"]) == (0.965, 0.975)
    assert (slower["first"], slower["last"]) == (0.96, 0.98)
    assert {"title": "medium greedy, 1 thread", "said": "no figure"} in ratios
    assert {"low": 0.99, "high": 1.01} in ratios
    sets = specs["chart-rates"]["datasets"].values()
    ticks = max(sets, key=len)
    assert len(ticks) == 3 * 4 * 2
    assert {tick["who"] for tick in ticks} == {"head", "head again", "base", "base again"}


@each_report
def test_markdown_begins_with_the_verdict_and_its_tables_are_even(kind: str) -> None:
    report = REPORTS[kind]()
    text = summary.render(report)
    assert text.splitlines()[0].endswith(report["headline"].replace("|", "\\|"))
    assert text.count("<details>") == text.count("</details>") >= 1
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1, block


def test_markdown_of_a_comparison_says_what_was_found() -> None:
    text = summary.render(reported(*ALL))
    assert "| 🔻 small step, 2 threads | slower | −3.0% | −3.5% to −2.5% | 2,500 | 2,425 st" in text
    assert "| medium greedy, 1 thread | – | – | not counted: valgrind is not installed |" in text
    assert "    cllm compare main faster --minimum-effect 0.01 --seed 3\n" in text
    assert "Look first at small step, 2 threads: −3.0%" in text


def test_markdown_of_a_run_says_what_could_not_be_had() -> None:
    text = summary.render(performance.report_of(run()))
    assert "| memory of Mine | crashed &lt;by&gt; SIGABRT |" in text


def test_markdown_fits_into_a_comment() -> None:
    entries = [entry(Outcome.SAME, f"step {'x' * 200} {i}") for i in range(500)]
    text = summary.render(reported(entry(Outcome.SLOWER, "the slow one"), *entries))
    assert len(text) < 65_536
    assert "the slow one" in text
    assert re.search(r"\d+ benchmarks less urgent left out here", text)


def test_junit_says_what_is_slower_and_what_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes(junit.render(reported(*ALL)))
    (suite,) = junitparser.JUnitXml.fromfile(str(path))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 0)
    assert suite.name == "faster against main"
    results = {case.name: case.result for case in suite}
    (failure,) = results["small step, 2 threads"]
    assert isinstance(failure, junitparser.Failure)
    assert failure.message.startswith("−3.0%, 95% interval −3.5% to −2.5%: as the")
    (error,) = results["medium greedy, 1 thread"]
    assert isinstance(error, junitparser.Error)
    assert error.message == "head crashed by SIGSEGV"
    path.write_bytes(junit.render(performance.report_of(run())))
    (suite,) = junitparser.JUnitXml.fromfile(str(path))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (6, 0, 0, 2)


def test_very_long_names_are_cut() -> None:
    long = [entry(Outcome.SLOWER, "x" * 3000 + end) for end in "ab"]
    measured = run()
    measured["settings"]["models"] = ["y" * 3000]
    measured["contests"][0]["configuration"] = "z" * 3000
    measured["contests"][0]["entries"][0]["name"] = "v" * 3000
    for found in (reported(*long), performance.report_of(measured)):
        shown = summary.render(found) + page.render(found)
        assert len(found["headline"]) < 300
        assert not re.search("(x|z|v){200}", shown)
    titles = [row["title"] for row in reported(*long)["benchmarks"]]
    assert titles[0].endswith("…")
    assert titles[1].endswith("… (2)")


def test_hostile_words_stay_words() -> None:
    evil = made(replace(entry(Outcome.SLOWER), name=EVIL, reason=EVIL, instructions_reason=EVIL))
    side = Side(EVIL, EVIL, EVIL, {"sha": EVIL, "subject": EVIL})
    evil = replace(evil, base=side, head=side, settings={EVIL: EVIL}, level=EVIL)
    found = comparison.report_of(evil)
    html = page.render(found)
    assert "<script>alert" not in html
    assert html.count("<script") == 3
    text = re.sub(r"^    .*$", "", summary.render(found), flags=re.MULTILINE)
    assert "<b>" not in text
    assert "<script>" not in text
    assert "[a](b)" not in text
    assert "@you" not in text
    assert junitparser.JUnitXml.fromstring(junit.render(found)) is not None


def test_a_verification_is_told_again(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(verified()))
    found = report_of(path)
    assert found["exit_status"] == 3
    assert found["headline"] == "Nothing failed, but 1 of 3 checks is inconclusive"
    assert "chart-loss" in Page(page.render(found)).ids
    assert "| ❔ races.model | inconclusive | no TSan |" in summary.render(found)
    (suite,) = junitparser.JUnitXml.fromstring(junit.render(found))
    assert (suite.tests, suite.errors, suite.skipped) == (3, 1, 1)


def invoke(source: Path, output: Path) -> Any:
    arguments = [str(source), "--output", str(output)]
    return CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (documented(*ALL), 1), (documented(failed()), 3), (documented(entry(Outcome.SAME)), 0),
        (run(), 0), (verified(), 3),
    ],
)  # fmt: skip
def test_the_command_writes_all_forms(document: Document, status: int, tmp_path: Path) -> None:
    source, output = tmp_path / "source.json", tmp_path / "a" / "b"
    source.write_text(json.dumps(document))
    result = invoke(source, output)
    assert result.return_value == status
    assert sorted(path.name for path in output.iterdir()) == [
        "index.html", "junit.xml", "report.json", "summary.md",
    ]  # fmt: skip
    found = json.loads((output / "report.json").read_text(), parse_constant=pytest.fail)
    assert found["headline"] == result.stdout.strip()
    assert found == json.loads(json.dumps(report_of(source)))


def test_what_is_no_character_does_no_harm(tmp_path: Path) -> None:
    source, output = tmp_path / "source.json", tmp_path / "out"
    found = documented(entry(Outcome.SLOWER, "half \ud800 \x00 a \x1b[31m pair"))
    source.write_text(json.dumps(found))
    assert invoke(source, output).return_value == 1
    for path in output.iterdir():
        assert path.read_text(encoding="utf-8")
    (suite,) = junitparser.JUnitXml.fromfile(str(output / "junit.xml"))
    assert suite.failures == 1


def spoiled(change: Callable[[Document], Any]) -> str:
    document = documented(*ALL)
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"kind": "comparison", "seconds": NaN}', "NaN is no number of JSON"),
        ('{"kind": "comparison", "seconds": 1e999}', "1e999 is no number between 1e-50 and 1e+50"),
        ('{"kind": "comparison", "seconds": -%s}' % ("9" * 400), "is no number between"),
        ("[]", "it is no JSON object"),
        ("{}", "must be comparison.json of c"),
        ('{"kind": "comparison"}', "a comparison of version None, must be 1"),
        (spoiled(lambda d: d.update(version=2)), "a comparison of version 2, must be 1"),
        (spoiled(lambda d: d.pop("entries")), "'entries' is a required property"),
        (spoiled(lambda d: d.update(entries=[])), "without a benchmark, must have one or more"),
        (spoiled(lambda d: d["entries"][1].update(outcome="fine")), 'entries[1].outcome is "fine"'),
        (spoiled(lambda d: d["entries"][0].update(threads="2")), 'threads is "2": must be an int'),
        (spoiled(lambda d: d["entries"][0].update(decision=True)), "entries[0].decision is true"),
        (json.dumps(run() | {"commit": 3}), "commit is 3: must be an object or null"),
        (spoiled(lambda d: d["entries"][0].pop("noise")), "not a comparison of version 1: 'noise'"),
        (spoiled(lambda d: d["entries"][0].update(new=1)), "unexpected keyword argument 'new'"),
        (spoiled(lambda d: d["entries"][0].update(base=[0.0])), "a rate in base is not positive"),
        (spoiled(lambda d: d["entries"][0].update(flops=-1)), "-1 flops, must be 0 or more"),
        (spoiled(lambda d: d["entries"][0]["ratio"].update(low=2.0)), "must be positive and in or"),
        (spoiled(lambda d: d["entries"][0].update(ratio=None)), "same without a ratio"),
        (spoiled(lambda d: d["probe"].update(fma={"1": -1})), "probe.fma.1 is -1"),
        (json.dumps(run() | {"contests": []}), "contests is []"),
        (json.dumps(run() | {"missing_figures": 3}), "missing_figures is 3: must be an array"),
        (json.dumps(run() | {"missing_figures": [{"reason": "why"}]}), "'figure' is a required"),
        (json.dumps(run() | {"seconds": "long"}), 'seconds is "long": must be a number'),
        (json.dumps(verified() | {"version": 9}), "version is 9: must be 1"),
        (json.dumps(verified() | {"settings": {"candidate": None}}), "candidate is null: must be"),
        (json.dumps(verified() | {"settings": {}}), "not a verification of version 1"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    source, output = tmp_path / "some.json", tmp_path / "out"
    source.write_bytes(text.encode("latin-1"))
    with pytest.raises(CllmError) as raised:
        invoke(source, output)
    assert str(raised.value).startswith(f"{source}: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < len(str(source)) + 3 * LONGEST + 100
    assert not output.exists()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, each in inner:
            found += places(each, (*path, key)) if isinstance(each, dict | list) else [(*path, key)]
    return found


DOCUMENTS = (documented(*ALL), run(), verified())
scalars = st.sampled_from([None, True, -1, 0, 3.5, "", "text", [], {}, [1], {"a": 1}])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_wrong_value_is_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    *path, key = data.draw(st.sampled_from(places(document)))
    inner: Any = document
    for step in path:
        inner = inner[step]
    if data.draw(st.booleans()):
        inner[key] = data.draw(scalars)
    elif isinstance(inner, dict):
        del inner[key]
    source = tmp_path / "some.json"
    source.write_text(json.dumps(document))
    try:
        found = report_of(source)
    except CllmError:
        return
    assert page.render(found)
    assert summary.render(found)
    assert junit.render(found)


def test_a_head_that_fails_stands_before_one_that_is_slower() -> None:
    failed = replace(
        entry(Outcome.INCONCLUSIVE), outcome=Outcome.FAILED, ratio=None, decision=None, noise=None,
        detectable=None, reason="head cannot be measured: crashed by SIGSEGV",
    )  # fmt: skip
    found = reported(entry(Outcome.SLOWER), failed)
    assert (found["status"], found["exit_status"]) == ("failed", 1)
    assert found["headline"] == "1 of 2 benchmarks failed"
    assert found["start"].endswith("head cannot be measured: crashed by SIGSEGV")
    assert "crashed by SIGSEGV" in page.render(found)
    assert "❌" in summary.render(found)
