"""The two sides of a comparison, each in an environment of its own.

A side is a git revision, a folder of sources, a wheel, a virtual environment, or a candidate that
is installed already. Sources and wheels are installed into a virtual environment which finds all
else, NumPy first of all, in the one that runs this, so that both sides differ in nothing more.

Promises: an environment is whole or not there; that of a revision is kept (in `$XDG_CACHE_HOME`)
and found again. Raises `CllmError` with the last line of what failed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from dataclasses import dataclass, replace
from pathlib import Path

from cllm.errors import CllmError
from cllm.harness.commit import commit_at, commit_of, current_commit, git
from cllm.harness.compare.process import Launch
from cllm.harness.history.record import Commit
from cllm.registry import find_model, installed

BUILD_LIMIT = 1800.0
"""Seconds to install a side."""

KINDS = (
    "a git revision, a folder with a pyproject.toml, a wheel (.whl), a virtual environment, "
    "or a candidate (module:Class or a name of an entry point)"
)

INSTALLED = ("wheel", "folder", "revision")
"""Kinds that have an environment of their own, made for them."""


@dataclass(frozen=True)
class Build:
    """A side that can be measured."""

    name: str
    kind: str
    launch: Launch
    version: str
    """Of the candidate's package, as it names it."""
    commit: Commit | None = None


ASK = """
import sys
from cllm.registry import find_model
module = find_model(sys.argv[1]).__module__
print(sys.modules[module].__file__ or "")
print(getattr(sys.modules[module.partition(".")[0]], "__version__", ""))
"""
"""Where a candidate lies, and the version of its package."""


def prepare(name: str, candidate: str, folder: Path, scratch: Path) -> Build:
    """The side of that name; revisions are those of the repository that `folder` is in.

    `candidate` is measured on a side that is none itself. What is not kept is installed in
    `scratch`.
    """
    path, commit, python = Path(name), None, sys.executable
    if name.endswith(".whl"):
        if not path.is_file():
            raise CllmError(f"no wheel at {name}")
        kind, python = "wheel", _install(path.resolve(), scratch)
    elif (path / "bin" / "python").exists():
        kind, python = "environment", str(path.absolute() / "bin/python")
    elif (path / "pyproject.toml").is_file():
        kind, python, commit = "folder", _install(path.resolve(), scratch), current_commit(path)
    elif name in installed() or ":" in name or name.endswith(".py"):
        kind, candidate = "candidate", name
        file = sys.modules[find_model(name).__module__].__file__
        commit = commit_of(Path(file) if file else None)
    else:
        kind = "revision"
        python, commit = _revision(name, folder)
    launch = Launch(candidate, python)
    if kind not in INSTALLED:
        # of an environment it is not to be found in the current folder
        here = None if kind == "candidate" else scratch
        return Build(name, kind, launch, _ask(launch, name, here)[1], commit)
    made = Path(python).parents[1]
    # what was installed comes first, even before folders that the user has put in front
    paths = [str(_site(made)), os.environ.get("PYTHONPATH")]
    launch = replace(launch, environment={"PYTHONPATH": os.pathsep.join(filter(None, paths))})
    source, version = _ask(launch, name, None)
    if made not in source.parents:
        raise CllmError(
            f"{candidate} is not in {name}, it is found at {source}: --candidate names what is"
        )
    return Build(name, kind, launch, version, commit)


def _site(environment: Path) -> Path:
    """Where a virtual environment keeps its packages."""
    places = {"base": str(environment), "platbase": str(environment)}
    return Path(sysconfig.get_path("purelib", "venv", places))


def _ask(launch: Launch, name: str, folder: Path | None) -> tuple[Path, str]:
    """Where the candidate lies on that side, asked from a folder, and its package's version."""
    done = subprocess.run(
        [launch.python, "-P", "-c", ASK, launch.candidate],
        env={**os.environ, **launch.environment},
        capture_output=True,
        timeout=BUILD_LIMIT,
        cwd=folder,
    )
    if done.returncode:
        raise CllmError(f"{launch.candidate} cannot be loaded in {name}: {_last_line(done.stderr)}")
    source, version = done.stdout.decode().splitlines()[-2:]
    return Path(source), version


def _revision(name: str, folder: Path) -> tuple[str, Commit | None]:
    """The interpreter with a commit's archive installed, and the commit."""
    found = _git(
        folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
    )
    if found.returncode:
        shallow = _git(folder, "rev-parse", "--is-shallow-repository").stdout == b"true\n"
        hint = "; this clone is shallow: `git fetch --unshallow` brings the rest" if shallow else ""
        raise CllmError(f"{name!r} must be {KINDS}{hint}")
    sha = found.stdout.decode().strip()
    kept = _cache() / f"{sha[:16]}-{_interpreter()}"
    if not (kept / "bin/python").exists():
        archive = _git(folder, "archive", "--format=tar", sha)
        if archive.returncode:
            raise CllmError(f"git archive {sha}: {_last_line(archive.stderr)}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as sources:
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(sources, filter="data")
            made = Path(_install(Path(sources), kept.parent)).parents[1]
        if not kept.exists():  # another comparison may have been faster
            made.rename(kept)
    return str(kept / "bin/python"), commit_at(folder, sha)


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return git(folder, *words, limit=BUILD_LIMIT)
    except FileNotFoundError:
        raise CllmError("a git revision needs git, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise CllmError(f"git {words[0]} took longer than {BUILD_LIMIT:.0f} s") from None


def _install(what: Path, folder: Path) -> str:
    """A new virtual environment in the folder with a wheel or sources; its interpreter."""
    made = Path(tempfile.mkdtemp(dir=folder))
    try:
        venv.create(made, symlinks=True)
        here = sysconfig.get_path("purelib")
        (_site(made) / "rest.pth").write_text(f"import site; site.addsitedir({here!r})\n")
        command = [sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "install"]
        command += ["--quiet", "--disable-pip-version-check", "--no-deps", "--force-reinstall"]
        done = subprocess.run(
            [*command, str(what)], capture_output=True, timeout=BUILD_LIMIT, cwd=made
        )
        if done.returncode:
            raise CllmError(f"{what.name} cannot be installed: {_last_line(done.stderr)}")
    except subprocess.TimeoutExpired:
        raise CllmError(f"{what.name}: not installed within {BUILD_LIMIT:.0f} s") from None
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return str(made / "bin/python")


def _cache() -> Path:
    """Where the environments of revisions are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cllm/builds"


def _interpreter() -> str:
    """The same for the same interpreter and the same packages around it."""
    return hashlib.sha256(f"{sys.executable} {sys.version}".encode()).hexdigest()[:8]


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no reason was given"
