"""The sdist holds what a build and its tests need, the wheel what runs; neither anything else."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def sdist(request: pytest.FixtureRequest) -> set[str]:
    (path,) = request.config.getoption("--distributions").glob("cllm-*.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert not any(member.issym() or member.islnk() for member in members)
    return {member.name.partition("/")[2] for member in members if member.isfile()}


@pytest.fixture
def wheel(request: pytest.FixtureRequest) -> set[str]:
    (path,) = request.config.getoption("--distributions").glob("cllm-*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def sources(pattern: str) -> set[str]:
    return {
        path.relative_to(CHECKOUT).as_posix()
        for path in CHECKOUT.glob(pattern)
        if "__pycache__" not in path.parts
    }


def test_the_sdist_holds_every_source(sdist: set[str]) -> None:
    needed = {
        "pyproject.toml",
        "meson.build",
        "meson.options",
        "tox.ini",
        "README.md",
        "LICENSE",
        "PKG-INFO",
    }
    for folder in ("cllm", "reference", "harness", "tests", "optimized"):
        needed |= {name for name in sources(f"{folder}/**/*.py") if "/optimized/" not in name[5:]}
    for folder in ("optimized", "harness"):
        for suffix in ("pyx", "pxd", "c", "h"):
            needed |= sources(f"{folder}/**/*.{suffix}")
    linked = re.compile(r"cllm/(reference|optimized|harness)/")  # an editor's links, if there are
    needed = {name for name in needed if not linked.match(name)}
    assert needed <= sdist


def test_the_sdist_holds_nothing_else(sdist: set[str]) -> None:
    folders = {"cllm", "reference", "optimized", "harness", "tests", "reports", "docs"}
    files = {
        "pyproject.toml", "meson.build", "tox.ini", "README.md", "LICENSE", "PKG-INFO",
        "CHANGELOG.md", "CONTRIBUTING.md", "meson.options", ".gitignore",
    }  # fmt: skip
    assert {name for name in sdist if name.partition("/")[0] not in folders} <= files
    assert not {name for name in sdist if re.search(r"\.(so|o|pyc|db|cllm)$|__pycache__", name)}


def test_the_wheel_holds_every_module_and_nothing_else(wheel: set[str]) -> None:
    linked = re.compile(r"cllm/(reference|optimized|harness)/")
    expected = {name for name in sources("cllm/**/*.py") if not linked.match(name)}
    expected |= {f"cllm/{name}" for name in sources("reference/*.py") | sources("harness/**/*.py")}
    expected |= {f"cllm/{name}" for name in sources("harness/**/templates/*")}
    expected |= {f"cllm/{name}" for name in sources("optimized/*.py")}
    expected |= {"cllm/py.typed"}
    compiled = {name for name in wheel if name.endswith(".so")}
    assert {name.partition(".")[0] for name in compiled} == {
        f"cllm/{name.removesuffix('.pyx')}"
        for name in sources("optimized/*.pyx") | sources("harness/**/*.pyx")
    }
    metadata = {name for name in wheel if name.startswith("cllm-")}
    names = {name.partition("/")[2] for name in metadata}
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt"} <= names
    assert wheel - compiled - metadata == expected
