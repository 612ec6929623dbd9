"""The recipes of `docs/ci/` do what they say, on a small project with a pull request and a remote.

Every shell step of the workflow is run as it stands; in place of GitHub's own commands `gh` notes
what it was asked, and the remote is a folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPES = Path(__file__).parents[1] / "docs" / "ci"
WORKFLOW = RECIPES / "github-workflow.yml"
EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "mymodel"
version = "1.0"
"""

BACKEND = """
import zipfile

INFO = "mymodel-1.0.dist-info"
FILES = {
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: mymodel\\nVersion: 1.0\\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "mymodel-1.0-py3-none-any.whl"
    files = {**FILES, "mymodel.py": open("src/mymodel.py").read()}
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{INFO}/RECORD", "".join(f"{path},,\\n" for path in [*files, INFO]))
    return name
"""

MODEL = """
from cllm.reference import Model


class MyModel(Model):
    "The reference, for a start."
"""

SLOWER = """
    def _update(self, update):
        for _ in range(500):
            self.parameters.sum()
        super()._update(update)
"""

CLLM = """#!{python}
if __name__ == "__main__":
    from cllm.cli import main

    main()
"""

GH = '#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTED"\n'


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Runner:
    """A machine that has checked the project out, with Python and cllm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.outputs: dict[str, str] = {}
        self._bin = folder / "python" / "bin"
        self.workflow = yaml.safe_load(WORKFLOW.read_text())
        self._make_project()
        self._make_python()

    def _make_project(self) -> None:
        (self.project / "src").mkdir(parents=True)
        (self.project / "pyproject.toml").write_text(PROJECT)
        (self.project / "backend.py").write_text(BACKEND)
        (self.project / "src" / "mymodel.py").write_text(MODEL)
        git(self.project, "init", "-q", "-b", "main")
        git(self.project, "add", ".")
        git(self.project, "commit", "-q", "-m", "A model")
        git(self.folder, "init", "-q", "--bare", "remote")
        git(self.project, "remote", "add", "origin", str(self.folder / "remote"))

    def _make_python(self) -> None:
        """A virtual environment in which what is installed here is found, as after an install."""
        venv.create(self.folder / "python", symlinks=True)
        places = {"base": str(self.folder / "python"), "platbase": str(self.folder / "python")}
        site = Path(sysconfig.get_path("purelib", "venv", places))
        (site / "here.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"
        )
        self._script("cllm", CLLM.format(python=self._bin / "python"))
        self._script("gh", GH)

    def _script(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def slow_down(self) -> str:
        """Commit a slower model; the revision before it."""
        with (self.project / "src" / "mymodel.py").open("a") as file:
            file.write(SLOWER)
        git(self.project, "commit", "-q", "-a", "-m", "The same, with care")
        return git(self.project, "rev-parse", "HEAD~1")

    def step(self, job: str, name: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Run a step as GitHub does: `bash -e` on a file, expressions in `env` replaced."""
        (step,) = (s for s in self.workflow["jobs"][job]["steps"] if s.get("name") == name)
        context = {f"steps.compare.outputs.{key}": value for key, value in self.outputs.items()}
        environment = {
            key: EXPRESSION.sub(lambda found: {**context, **given}[found[1]], str(value))
            for key, value in {**self.workflow["env"], **step.get("env", {})}.items()
        }
        script, noted = self.folder / "script.sh", self.folder / "output"
        script.write_text(step["run"])
        noted.write_text("")
        done = subprocess.run(
            ["bash", "-e", str(script)],
            cwd=self.project,
            env=self.environment(environment | {"GITHUB_OUTPUT": str(noted)}),
            capture_output=True,
            text=True,
        )
        self.outputs |= dict(line.split("=", 1) for line in noted.read_text().splitlines())
        return done

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Of a step; smaller than what the recipe measures, and without network."""
        return {
            **os.environ,
            **given,
            "CONFIGURATION": "tiny",
            "BUDGET": "60",
            "PATH": os.pathsep.join([str(self._bin), os.environ["PATH"]]),
            "PIP_NO_INDEX": "1",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_SHA": git(self.project, "rev-parse", "HEAD"),
            "NOTED": str(self.folder / "noted"),
        }


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def succeeded(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_one() -> None:
    schema = "vendor.github-workflows"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(WORKFLOW)]
    succeeded(subprocess.run(command, capture_output=True, text=True))


def steps() -> list[Any]:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_nothing_from_outside_gets_into_a_script() -> None:
    """A title of a pull request, say, would be run: expressions stand in `env` alone."""
    scripts = [step["run"] for step in steps() if "run" in step]
    assert scripts
    assert not any(EXPRESSION.search(script) for script in scripts)


def test_candidates_are_checked(runner: Runner) -> None:
    succeeded(runner.step("check", "Install"))
    succeeded(runner.step("check", "Check"))
    assert "<testsuite" in (runner.project / "check.xml").read_text()


def test_a_slower_pull_request_fails_and_says_so(runner: Runner) -> None:
    base = runner.slow_down()
    succeeded(runner.step("compare", "Install"))
    succeeded(runner.step("compare", "Compare", **{"github.event.pull_request.base.sha": base}))
    assert runner.outputs == {"status": "1"}
    succeeded(runner.step("compare", "Report"))
    summary = (runner.folder / "summary.md").read_text()
    assert "slower" in summary
    asked = {"github.token": "secret", "github.event.pull_request.number": "7"}
    succeeded(runner.step("compare", "Comment", **asked))
    words = (runner.folder / "noted").read_text().split()
    assert words[:3] == ["pr", "comment", "7"]
    assert (runner.project / words[words.index("--body-file") + 1]).read_text() == summary
    assert runner.step("compare", "Verdict").returncode == 1


def test_a_comparison_that_cannot_be_made_fails_at_once(runner: Runner) -> None:
    succeeded(runner.step("compare", "Install"))
    nothing = {"github.event.pull_request.base.sha": "0" * 40}
    failed = runner.step("compare", "Compare", **nothing)
    assert failed.returncode == 1
    assert "cllm: error: " in failed.stderr


@pytest.mark.parametrize(("status", "said", "ends"), [("0", "", 0), ("3", "::warning", 0)])
def test_other_verdicts(status: str, said: str, ends: int, runner: Runner) -> None:
    runner.outputs["status"] = status
    done = runner.step("compare", "Verdict")
    assert done.returncode == ends
    assert done.stdout.startswith(said)
    assert bool(done.stdout) == bool(said)


def test_speed_is_remembered_and_shown(runner: Runner) -> None:
    for name in ("Install", "Measure", "Remember", "Dashboard"):
        succeeded(runner.step("history", name))
    first = git(runner.project, "rev-parse", "HEAD")
    assert (runner.project / "site" / "index.html").is_file()
    # the next push, on a machine of its own
    git(runner.project, "worktree", "remove", "--force", "kept")
    git(runner.project, "branch", "-D", "cllm-history")
    runner.slow_down()
    succeeded(runner.step("history", "Remember"))
    succeeded(runner.step("history", "Dashboard"))
    remote = runner.folder / "remote"
    kept = git(remote, "ls-tree", "-r", "--name-only", "cllm-history").splitlines()
    second = git(runner.project, "rev-parse", "HEAD")
    assert sorted(kept) == sorted(f"runs/{sha}.json" for sha in (first, second))
    assert git(remote, "rev-list", "--count", "cllm-history") == "2"
    assert git(runner.project, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.parametrize("name", ["check", "compare"])
def test_the_recipe_of_tox(name: str, runner: Runner) -> None:
    base = runner.slow_down()
    (runner.project / "tox.ini").write_bytes((RECIPES / "tox.ini").read_bytes())
    given = {
        "check": ["--only", "loss.value"],
        "compare": [base, "HEAD", "--configuration", "tiny", "--threads", "1"],
    }[name]
    # What tox would have installed is found by its path; revisions are installed by the comparison.
    places = [os.environ.get("PYTHONPATH"), sysconfig.get_path("purelib")]
    places += [str(runner.project / "src")] if name == "check" else []
    path = os.pathsep.join(filter(None, places))
    environment = runner.environment({})
    for variable in [name for name in environment if name.startswith("TOX_")]:
        del environment[variable]  # of a tox that runs this test
    done = subprocess.run(
        [
            sys.executable, "-m", "tox", "run", "-q", "-e", name,
            "-x", "testenv.package=skip", "-x", "testenv.deps=",
            "-x", f"testenv.set_env=PYTHONPATH={path}",
            "-x", "testenv.pass_env=XDG_CACHE_HOME", "--", *given,
        ],
        cwd=runner.project, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if name == "check":
        succeeded(done)
        assert "loss.value" in done.stdout
    else:
        assert done.returncode == 1, done.stdout + done.stderr  # it is slower
        assert "slower" in (runner.project / "reports" / "summary.md").read_text()
