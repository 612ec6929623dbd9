"""Configurations from a file: what is taken, and what is said of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cllm.config import Config
from cllm.errors import CllmError
from cllm.harness.bench.command import bench
from cllm.harness.bench.configurations import read_configurations
from cllm.harness.cases import Setting

SIZES = {
    "vocab_size": "7", "embed_dim": "4", "num_layers": "1", "num_heads": "2", "ff_dim": "3",
    "batch_size": "2", "seq_len": "5",
}  # fmt: skip
ALL = "vocab_size, embed_dim, num_layers, num_heads, ff_dim, batch_size, seq_len"


def table(name: str = "mine", **changes: str | None) -> str:
    """A table of TOML; a size that is None is left out."""
    given = SIZES | changes
    lines = [f"{key} = {value}" for key, value in given.items() if value is not None]
    return "\n".join([f"[{name}]", *lines, ""])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


def test_tables_are_configurations(file: Path) -> None:
    file.write_text(table() + table("long-one", seq_len="9", steps_at_once="4", generates="true"))
    short, long = read_configurations(file)
    assert short.name == "mine"
    assert short.setting == Setting(Config(7, 4, 1, 2, 3), 2, 5)
    assert (short.calls_at_once, short.generates) == (1, False)
    assert (short.aim, short.mfu_aim, short.generation_aim) == (None, None, None)
    assert (long.name, long.setting.seq_len) == ("long-one", 9)
    assert (long.calls_at_once, long.generates) == (4, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " has no table: one is expected for each configuration"),
        ("[mine\n", " is no TOML: Expected ']'"),
        ("mine = 3\n", ": [mine] must be a table of sizes: got 3"),
        (table("small"), ": [small] must have a name of letters, digits, _ and -, other than tiny"),
        (table('"a|b"'), ": [a|b] must have a name of letters, digits, _ and -"),
        (table(threads="2"), "seq_len, steps_at_once, generates: got threads"),
        (table(ff_dim=None), f": [mine] must have {ALL}: ff_dim is missing"),
        (table(ff_dim="0"), ": [mine] ff_dim must be an integer in 1..2147483647: got 0"),
        (table(ff_dim="3.0"), ": [mine] ff_dim must be an integer in 1..2147483647: got 3.0"),
        (table(ff_dim='"3"'), ": [mine] ff_dim must be an integer in 1..2147483647: got '3'"),
        (table(ff_dim="true"), ": [mine] ff_dim must be an integer in 1..2147483647: got True"),
        (table(embed_dim="5"), ": [mine] embed_dim must be divisible by num_heads"),
        (table(steps_at_once="0"), ": [mine] steps_at_once must be an integer in 1.."),
        (table(generates="1"), ": [mine] generates must be true or false: got 1"),
        (table(generates="true", seq_len="1"), ": [mine] seq_len must be 2 or more to generate"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(CllmError) as caught:
        read_configurations(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"[mine]\xff\n")
    with pytest.raises(CllmError, match="is no TOML"):
        read_configurations(file)


def test_a_bad_file_is_refused_before_anything_is_written(file: Path, tmp_path: Path) -> None:
    file.write_text(table(ff_dim="0"))
    output = tmp_path / "new" / "speed.md"
    for given in (file, tmp_path / "missing.toml"):
        arguments = ["--configurations", str(given), "--output", str(output)]
        result = CliRunner().invoke(bench, arguments)
        assert isinstance(result.exception, CllmError | FileNotFoundError)
        assert not output.parent.exists()
