"""Which room may import which, and what importing a model costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cllm

PACKAGE = Path(cllm.__file__).parent
ROOMS = ("reference", "optimized", "harness")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(room: str) -> list[Path]:
    return [
        path
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if room or path.relative_to(PACKAGE).parts[0] not in ROOMS
    ]


def touches(names: set[str], room: str) -> set[str]:
    return {name for name in names if name == f"cllm.{room}" or name.startswith(f"cllm.{room}.")}


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("", ROOMS),
        ("reference", ("optimized", "harness")),
        ("optimized", ("reference", "harness")),
        ("harness", ("reference", "optimized")),
    ],
    ids=["cllm", *ROOMS],
)
def test_import_direction(room: str, forbidden: tuple[str, ...]) -> None:
    found = files(room)
    assert found
    for path in found:
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue  # the command line alone may import the rooms
        if path.relative_to(PACKAGE).parts[:2] == ("harness", "faults"):
            continue  # a fault is a small change of the reference
        for other in forbidden:
            assert not touches(imported(path), other), path


def test_the_direction_test_bites(tmp_path: Path) -> None:
    path = tmp_path / "seeded.py"
    path.write_text("from cllm.harness import pairs\nimport cllm.optimized.model\n")
    assert touches(imported(path), "harness")
    assert touches(imported(path), "optimized")
    assert not touches(imported(path), "reference")


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        ("cllm", set()),
        ("cllm.reference", {"numpy"}),
        ("cllm.optimized", {"numpy"}),
        ("cllm.cli", {"click"}),
    ],
)
def test_what_an_import_imports(module: str, needs: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    output = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    others = {name for name in output if not name.startswith("_")} - sys.stdlib_module_names
    # Cython registers a module of its own for the types that its modules share.
    found = {name for name in others if not name.startswith("cython")}
    assert found == {"cllm"} | needs


def test_every_export_is_there() -> None:
    for name in cllm.__all__:
        assert getattr(cllm, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'cllm' has no attribute 'nothing'"):
        cllm.nothing  # noqa: B018
