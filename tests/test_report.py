"""The report: the file for machines, and the page for people."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from cllm.harness import CHECKS, page
from cllm.harness.benchmark import Benchmark
from cllm.harness.charts import LARGEST_SHARE, ROOM, SMALLEST_DIFFERENCE
from cllm.harness.lockstep import Lockstep
from cllm.harness.machine import fingerprint
from cllm.harness.report import document, write_report
from cllm.harness.verdict import Status, Verdict
from cllm.harness.verify import Verification

SETTINGS: dict[str, Any] = {
    "candidate": "optimized",
    "reference": "reference",
    "checks": [],
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
    details: dict[str, Any] = {"tensors": tensors}
    if status is Status.FAIL:
        tensor = tensors[1]["tensor"]
        details["start"] = {"tensor": tensor, "where": f"starts at {tensor}"}
    verdicts = [
        Verdict(Status.PASS, "as it should", check="loss.value"),
        Verdict(status, "34 tensors", details, "gradients.reference"),
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
        "version", "created", "status", "settings", "machine", "start", "verdicts", "tensors",
        "curves", "benchmark",
    }  # fmt: skip
    assert found["version"] == 1
    assert found["status"] == "pass"
    assert set(found["curves"]) == {"candidate", "reference", "tolerance", "entropy"}
    assert set(found["benchmark"]) >= {"candidate", "reference", "ratio", "low", "high"}
    assert [tensor["tensor"] for tensor in found["tensors"]] == [
        "embedding", "layer0.qkv_weight.query",
    ]  # fmt: skip
    assert set(found["verdicts"][0]) == {"check", "summary", "status", "evidence", "details"}
    assert found["verdicts"][0]["summary"] == CHECKS["loss.value"].summary


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
    start = "gradients.reference: starts at layer0.qkv_weight.query"
    assert report["start"] == (start if status is Status.FAIL else None)
    shown = rendered(verification(status=status)).text
    assert (f"Look first at {start}" in shown) is (status is Status.FAIL)


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
        "0.40× its tolerance, in layer0.qkv_weight.query",
        CHECKS["generation.cache"].summary + " – not applicable no decoder",
        "each trained on 1,920 tokens, drawn from a text of 1,234 in 3 files",
        "unigram entropy 4.90",
        "networks, of up to 1 layer,",
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
        drawn = sum(len(group) for group in re.findall(r"role-mark.*?</g>", svg, re.DOTALL))
        assert svg.count("role-mark") >= len(spec["layer"]), name
        assert drawn > 1000, name
        assert "NaN" not in svg


def rows(spec: dict[str, Any], layer: int) -> list[dict[str, Any]]:
    """The data behind one layer of a chart."""
    name = (spec["layer"][layer].get("data") or spec["data"])["name"]
    found: list[dict[str, Any]] = spec["datasets"][name]
    return found


def layers(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    found = (layer for layer in spec["layer"] if layer["mark"]["type"] == mark)
    return [layer["encoding"] for layer in found]


@pytest.mark.parametrize("loss", [2.0, 1e4, math.nan])
def test_differences_lie_inside_their_axis(loss: float) -> None:
    spec = page.specifications(document(verification(loss=loss)))["chart-difference"]
    low, high = layers(spec, "point")[0]["y"]["scale"]["domain"]
    found = rows(spec, 0)
    values = [row[name] for row in found for name in ("difference", "tolerance")]
    assert all(low <= value <= high for value in values if value is not None)


@pytest.mark.parametrize("share", [0.4, 1.0, 1.5, 30.0, 4321.0, math.inf])
def test_gradients_axis_has_a_tick_at_the_tolerance_and_room(share: float) -> None:
    spec = page.specifications(document(verification(share=share)))["chart-gradients"]
    x = layers(spec, "bar")[0]["x"]
    ticks, (low, high) = x["axis"]["values"], x["scale"]["domain"]
    assert 1 in ticks
    assert len(ticks) <= 7
    assert low == ticks[0]
    longest = max(row["drawn"] for row in rows(spec, 0))
    place = math.log if x["scale"].get("type") == "log" else float
    span = place(high) - place(low)
    assert 0 <= (place(longest) - place(low)) / span <= 1 - ROOM + 1e-9


def test_both_curves_can_be_told_apart() -> None:
    spec = page.specifications(document(verification()))["chart-loss"]
    dashes = layers(spec, "line")[-1]["strokeDash"]["scale"]
    assert dashes["domain"][:2] == ["optimized", "reference"]
    assert dashes["range"][0] == [1, 0]
    assert dashes["range"][1] != [1, 0]


def test_tile_names_where_the_gradients_go_wrong_first() -> None:
    report = document(verification(share=30.0, status=Status.FAIL))
    report["tensors"].append(row("layer0.ln1_gain", 900.0))
    title, figure, text = page.gradient_tile(report)
    assert (title, figure) == ("Gradients go wrong first in", "layer0.qkv_weight.query")
    assert text == "30× its tolerance; 2 of 3 tensors are beyond theirs"
    report["verdicts"][0]["status"] = "fail"
    assert page.gradient_tile(report)[2].endswith(", after a forward pass that is wrong already")


def test_page_says_where_the_machine_was_busy() -> None:
    found = verification()
    for load, busy in ((0.0, False), (64.0 * found.machine["cores"], True)):
        found.machine["load_average"] = load
        text = rendered(found).text
        assert f"The load average before the start was {load} on " in text
        assert ("the machine was busy" in text) is busy


def test_page_without_a_text_or_an_instruction_set() -> None:
    found = verification()
    found.settings.update(text=None, config=None, parameters=None, isa=None, checks=["loss"])
    found = Verification(found.settings, found.machine, found.verdicts, None, None)
    text = rendered(found).text
    assert "3 checks on random cases" in text
    assert "--check loss" in text
    assert "Instruction set" not in text


def test_page_has_the_traceback() -> None:
    found = verification()
    raised = Verdict(Status.FAIL, "no rows", {"traceback": "in my_kernel"}, "loss.value")
    found = Verification(found.settings, found.machine, [raised], None, None)
    assert "Traceback in my_kernel" in rendered(found).text


def test_charts_show_the_data() -> None:
    specs = page.specifications(document(verification(share=math.inf)))
    gradients = rows(specs["chart-gradients"], 0)
    assert [bar["share"] for bar in gradients] == [0.1, LARGEST_SHARE]
    assert [bar["text"] for bar in gradients] == ["0.10×", "not finite"]
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
