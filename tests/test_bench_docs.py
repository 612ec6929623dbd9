"""What `docs/speed.md` and `docs/ci.md` tell one to type exists, and their examples work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from cllm.cli import cli
from cllm.harness.bench.configurations import read_configurations

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str, language: str) -> list[str]:
    found = BLOCK.finditer((DOCS / name).read_text())
    return [block["text"] for block in found if block["language"] == language]


COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for name in ("speed.md", "ci.md")
    for block in blocks(name, "sh")
    for line in block.splitlines()
    if line.startswith("cllm ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_one(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options exist and take these values; it is not run."""
    monkeypatch.chdir(tmp_path)
    for word in words:
        if re.fullmatch(r"[\w/.-]+\.(json|toml|whl|db)", word):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context(command.name, list(words))


def test_there_are_commands() -> None:
    assert {words[0] for words in COMMANDS} == {
        "bench", "compare", "dashboard", "export", "history", "report",
    }  # fmt: skip


def test_the_configurations_are_read(tmp_path: Path) -> None:
    (text,) = blocks("speed.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    (mine,) = read_configurations(tmp_path / "mine.toml")
    assert (mine.name, mine.calls_at_once, mine.generates) == ("mine", 8, True)


def test_the_example_for_pytest_makes_tests() -> None:
    (text,) = blocks("speed.md", "python")
    made: dict[str, object] = {}
    exec(compile(text, "speed.md", "exec"), made)
    (mark,) = made["test_speed"].pytestmark  # type: ignore[attr-defined]
    names = {parameter.values[0].name for parameter in mark.args[1]}
    assert names == {"small step", "small steps", "small greedy", "small sampled"}


def test_every_file_that_is_named_is_there() -> None:
    for name in ("speed.md", "ci.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (DOCS / name).read_text()):
            assert (DOCS / link).is_file(), link
