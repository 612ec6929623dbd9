"""The folder of a run: what it holds, after kills and full disks too."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cllm import CllmError, Config
from cllm.reference import Model
from cllm.text.tokenizer import TokenizerSettings, train_tokenizer
from cllm.training.checkpoint import Checkpoint
from cllm.training.run import Record, RunFolder, checkpoints, find_checkpoint, train
from cllm.training.settings import RunSettings, Settings
from cllm.training.trainer import Trainer

TOKENIZER = train_tokenizer("whitespace", ["a b c d e f g"], 11, False)
CONFIG = Config(11, 8, 1, 2, 12)
TEXT = np.random.default_rng(5).integers(0, 11, 83).astype(np.uint8)
"""9 batches of 2 windows of 5 tokens: 18 steps in 2 epochs."""


def run(path: Path, stop_at: int | None = None, **settings: Any) -> list[Record]:
    """Train in the folder, from its newest checkpoint on, as the command line does."""
    choices = Settings(batch_size=2, seq_len=5, epochs=2, learning_rate=0.03, warmup=0)
    chosen = RunSettings(**{"checkpoint_every": 4, "keep": 2, "log_every": 3} | settings)
    trainer = Trainer(Model, CONFIG, choices, TEXT[:63], TEXT[63:])
    with RunFolder(path) as folder:
        _, saved = folder.newest() or (None, None)
        if saved:
            trainer.restore(saved.position, saved.parameters, saved.moments)
        start = Checkpoint(
            config=CONFIG,
            tokenizer=TOKENIZER,
            tokenizer_settings=TokenizerSettings("whitespace", 11),
            settings=choices,
            run_settings=chosen,
            corpus_key="",
            position=trainer.position,
            parameters=trainer.model.parameters,
            moments=trainer.model.moments,
            validation_loss=None,
            best_validation_loss=saved.best_validation_loss if saved else None,
            isa="numpy",
        )
        return list(train(trainer, folder, start, lambda: trainer.position.step == stop_at))


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


def metrics(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def content(path: Path) -> dict[str, bytes]:
    """All but what depends on the time."""
    found = {file.name: file.read_bytes() for file in path.glob("*.cllm")}
    lines = [
        {name: value for name, value in line.items() if name != "tokens_per_second"}
        for line in metrics(path)
    ]
    return found | {"metrics.jsonl": json.dumps(lines).encode()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    path = tmp_path_factory.mktemp("whole")
    run(path)
    return path


# -- what is in it -----------------------------------------------------------------------------


def test_the_folder_of_a_finished_run(whole: Path) -> None:
    assert names(whole) == [
        ".lock",
        "best.cllm",
        "metrics.jsonl",
        "step-00000012.cllm",
        "step-00000014.cllm",
    ]


def test_logged_are_the_first_step_every_third_and_the_validated(whole: Path) -> None:
    lines = metrics(whole)
    assert [line["step"] for line in lines] == [1, 3, 4, 6, 7, 8, 9, 12, 14]
    assert [line["epoch"] for line in lines] == [1] * 5 + [2] * 4
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert validated == [4, 7, 8, 12, 14]
    for line in lines:
        assert line.keys() >= {"step", "epoch", "loss", "learning_rate", "tokens_per_second"}
        assert ("perplexity" in line) == ("validation_loss" in line)
        assert line["tokens_per_second"] > 0


def test_the_best_is_the_lowest_validation_loss(whole: Path) -> None:
    measured = {
        line["validation_loss"]: line["step"] for line in metrics(whole) if "perplexity" in line
    }
    best = Checkpoint.load(whole / "best.cllm")
    assert best.position.step == measured[min(measured)]
    assert best.validation_loss == best.best_validation_loss == min(measured)
    last = Checkpoint.load(whole / "step-00000014.cllm")
    assert last.best_validation_loss == min(measured)
    assert last.position.epoch == 2
    assert len(measured) == 5
    assert best.position.step < 14  # it overfits: else the test above could not tell


def test_only_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    records = run(tmp_path, checkpoint_every=0)
    assert [record.step.step for record in records if record.saved] == [7, 14]


def test_find_checkpoint(whole: Path, tmp_path: Path) -> None:
    assert find_checkpoint(whole) == whole / "best.cllm"
    assert find_checkpoint(whole / "step-00000012.cllm") == whole / "step-00000012.cllm"
    with pytest.raises(CllmError, match="no checkpoint in this folder"):
        find_checkpoint(tmp_path)
    for name in ("step-99999999.cllm", "step-100000000.cllm", "step-last.cllm"):
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path) == tmp_path / "step-100000000.cllm"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    said = "another run is using this folder"
    with RunFolder(tmp_path), pytest.raises(CllmError, match=said):
        RunFolder(tmp_path).__enter__()
    with RunFolder(tmp_path):
        pass


# -- stopping and going on ---------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 2, 4, 5, 7, 8, 13, 14])
def test_stopped_and_resumed_gives_the_same_files(
    whole: Path, tmp_path: Path, stop_at: int
) -> None:
    records = run(tmp_path, stop_at)
    assert [record.step.step for record in records] == list(range(1, stop_at + 1))
    assert records[-1].saved == tmp_path / f"step-{stop_at:08}.cllm"
    run(tmp_path)
    found, wanted = content(tmp_path), content(whole)
    # The older of the newest two may be that of the stop.
    for name in ("step-00000014.cllm", "best.cllm", "metrics.jsonl"):
        assert found[name] == wanted[name]


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    kept = b'{"step": 1}\n{"step": 4}\n'
    path.write_bytes(kept + b'{"step": 5}\n[]\n{}\nnot JSON\n{"step": 3')
    with RunFolder(tmp_path) as folder:
        folder.rewind(4)
        assert path.read_bytes() == kept
        path.write_bytes(kept + b'{"step": 3}')
        folder.rewind(4)
    assert path.read_bytes() == kept


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_run

calls, real = 0, getattr(os, sys.argv[3])
def counted(*arguments):
    global calls
    calls += 1
    if calls == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(os, sys.argv[3], counted)
test_run.run(Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("call", "number"),
    # Synced are the metrics (1, 6), the best and its folder (2, 3, 7, 8), the same of the step.
    # Step 7 stays the best: who kills at 9 finds it in best.cllm alone.
    [("fsync", n) for n in (1, 2, 4, 6, 7, 8, 9, 10, 15)] + [("unlink", 1), ("unlink", 2)],
)
def test_killed_and_resumed_gives_the_same_files(
    whole: Path, tmp_path: Path, call: str, number: int
) -> None:
    """Killed within the writing of a checkpoint: before, between and after its two files."""
    arguments = [str(Path(__file__).parent), str(tmp_path), call, str(number)]
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert all(Checkpoint.load(path) for path in tmp_path.glob("*.cllm"))
    run(tmp_path)
    assert content(tmp_path) == content(whole)
    assert names(tmp_path) == names(whole)


# -- a full disk -------------------------------------------------------------------------------


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    """No file may be written beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_older_checkpoints(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, stop_at=4)
    before = content(tmp_path)
    size = (tmp_path / "best.cllm").stat().st_size
    with file_size_limit(size // 2), pytest.raises(OSError, match="File too large") as caught:
        run(tmp_path)
    assert Path(caught.value.filename).parent == tmp_path
    after = content(tmp_path)
    assert {name: after[name] for name in before if name != "metrics.jsonl"} == {
        name: before[name] for name in before if name != "metrics.jsonl"
    }
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    run(tmp_path)
    assert content(tmp_path) == content(whole)


@pytest.mark.parametrize("stop_at", [None, 4])
def test_metrics_that_cannot_be_written_lose_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int | None
) -> None:
    monkeypatch.setattr(Record, "to_json", lambda record: "x" * 40_000 * (record.step.step // 3))
    with file_size_limit(30_000), pytest.raises(OSError, match="File too large") as caught:
        run(tmp_path, stop_at, checkpoint_every=0)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003.cllm"]
    monkeypatch.undo()
    assert run(tmp_path)[0].step.step == 4


def test_the_best_alone_is_gone_on_from(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, stop_at=4)
    (tmp_path / "step-00000004.cllm").unlink()
    assert run(tmp_path)[0].step.step == 5
    assert content(tmp_path) == content(whole)


def test_what_a_kill_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".0123456789abcdef.tmp", ".mine.tmp", "step-1.txt"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path):
        pass
    assert names(tmp_path) == [".lock", ".mine.tmp", "step-1.txt"]


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    found = [tmp_path / f"step-{step:08}.cllm" for step in (2, 10, 10**8)]
    for path in reversed(found):
        path.touch()
    assert checkpoints(tmp_path) == found
