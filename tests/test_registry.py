"""Finding a model by name: whatever is wrong with it is one clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cllm import CllmError
from cllm.registry import find_model

MODULES = {
    "broken_model": ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
    "unparsed_model": ("class", "cannot be loaded: SyntaxError: "),
    "leaving_model": ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
    "abstract_model": (
        "import cllm\nclass Model(cllm.Model): pass",
        "is abstract: it does not define _buffers, ",
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("module", MODULES)
def test_whatever_goes_wrong_is_one_error(folder: Path, module: str) -> None:
    source, said = MODULES[module]
    (folder / f"{module}.py").write_text(source)
    with pytest.raises(CllmError, match=f"model '{module}:Model' {said}"):
        find_model(f"{module}:Model")


@pytest.mark.parametrize("name", [".relative:Model", "..:Model", "a\0b:Model"])
def test_names_that_no_module_can_have(name: str) -> None:
    with pytest.raises(CllmError, match="cannot be loaded"):
        find_model(name)


def test_a_model_in_the_current_folder_is_found(folder: Path) -> None:
    (folder / "my_model.py").write_text("from cllm.reference import Model")
    assert find_model("my_model:Model") is find_model("reference")
    # Found last: nothing that is installed can be replaced by a file of its name.
    assert sys.path.index(str(folder)) == len(sys.path) - 1


def test_the_built_in_names_do_not_search_the_current_folder(folder: Path) -> None:
    find_model("reference")
    assert str(folder) not in sys.path


def test_a_model_in_a_file_is_found_by_its_path(folder: Path) -> None:
    inside = folder / "some folder"
    inside.mkdir()
    (inside / "beside.py").write_text("from cllm.reference import Model")
    (inside / "my_model.py").write_text("from beside import Model\nclass Mine(Model): pass")
    mine = find_model("some folder/my_model.py:Mine")
    assert mine is find_model(f"{inside}/my_model.py:Mine")  # the file is not run again
    assert mine.__base__ is find_model("reference")
    with pytest.raises(CllmError, match=r"cannot be loaded: .*No such file.*nowhere\.py"):
        find_model("nowhere.py:Mine")


def test_a_file_that_fails_is_run_again(folder: Path) -> None:
    (folder / "my_model.py").write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(CllmError, match=r"ZeroDivisionError.*, raised at .*my_model\.py:1$"):
            find_model("my_model.py:Mine")


@pytest.mark.parametrize("name", ["text.txt:Mine", "inside/:Mine", "..:Mine"])
def test_what_is_no_source_file_is_said_so(folder: Path, name: str) -> None:
    (folder / "text.txt").write_text("text")
    (folder / "inside").mkdir()
    with pytest.raises(CllmError, match=r"is a folder$|is no Python source file \(\.py\)$"):
        find_model(name)


def test_our_own_names_are_known_without_a_search() -> None:
    """What searches installed packages takes longer to import than either model."""
    code = (
        "import sys; from cllm.registry import find_model, installed; find_model('optimized');"
        "print('importlib.metadata' in sys.modules, {'reference', 'optimized'} <= set(installed()))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "False True\n", done.stderr
