"""Calls that do not look like the harness's, and waiting until nothing is at work any more.

Promises: `unobserved` runs a script's lines on a thread of its own, with no
variables in the environment and no modules loaded that tell of a test, and puts them back.
Leaves out: what a candidate may have noted while it was imported.
"""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

SCRIPT = "train.py"
"""What the script is called."""

TELLING_NAMES = ("PYTEST", "TOX", "CLLM_", "HYPOTHESIS", "COVERAGE", "GITHUB_")
"""How names in the environment begin that tell of a test; `CI` is one too."""

TELLING_MODULES = ("cllm.harness", "pytest", "_pytest", "hypothesis", "unittest", "tox")

PATIENCE = 0.5
"""Seconds to wait for threads; some never end."""


def unobserved(script: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a script's lines with these names; returns all names that there are at its end.

    Raises what the script raises. No frame of the harness is below or above the script's own.
    """
    lines = textwrap.indent(textwrap.dedent(script), "    ")
    code = compile(f"try:\n{lines}\nexcept BaseException as e:\n    raised = e\n", SCRIPT, "exec")
    here: dict[str, Any] = {**names, "__name__": "__main__", "raised": None}
    with mock.patch.dict(os.environ), mock.patch.dict(sys.modules):  # noqa: SIM117
        with mock.patch.object(sys, "argv", [SCRIPT]):
            for name in [name for name in os.environ if _telling(name)]:
                del os.environ[name]
            for name in [name for name in sys.modules if _of(name, TELLING_MODULES)]:
                del sys.modules[name]
            thread = threading.Thread(target=exec, args=(code, here))
            thread.start()
            thread.join()
    if here["raised"] is not None:
        raise here["raised"]
    return here


def _telling(name: str) -> bool:
    return name == "CI" or name.startswith(TELLING_NAMES)


def _of(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def settle(before: Iterable[threading.Thread]) -> None:
    """Wait until threads started since `before` have ended or do nothing, and native ones too."""
    deadline = time.monotonic() + PATIENCE
    known = set(before)
    for thread in threading.enumerate():
        if thread not in known and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
    idle = 0
    while idle < 2 and time.monotonic() < deadline:
        idle = 0 if _at_work() else idle + 1
        time.sleep(0.001)  # between two looks


def _at_work() -> bool:
    """Whether a thread other than this one is running (Linux; elsewhere none is seen)."""
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("[0-9]*"):
        if task.name == own:
            continue
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # it has just ended
            continue
        if state == "R":
            return True
    return False
