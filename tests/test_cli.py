"""The command line: what it prints, its exit status, and that nothing is lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest

import cllm
from cllm.cli import COMMANDS, main
from cllm.cli.interrupt import Interrupt, unwinding
from cllm.lattice.parts import Lattice
from cllm.text import corpus
from cllm.text.text_files import TextFile
from cllm.training.checkpoint import Checkpoint
from cllm.training.run import checkpoints

TINY = [
    *("--tokenizer", "whitespace", "--vocab-size", "60", "--embed-dim", "8", "--num-layers", "1"),
    *("--num-heads", "2", "--ff-dim", "8", "--batch-size", "2", "--seq-len", "8"),
    *("--model", "reference", "--checkpoint-every", "7", "--schedule", "constant", "--warmup", "0"),
]


@dataclass
class Result:
    status: int
    out: str
    err: str


class Shell:
    """Runs `cllm` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, *self._capsys.readouterr())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    words = "the cat sat on the mat and the dog sat on the cat .".split()  # noqa: SIM905
    (folder / "a.txt").write_text(" ".join(words[i * i % len(words)] for i in range(150)))
    (folder / "b.txt").write_text(" ".join(words * 12))
    (folder / "image.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", str(text), "--output", str(folder), "--epochs", "2", *TINY,
              "--cache", str(folder.parent / "cache")])  # fmt: skip
    assert ended.value.code == 0
    return folder


def one_line(result: Result) -> str:
    """The only line of an error."""
    assert result.err.startswith("cllm: error: ")
    assert result.err.count("\n") == 1
    return result.err.removeprefix("cllm: error: ").rstrip("\n")


# -- help and completion -----------------------------------------------------------------------


def test_help_lists_the_commands_without_importing_them() -> None:
    code = (
        "import sys\nfrom cllm.cli import main\n"
        "try: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    for name, (_, help) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(help)}$", shown.stdout, re.MULTILINE)
    heavy = {
        "tqdm",
        "tokenizers",
        "safetensors",
        "cllm.harness",
        "cllm.training.trainer",
        "cllm.cli.train",
    }
    assert not heavy & set(shown.stderr.split())


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "info", "completion"])
def test_every_option_is_documented(run: Shell, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    shown = " ".join(result.out.split())
    with click.Context(click.Command("cllm")) as ctx:
        from cllm.cli import cli

        found = cli.get_command(ctx, command)
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[0] in shown
    assert run(command, "-h").out == result.out


def test_the_defaults_are_shown(run: Shell) -> None:
    shown = " ".join(run("train", "--help").out.split())
    for name, default in {
        "tokenizer": "bpe", "vocab-size": 2000, "embed-dim": 128, "num-layers": 4, "num-heads": 4,
        "ff-dim": 512, "batch-size": 8, "seq-len": 64, "learning-rate": 0.001,
        "optimizer": "adamw", "weight-decay": 0.01, "clip": 1.0, "schedule": "cosine",
        "warmup": 100, "accumulate": 1, "epochs": 1, "validation-fraction": 0.1,
        "checkpoint-every": 500, "keep": 3, "threads": 0, "seed": 0, "model": "optimized",
        "log-every": 10,
    }.items():  # fmt: skip
        assert re.search(rf"--{name} [^\]]*(\][^\]]*)?\[default: {default}[;\]]", shown), name


def test_the_version(run: Shell) -> None:
    assert run("--version").out == f"cllm {cllm.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Shell, shell: str) -> None:
    result = run("completion", shell)
    assert result.status == 0
    assert f"_CLLM_COMPLETE={shell}_complete" in result.out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("cllm ", [*COMMANDS]), ("cllm tr", ["train"]), ("cllm train --embed", ["--embed-dim"])],
)
def test_completion_completes(words: str, wanted: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    completed = subprocess.run(
        [sys.executable, "-P", "-c", "from cllm.cli import main; main()"],
        env=os.environ | asked | {"_CLLM_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition(",")[2] for line in completed.stdout.split()] == wanted


def test_verify_comes_from_the_harness(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command
    def verify() -> int:
        return 3

    module = types.ModuleType("cllm.harness.command")
    module.verify = verify  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cllm.harness.command", module)
    assert run("verify").status == 3


# -- train -------------------------------------------------------------------------------------


def test_it_says_what_it_is_about_to_do(run: Shell, text: Path, tmp_path: Path) -> None:
    result = run("train", text, "--output", tmp_path / "run", *TINY)
    assert (result.status, result.out) == (0, "")
    said = {line.split()[0]: line for line in result.err.splitlines()}
    assert re.fullmatch(r"files +2; skipped: 1 image", said["files"])
    assert re.fullmatch(r"text +\S+ KiB, 322 tokens", said["text"])
    assert re.fullmatch(
        r"vocabulary +12 whitespace \(of 60 asked for\), 10 of them in the text", said["vocabulary"]
    )
    parameters = cllm.Config(12, 8, 1, 2, 8).num_parameters
    assert f"reference (numpy), {parameters} parameters" in said["model"]
    assert re.fullmatch(
        r"memory +\d+\.\d MiB, \d+\.\d MiB more while a .* is written", said["memory"]
    )
    assert re.fullmatch(r"steps +19, 19 an epoch; 0 done", said["steps"])
    lines = [line for line in result.err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["7/19", "14/19", "19/19"]
    assert all("validation" in line and "tokens/s" in line for line in lines)


def test_both_models_train_alike(run: Shell, text: Path, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--epochs", 2, *TINY, "--model", "optimized", "--threads", 2]
    assert run("train", text, "--output", folder, *arguments).status == 0
    read = [(path / "metrics.jsonl").read_text().splitlines() for path in (folder, trained)]
    assert len(read[0]) == len(read[1]) > 5
    for one, other in zip(*read, strict=True):
        a, b = json.loads(one), json.loads(other)
        assert a["step"] == b["step"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_a_lattice_is_trained_kept_and_told(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run(
        "train", text, "--output", folder, "--epochs", 1, *TINY, "--lattice", "init,positions"
    )
    assert first.status == 0
    assert "lattice     init, positions\n" in first.err
    again = ("train", text, "--output", folder, "--resume", "--epochs", 2)
    assert run(*again, "--lattice", "positions,init").status == 0
    found = Checkpoint.load(checkpoints(folder)[-1]).config.lattice
    assert found == Lattice(init=True, positions=True)
    assert json.loads(run("info", folder, "--json").out)["model"]["lattice"] == "init, positions"
    assert run("generate", folder, "-p", "the cat", "--tokens", 3).status == 0
    said = one_line(run(*again, "--lattice", "init"))
    assert "--lattice init contradicts" in said
    assert said.endswith("was made with init,positions")


def test_the_terms_of_a_lattice_are_shown_and_kept(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    weights = ("--lattice-weights", "0.5,0.25,0.125")
    start = ("train", text, "--output", folder, "--epochs", 1, *TINY)
    first = run(*start, "--lattice", "all", *weights)
    assert first.status == 0
    assert re.search(r"loss \d\.\d+, geometric \d\.\d+, symmetry \d\.\d+, prime \d\.\d+", first.err)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert all(line[term] > 0.0 for term in ("geometric", "symmetry", "prime"))
        assert line["loss"] < 6.0  # the terms are no part of it
    again = ("train", text, "--output", folder, "--resume", "--epochs", 2)
    assert run(*again, *weights).status == 0
    assert Checkpoint.load(folder / "best.cllm").config.lattice == Lattice.of(
        ["all"], (0.5, 0.25, 0.125)
    )
    assert run("generate", folder, "-p", "the cat", "--tokens", 3).status == 0
    assert "contradicts" in one_line(run(*again, "--lattice-weights", "1,1,1"))
    for wrong, why in (
        ("1,1", "must be 3 numbers"), ("1,1,x", "no list of numbers"),
        ("1,1,-1", "prime must be a number in [0, 1000): got -1"), ("1,1,nan", "prime must be"),
        ("1e30,1,1", "geometric must be"),
    ):  # fmt: skip
        assert why in run(*start, "--lattice", "loss", "--lattice-weights", wrong).err
    assert "need --lattice loss" in one_line(run(*start, "--lattice", "init", *weights))
    told = json.loads(run("info", folder, "--json").out)["model"]["lattice"]
    assert "loss (geometric 0.5, symmetry 0.25, prime 0.125), init" in told


def test_adam_needs_no_word_on_weight_decay(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY, "--optimizer", "adam").status == 0
    assert Checkpoint.load(folder / "best.cllm").settings.weight_decay == 0


def test_a_warm_up_that_never_ends_is_said(run: Shell, text: Path, tmp_path: Path) -> None:
    result = run("train", text, "--output", tmp_path / "run", *TINY, "--warmup", 50)
    assert "warning: the warm-up of 50 steps is longer than the training" in result.err


BAD_TRAINING = {
    "zero size": (["--embed-dim", "0"], "0 is not in the range x>=1"),
    "negative size": (["--batch-size", "-3"], "-3 is not in the range x>=1"),
    "absurd size": (["--embed-dim", "9" * 30, "--num-heads", "1"], "embed_dim must be an integer"),
    "absurd memory": (["--ff-dim", "1000000000"], "the machine has"),
    "heads": (["--num-heads", "3"], "embed_dim must be divisible by num_heads: 8 is not"),
    "long window": (["--seq-len", "5000"], "5000 is longer than the text's 290 tokens"),
    "vocabulary": (["--vocab-size", "4"], "vocab_size must be an integer in 5..16777216"),
    "adam": (["--optimizer", "adam", "--weight-decay", "1"], "needs the optimizer adamw"),
    "schedule": (["--schedule", "exponential"], "'exponential' is not one of 'constant'"),
    "not a number": (["--learning-rate", "nan"], "learning_rate must be a number in (0, inf)"),
    "fraction": (["--validation-fraction", "1"], "1.0 is not in the range 0<=x<1"),
    "threads": (["--threads", "5000"], "5000 is not in the range 0<=x<=1024"),
    "model": (["--model", "nothing:Model"], "model 'nothing:Model' cannot be loaded"),
    "unknown flag": (["--embed-dims", "8"], "No such option '--embed-dims'"),
}


AFTER_THE_TEXT = {"absurd memory", "long window"}


@pytest.mark.parametrize("name", BAD_TRAINING)
def test_bad_options_are_refused(run: Shell, text: Path, tmp_path: Path, name: str) -> None:
    options, said = BAD_TRAINING[name]
    folder = tmp_path / "run"
    result = run("train", text, "--output", folder, *TINY, *options)
    assert result.status == 2
    # What is wrong with a text or a model is found after the text was described.
    assert said in result.err.splitlines()[-1]
    assert len(result.err.splitlines()) == (4 if name in AFTER_THE_TEXT else 1)
    assert {path.name for path in folder.glob("*")} <= {".lock"}


def test_bad_texts_are_refused(run: Shell, tmp_path: Path) -> None:
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.mkdir()
    short.write_text("a")
    for path, said in ((empty, "no text to read"), (short, "tokens: at least 2 are needed")):
        result = run("train", path, "--output", tmp_path / "run", *TINY)
        assert result.status == 2
        assert said in one_line(result)
    result = run("train", tmp_path / "missing", "--output", tmp_path / "run", *TINY)
    assert result.status == 2
    assert "missing' does not exist" in one_line(result)


def test_an_output_within_the_text_is_refused(run: Shell, text: Path) -> None:
    result = run("train", text, "--output", text / "run", *TINY)
    assert result.status == 2
    assert "the metrics would become part of the text" in one_line(result)
    assert not (text / "run").exists()


def test_a_folder_that_holds_a_run_is_refused(run: Shell, text: Path, trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    result = run("train", text, "--output", trained, *TINY)
    assert result.status == 2
    assert "holds a run: add --resume" in one_line(result)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_divergence_is_told_and_the_last_checkpoint_stays(
    run: Shell, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    good = {path.name: path.read_bytes() for path in folder.glob("*.cllm")}
    newest = checkpoints(folder)[-1]
    saved = Checkpoint.load(newest)
    huge = replace(saved.settings, learning_rate=1e38, clip=0.0)
    replace(saved, settings=huge).save(newest)
    result = run("train", text, "--output", folder, "--resume", "--epochs", 2)
    assert result.status == 1
    assert "the loss at step 2" in result.err.splitlines()[-1]
    assert "training diverged; try a lower learning rate" in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert {path.name for path in folder.glob("*.cllm")} == set(good)


def test_a_full_disk_is_one_line_and_nothing_is_lost(
    run: Shell, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    before = {path.name: path.read_bytes() for path in folder.glob("*.cllm")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        result = run("train", text, "--output", folder, "--resume", "--epochs", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.status == 2
    assert re.fullmatch(r"cllm: error: .*\.cllm: File too large", result.err.splitlines()[-1])
    assert {path.name: path.read_bytes() for path in folder.glob("*.cllm")} == before


def test_a_terminal_sees_a_bar(text: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    arguments = ["train", str(text), "--output", str(tmp_path / "run"), *TINY]
    with subprocess.Popen([sys.executable, "-P", "-m", "cllm", *arguments], stderr=theirs):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal says at its end
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    bar = r"\d+%\|.*\| \d+/19 \[\d\d:\d\d<\S+ .*steps/s, loss \d\.\d{3}, learning rate 1\.0e-03\]"
    assert re.search(bar, shown.decode())


# -- resume ------------------------------------------------------------------------------------


def test_more_epochs_go_on_from_the_end(
    run: Shell, text: Path, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    result = run("train", text, "--output", folder, "--resume", "--epochs", 2)
    assert result.status == 0
    assert "38, 19 an epoch; 19 done" in result.err
    for name in ("step-00000038.cllm", "best.cllm"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    result = run("train", text, "--output", folder, "--resume")
    assert result.status == 0
    assert "38 done" in result.err


def test_what_does_not_change_the_result_may_change(
    run: Shell, text: Path, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    changed = ["--epochs", 2, "--keep", 9, "--checkpoint-every", 3, "--log-every", 1]
    result = run("train", text, "--output", folder, "--resume", *changed)
    assert result.status == 0
    steps = [int(path.stem[5:]) for path in checkpoints(folder)]
    assert steps == [14, 19, 21, 24, 27, 30, 33, 36, 38]
    last, wanted = (Checkpoint.load(path / "step-00000038.cllm") for path in (folder, trained))
    assert last.parameters.tobytes() == wanted.parameters.tobytes()
    assert last.run_settings.keep == 9


@pytest.mark.parametrize(
    ("option", "value", "before"),
    [
        ("--embed-dim", "16", "8"),
        ("--tokenizer", "bpe", "whitespace"),
        ("--vocab-size", "61", "60"),
        ("--seed", "1", "0"),
        ("--seq-len", "9", "8"),
        ("--schedule", "cosine", "constant"),
        ("--validation-fraction", "0.2", "0.1"),
    ],
)
def test_an_option_that_contradicts_is_refused(
    run: Shell, text: Path, trained: Path, option: str, value: str, before: str
) -> None:
    result = run("train", text, "--output", trained, "--resume", option, value)
    assert result.status == 2
    newest = trained / "step-00000038.cllm"
    assert (
        one_line(result) == f"{option} {value} contradicts {newest}, which was made with {before}"
    )


def test_the_same_options_given_again_contradict_nothing(
    run: Shell, text: Path, trained: Path
) -> None:
    assert run("train", text, "--output", trained, "--resume", *TINY).status == 0


def test_another_text_is_refused(run: Shell, text: Path, trained: Path) -> None:
    result = run("train", text / "a.txt", "--output", trained, "--resume")
    assert result.status == 2
    assert "the text is not the one that" in result.err.splitlines()[-1]


def test_the_best_of_before_stays_the_best(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    best, newest = folder / "best.cllm", checkpoints(folder)[-1]
    replace(Checkpoint.load(newest), best_validation_loss=0.01).save(newest)
    before = best.read_bytes()
    assert run("train", text, "--output", folder, "--resume", "--epochs", 2).status == 0
    assert best.read_bytes() == before
    assert Checkpoint.load(checkpoints(folder)[-1]).best_validation_loss == 0.01


def test_another_instruction_set_is_warned_of(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    newest = checkpoints(folder)[-1]
    replace(Checkpoint.load(newest), isa="other").save(newest)
    result = run("train", text, "--output", folder, "--resume", "--epochs", 2)
    assert result.status == 0
    assert "was trained with the instruction set other, this is numpy" in result.err


def test_a_damaged_checkpoint_is_named(run: Shell, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", text, "--output", folder, *TINY).status == 0
    newest = checkpoints(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    result = run("train", text, "--output", folder, "--resume")
    assert result.status == 2
    assert one_line(result).startswith(f"{newest}: truncated")
    assert one_line(result).endswith("to go on from step-00000014.cllm, remove step-00000019.cllm")
    newest.unlink()
    assert run("train", text, "--output", folder, "--resume").status == 0
    assert newest.exists()


def test_resuming_where_there_is_no_checkpoint(run: Shell, text: Path, tmp_path: Path) -> None:
    result = run("train", text, "--output", tmp_path / "missing", "--resume", *TINY)
    assert result.status == 2
    assert "there is no such folder" in one_line(result)
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    result = run("train", text, "--output", folder, "--resume", *TINY)
    assert result.status == 0
    assert "no checkpoint yet: training starts from the beginning, by the options" in result.err
    steps = [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [1, 7, 10, 14, 19]


def test_resuming_in_a_folder_that_is_no_run_is_refused(
    run: Shell, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    result = run("train", text, "--output", tmp_path, "--resume", *TINY)
    assert result.status == 2
    assert one_line(result) == f"{tmp_path}: no checkpoint to resume from, but notes.txt"


def test_a_checkpoint_does_not_decide_what_code_is_run(
    run: Shell, text: Path, tmp_path: Path
) -> None:
    folder, name = tmp_path / "run", "cllm.reference:Model"
    assert run("train", text, "--output", folder, *TINY, "--model", name).status == 0
    newest = checkpoints(folder)[-1]
    result = run("train", text, "--output", folder, "--resume")
    assert result.status == 2
    assert one_line(result) == f"{newest} was made with --model {name}: give it again"
    for same in (name, "reference"):
        assert run("train", text, "--output", folder, "--resume", "--model", same).status == 0


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_the_run_can_go_on(
    run: Shell, text: Path, tmp_path: Path, number: int, status: int
) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    arguments = ["train", str(text), "--output", str(folder), *TINY, "--epochs", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "cllm", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                process.send_signal(number)
                break
        rest = process.stderr.read()
    assert process.returncode == status
    again = f"cllm train {text} --output {folder} --resume"
    assert rest.splitlines()[-1].endswith(f"to go on: {again}")
    assert "Traceback" not in rest
    epochs = Checkpoint.load(checkpoints(folder)[-1]).position.epoch + 1
    resumed = run("train", text, "--output", folder, "--resume", "--epochs", epochs)
    assert resumed.status == 0
    assert run("train", text, "--output", whole, *TINY, "--epochs", epochs).status == 0
    for name in ("best.cllm", checkpoints(whole)[-1].name):
        found, wanted = Checkpoint.load(folder / name), Checkpoint.load(whole / name)
        assert found.position == wanted.position
        assert found.parameters.tobytes() == wanted.parameters.tobytes()
        assert found.moments[1].tobytes() == wanted.moments[1].tobytes()


def test_a_second_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.received == signal.SIGINT
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_hangup_is_no_haste() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert interrupt.received == signal.SIGHUP


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding(), Interrupt() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.received == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_before_training_leaves_nothing(
    run: Shell, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int,
    status: int,
) -> None:  # fmt: skip
    def killed(file: TextFile, on_read: Callable[[int], None]) -> Iterator[str]:
        yield "some words"
        assert list((tmp_path / "cache").glob(".*.tmp"))
        signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(corpus, "read_pieces", killed)
    cache = ["--cache", tmp_path / "cache", "--tokenizer", "bytes", "--vocab-size", 260]
    assert run("train", text, "--output", tmp_path / "run", *TINY, *cache).status == status
    assert list((tmp_path / "cache").iterdir()) == []
    assert signal.getsignal(number) is before


# -- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 | head -n 1"])
def test_a_lost_standard_error_stops_nothing(text: Path, tmp_path: Path, stderr: str) -> None:
    arguments = ["-P", "-m", "cllm", "train", str(text), "--output", str(tmp_path / "run"), *TINY]
    script = f'set -o pipefail; "$0" "$@" {stderr}'
    ended = subprocess.run(["bash", "-c", script, sys.executable, *arguments], check=False)
    assert ended.returncode == 0
    assert checkpoints(tmp_path / "run")[-1].name == "step-00000019.cllm"


def test_no_file_takes_the_descriptor_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "from cllm.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: raise SystemExit(open('file', 'w').fileno())"
    )
    script = '"$0" -P -c "$1" 2>&-'
    arguments = ["bash", "-c", script, sys.executable, code]
    assert subprocess.run(arguments, cwd=tmp_path, check=False).returncode > 2


def test_a_full_disk_at_standard_output_is_named(trained: Path) -> None:
    for more in (["info"], ["generate", "--model", "reference"]):
        arguments = [sys.executable, "-P", "-m", "cllm", *more, str(trained)]
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert ended.returncode == 2
        assert ended.stderr == "cllm: error: standard output: No space left on device\n"


def test_text_beyond_the_encoding_of_standard_output(run: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ω " * 99)
    more = ["--tokenizer", "bytes", "--vocab-size", 260]
    assert run("train", tmp_path / "text", "--output", tmp_path / "run", *TINY, *more).status == 0
    command = [sys.executable, "-P", "-m", "cllm", "generate", str(tmp_path / "run")]
    ended = subprocess.run(
        [*command, "-p", "ω", "-n", "9", "--model", "reference"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.startswith(b"?")


def test_an_interrupt_outside_of_training_is_130(
    run: Shell, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Path) -> Checkpoint:
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "load", interrupted)
    result = run("info", trained)
    assert result.status == 130
    assert "Traceback" not in result.err


# -- generate ----------------------------------------------------------------------------------


def test_generate_is_decided_by_its_seed(run: Shell, trained: Path) -> None:
    arguments = ["generate", trained, "-p", "the cat", "-n", 12, "--model", "reference"]
    texts = [run(*arguments, "--seed", seed).out for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("the cat ") and text.endswith("\n") for text in texts)
    words = {"the", "cat", "sat", "on", "mat", "and", "dog", ".", "<UNK>"}
    assert set(texts[0].split()) <= words


def test_generate_greedily(run: Shell, trained: Path) -> None:
    arguments = ["generate", trained, "-n", 30, "--model", "reference"]
    greedy = run(*arguments, "--greedy", "--temperature", 5)
    assert greedy.status == 0
    for same in (["--temperature", 0], ["--top-k", 1], ["--top-p", 1e-9]):
        assert run(*arguments, *same, "--seed", 3).out == greedy.out
    assert greedy.err == ""


def test_generate_says_what_it_does(run: Shell, trained: Path) -> None:
    result = run("generate", trained, "-p", "the bird", "-n", 3, "-v", "--model", "reference")
    assert result.status == 0
    assert "1 of the prompt's 2 tokens are not in the vocabulary" in result.err
    assert f"{trained}/best.cllm" in result.err
    assert re.search(r"drawn +\d tokens, [\d,]+ tokens/s", result.err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-n", "0"], "0 is not in the range x>=1"),
        (["-n", "-5"], "-5 is not in the range x>=1"),
        (["-n", str(2**31)], "count must be an integer in 1..2147483647: got 2147483648"),
        (["--temperature", "-1"], "-1.0 is not in the range x>=0"),
        (["--temperature", "nan"], "temperature must be a number in [0, inf): got nan"),
        (["--top-k", "0"], "0 is not in the range x>=1"),
        (["--top-p", "0"], "0.0 is not in the range 0<x<=1"),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["-p", "\udcff"], "lone surrogates"),
    ],
)
def test_bad_sampling_is_refused(run: Shell, trained: Path, options: list[str], said: str) -> None:
    result = run("generate", trained, "--model", "reference", *options)
    assert result.status == 2
    assert said in one_line(result)
    assert result.out == ""


def test_a_closed_pipe_is_quiet(trained: Path) -> None:
    arguments = ["generate", str(trained), "-n", "5000", "--model", "reference"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "cllm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


# -- evaluate and info -------------------------------------------------------------------------


def test_evaluate(run: Shell, trained: Path, text: Path) -> None:
    arguments = ["evaluate", trained, text / "b.txt", "--model", "reference"]
    result = json.loads(run(*arguments, "--json").out)
    size = (text / "b.txt").stat().st_size
    assert (result["tokens"], result["bytes"], result["files"]) == (169, size, 1)
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    lines = run(*arguments).out
    assert f"loss           {result['loss']:.4f} nats per token" in lines
    assert "tokens         169\n" in lines


@pytest.mark.parametrize(
    ("tokenizer", "lost"),
    [
        (["bytes", "--lowercase"], "capitals"),
        (["whitespace"], "unknown words and the whitespace"),
        (["bytes"], ""),
    ],
)
def test_bits_per_byte_are_of_the_whole_text_or_not_defined(
    run: Shell, text: Path, tmp_path: Path, tokenizer: list[str], lost: str
) -> None:
    folder = tmp_path / "run"
    given = [*TINY, "--vocab-size", 260, "--tokenizer", *tokenizer]
    assert run("train", text / "b.txt", "--output", folder, *given).status == 0
    arguments = ["evaluate", folder, text / "b.txt", "--model", "reference"]
    result, lines = json.loads(run(*arguments, "--json").out), run(*arguments).out
    if lost:
        assert result["bits_per_byte"] is None
        assert f"bits per byte  not defined: the tokenizer loses {lost}\n" in lines
    else:
        bits = result["loss"] * result["tokens"] / math.log(2) / result["bytes"]
        assert result["bits_per_byte"] == pytest.approx(bits)
        assert f"bits per byte  {bits:.4f}\n" in lines


def test_unknown_tokens_are_told(run: Shell, trained: Path, text: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the bird and the fish " * 8)
    result = run("train", path, "--output", tmp_path / "run", *TINY, "--vocab-size", 5)
    assert re.search(r"^text .* 42 tokens, 57\.14% of them unknown$", result.err, re.MULTILINE)
    arguments = ["evaluate", trained, path, "--model", "reference"]
    assert "tokens         41, 38.10% of them unknown\n" in run(*arguments).out
    assert json.loads(run(*arguments, "--json").out)["unknown_tokens"] == 16


def test_evaluate_a_text_shorter_than_a_window(run: Shell, trained: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("the cat")
    result = run("evaluate", trained, short, "--json", "--model", "reference")
    assert json.loads(result.out)["tokens"] == 3


def test_info(run: Shell, trained: Path) -> None:
    result = json.loads(run("info", trained, "--json").out)
    saved = Checkpoint.load(trained / "best.cllm")
    assert result["model"]["parameters"] == saved.config.num_parameters
    assert result["training"]["step"] == saved.position.step
    assert result["training"]["validation_loss"] == saved.validation_loss
    assert result["tokenizer"]["vocab_size"] == 12
    assert result["tokenizer"]["vocab_size_asked_for"] == 60
    assert result["settings"]["schedule"] == "constant"
    lines = run("info", trained).out
    assert re.search(rf"^  step +{saved.position.step}$", lines, re.MULTILINE)


@pytest.mark.parametrize("command", ["info", "generate", "evaluate"])
def test_what_is_no_checkpoint_is_refused(run: Shell, text: Path, command: str) -> None:
    more = [text] if command == "evaluate" else []
    plain = ["--model", "reference"] if command != "info" else []
    result = run(command, text / "a.txt", *more, *plain)
    assert result.status == 2
    assert f"{text / 'a.txt'}: " in one_line(result)
    result = run(command, text, *more, *plain)
    assert result.status == 2
    assert "no checkpoint in this folder" in one_line(result)


# -- errors ------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What `Checkpoint.load` raises."""
    raised: list[BaseException] = []

    def fail(_: Path) -> Checkpoint:
        raise raised[0]

    monkeypatch.setattr(Checkpoint, "load", fail)
    return raised


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError("7 TiB"), 2, "not enough memory: 7 TiB"),
        (PermissionError(13, "Permission denied", "a.cllm"), 2, "a.cllm: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (
            ZeroDivisionError("two\nlines"),
            1,
            "unexpected ZeroDivisionError: two lines (`cllm --traceback ...` says where)",
        ),
    ],
)
def test_errors_are_one_line(
    run: Shell,
    trained: Path,
    failing: list[BaseException],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    failing.append(error)
    result = run("info", trained)
    assert (result.status, one_line(result)) == (status, said)
    traced = run("--traceback", "info", trained)
    assert traced.status == status
    assert "Traceback (most recent call last)" in traced.err
    assert traced.err.splitlines()[-1] == f"cllm: error: {said}"


def test_unknown_commands_are_refused(run: Shell) -> None:
    result = run("trainx")
    assert result.status == 2
    assert one_line(result).startswith("No such command 'trainx'")
    assert one_line(result).endswith("(`cllm --help` tells more)")


def test_no_command_is_help(run: Shell) -> None:
    result = run()
    assert (result.status, result.out) == (2, run("--help").out)


def test_the_help_of_completion_keeps_its_lines(run: Shell) -> None:
    shown = run("completion", "--help").out
    assert '\n  bash:  eval "$(cllm completion bash)"   in ~/.bashrc\n  zsh:' in shown
