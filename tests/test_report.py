"""The report: the file for machines, and the page for people."""

from __future__ import annotations

import copy
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from cllm.harness import charts, page
from cllm.harness.benchmark import Benchmark
from cllm.harness.charts import LARGEST_SHARE, SMALLEST_DIFFERENCE
from cllm.harness.lockstep import Lockstep
from cllm.harness.machine import fingerprint
from cllm.harness.report import document, write_report
from cllm.harness.verdict import Status, Verdict
from cllm.harness.verify import Verification

SETTINGS: dict[str, Any] = {
    "candidate": "optimized",
    "reference": "reference",
    "paths": ["some text"],
    "steps": 30,
    "seed": 7,
    "threads": 2,
    "isa": "avx2",
    "config": {"vocab_size": 381, "embed_dim": 64, "num_layers": 2, "num_heads": 4, "ff_dim": 128},
    "parameters": 82_624,
    "batch_size": 4,
    "seq_len": 16,
    "text": {
        "files": 3, "skipped": {}, "bytes": 4096, "tokens": 1234, "tokenizer": "bpe", "key": "0",
    },
}  # fmt: skip


def row(tensor: str, share: float) -> dict[str, Any]:
    return {
        "tensor": tensor, "share": share, "error": share * 1e-6, "tolerance": 1e-6, "index": [1, 2],
        "got": 0.5, "expected": 0.5, "case": "V 7 D 4",
    }  # fmt: skip


def verification(
    *, share: float = 0.4, status: Status = Status.PASS, loss: float = 2.0
) -> Verification:
    rng = np.random.default_rng(0)
    reference = np.linspace(6.0, 2.0, 30)
    candidate = reference + 1e-7 * rng.normal(size=30)
    candidate[-1] = loss
    tensors = [row("embedding", 0.1), row("layer0.qkv_weight.query", share)]
    verdicts = [
        Verdict(Status.PASS, "as it should", check="loss.value"),
        Verdict(status, "34 tensors", {"tensors": tensors}, "gradients.reference"),
        Verdict(Status.NOT_APPLICABLE, "no decoder", check="generation.cache"),
    ]
    benchmark = Benchmark([200.0, 210.0], [50.0, 52.0], 4.0, 3.9, 4.1, 64)
    course = Lockstep(candidate, reference, np.full(30, 2e-6), 4.9)
    return Verification(copy.deepcopy(SETTINGS), fingerprint(), verdicts, course, benchmark)


class Page(HTMLParser):
    """What a page loads, and the text of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.images: list[str] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in {"a", "meta", "link"}:
            self._inside.append(tag)
        for name in ("src", "srcset", "data", "poster"):
            if value := found.get(name):
                self.loads.append(value)
        if tag == "link":
            self.loads.append(str(found["href"]))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if found.get("role") == "img" or tag == "img":
            self.images.append(found.get("aria-label") or found.get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(found: Verification) -> Page:
    return Page(page.render(document(found)))


def test_document_holds_what_it_promises() -> None:
    found = document(verification())
    assert set(found) == {
        "version", "created", "status", "settings", "machine", "verdicts", "tensors", "curves",
        "benchmark",
    }  # fmt: skip
    assert found["version"] == 1
    assert found["status"] == "pass"
    assert set(found["curves"]) == {"candidate", "reference", "tolerance", "entropy"}
    assert set(found["benchmark"]) >= {"candidate", "reference", "ratio", "low", "high"}
    assert [tensor["tensor"] for tensor in found["tensors"]] == [
        "embedding", "layer0.qkv_weight.query",
    ]  # fmt: skip
    assert set(found["verdicts"][0]) == {"check", "status", "evidence", "details"}


@pytest.mark.parametrize(
    ("status", "said", "headline"),
    [
        (Status.PASS, "pass", "2 checks hold, 1 does not apply"),
        (Status.FAIL, "fail", "1 of 3 checks failed"),
        (Status.INCONCLUSIVE, "inconclusive", "Nothing failed, but 1 of 3 checks is inconclusive"),
    ],
)
def test_status_and_headline(status: Status, said: str, headline: str) -> None:
    report = document(verification(status=status))
    assert report["status"] == said
    assert page.headline(report) == headline


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    write_report(verification(share=math.inf, loss=math.nan), tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert found["tensors"][1]["share"] is None
    assert found["curves"]["candidate"][-1] is None


def test_page_needs_no_network() -> None:
    found = rendered(verification())
    assert [load for load in found.loads if not load.startswith("data:")] == []
    assert page.render(document(verification())).count("<script") == 3


def test_page_says_what_was_found() -> None:
    text = rendered(verification()).text
    for words in (
        "2 checks hold",
        "optimized held against reference",
        "4.00× the reference’s; 95% interval 3.90 to 4.10",
        "40% of its tolerance, in layer0.qkv_weight.query",
        "generation.cache – not applicable no decoder",
        "cllm verify 'some text' --model optimized --reference reference --steps 30 --seed 7 "
        "--threads 2",
        "avx2",
        fingerprint()["cpu"],
    ):
        assert words in text, words


def test_every_chart_has_a_place_and_words() -> None:
    report = document(verification())
    specs = page.specifications(report)
    found = rendered(verification())
    assert set(specs) == {"chart-loss", "chart-difference", "chart-gradients", "chart-speed"}
    assert set(specs) <= set(found.ids)
    assert len(found.images) == len(specs)
    assert all(len(words) > 40 for words in found.images)


@pytest.mark.parametrize("share", [0.4, 30.0, math.inf])
@pytest.mark.parametrize("loss", [2.0, math.nan])
def test_charts_can_be_drawn(share: float, loss: float) -> None:
    """By the same Vega-Lite as the page's."""
    report = document(verification(share=share, loss=loss))
    for name, spec in page.specifications(report).items():
        svg = vl_convert.vegalite_to_svg({**spec, "width": 500})
        marks = svg.count("<path")
        assert marks > 10, name
        assert "NaN" not in svg


def rows(spec: dict[str, Any], layer: int) -> list[dict[str, Any]]:
    """The data behind one layer of a chart."""
    name = (spec["layer"][layer].get("data") or spec["data"])["name"]
    found: list[dict[str, Any]] = spec["datasets"][name]
    return found


def test_charts_show_the_data() -> None:
    specs = page.specifications(document(verification(share=math.inf)))
    gradients = rows(specs["chart-gradients"], 0)
    assert [bar["share"] for bar in gradients] == [0.1, LARGEST_SHARE]
    assert [bar["text"] for bar in gradients] == ["10%", "not finite"]
    apart = rows(specs["chart-difference"], 0)
    assert len(apart) == 30
    assert all(SMALLEST_DIFFERENCE <= point["difference"] < 1e-6 for point in apart)
    assert "1 beyond it" in specs["chart-gradients"]["description"]


def test_page_without_figures() -> None:
    """Where the candidate raised there are verdicts alone."""
    found = verification()
    raised = Verdict(Status.FAIL, "ZeroDivisionError: no rows", {}, "lockstep.agrees")
    found = Verification(found.settings, found.machine, [raised], None, None)
    assert document(found)["curves"] is None
    shown = rendered(found)
    assert shown.images == []
    assert "1 of 1 checks failed" in shown.text
    assert "ZeroDivisionError: no rows" in shown.text


def test_a_model_against_itself_has_two_names() -> None:
    found = verification()
    found.settings["candidate"] = "reference"
    called = page.names(document(found))
    assert called == {"candidate": "reference (candidate)", "reference": "reference (reference)"}
    assert "chart-loss" in page.specifications(document(found))


def test_hostile_words_stay_words() -> None:
    found = verification()
    evil = "</script><script>alert(1)</script>"
    found.settings["candidate"] = evil
    found.verdicts.append(Verdict(Status.PASS, evil, {}, evil))
    html = page.render(document(found))
    assert evil not in html
    assert html.count("<script") == 3
    assert evil in Page(html).text


def test_report_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_report(verification(), tmp_path / "a" / "b")
    assert written == tmp_path / "a" / "b" / "index.html"
    before = {path.name: path.read_bytes() for path in written.parent.iterdir()}
    assert set(before) == {"index.html", "report.json"}

    def fail(report: dict[str, Any]) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr("cllm.harness.report.render", fail)
    with pytest.raises(RuntimeError, match="no page"):
        write_report(verification(status=Status.FAIL), written.parent)
    assert {path.name: path.read_bytes() for path in written.parent.iterdir()} == before


def test_a_failure_leads_to_its_cause() -> None:
    verdicts = [
        {"check": name, "status": status}
        for name, status in (
            ("lockstep.agrees", "fail"),
            ("loss.value", "pass"),
            ("training.update", "fail"),
            ("gradients.reference", "fail"),
        )
    ]
    found = page.origin({"verdicts": verdicts})
    assert found is not None
    assert found["check"] == "gradients.reference"
    assert page.origin({"verdicts": verdicts[1:2]}) is None


def test_a_difference_beyond_the_tolerance_stays_in_the_chart() -> None:
    spec = charts.difference_chart([1e-7, 0.5, None], [1e-6, 1e-6, 1e-6])
    top = max(spec["layer"][0]["encoding"]["y"]["scale"]["domain"])
    assert top >= 0.5
