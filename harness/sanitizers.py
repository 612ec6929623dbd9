"""Sanitizers of gcc and clang in stock Python.

Promises: the environment in which Python runs code that was built with one; in such a process,
what compiled code it watches and what it reports. `python -m cllm.harness.sanitizers NAME COMMAND`
runs a command in that environment.
Leaves out: building with them, and what is run (`tests/sanitizers` does both for our models).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ADDRESS, THREAD = "address", "thread"
"""AddressSanitizer with UndefinedBehaviorSanitizer and LeakSanitizer, of gcc; ThreadSanitizer, of
clang: gcc's OpenMP runtime is none that it understands."""

COMPILERS = {ADDRESS: "gcc", THREAD: "clang-19"}

PACKAGES = {
    ADDRESS: "gcc binutils",
    THREAD: "clang-19 libomp-19-dev libclang-rt-19-dev binutils",
}
"""Of Debian and Ubuntu."""

SYMBOLIZER = "addr2line"

ENTRIES = {ADDRESS: b"__asan_", THREAD: b"__tsan_"}
"""What instrumented code calls: its names open with this."""

_FRAME = re.compile(r"\s+#\d+ (?P<function>.+) (?P<place>\S+:\d+)(?::\d+)? \(.+")
_ACCESS = re.compile(r"\s+(?:Previous |Atomic |Previous atomic )?(?:[Rr]ead|[Ww]rite) of size .+")


def environment(sanitizer: str) -> dict[str, str]:
    """Variables with which Python runs code that was built with a sanitizer.

    Raises `FileNotFoundError` that says what to install where something is missing.
    """
    symbolizer = shutil.which(SYMBOLIZER)
    if symbolizer is None:
        raise _not_installed(sanitizer, SYMBOLIZER)
    if sanitizer == ADDRESS:
        libraries = [_library(sanitizer, name) for name in ("libasan.so", "libubsan.so")]
        return {
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",  # each object a heap block
            "ASAN_OPTIONS": "leak_check_at_exit=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        }
    return {
        "LD_PRELOAD": _library(sanitizer, f"libclang_rt.tsan-{os.uname().machine}.so"),
        "OMP_TOOL_LIBRARIES": _library(sanitizer, "libarcher.so"),
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:exitcode=0:die_after_fork=0:"
        f"external_symbolizer_path={symbolizer}",
    }


def _library(sanitizer: str, name: str) -> str:
    """Where the compiler keeps a library."""
    compiler = shutil.which(COMPILERS[sanitizer])
    if compiler is None:
        raise _not_installed(sanitizer, COMPILERS[sanitizer])
    done = subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    path = Path(done.stdout.strip())
    if not path.is_absolute() or not path.exists():
        raise _not_installed(sanitizer, name)
    return str(path.resolve())


def _not_installed(sanitizer: str, what: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"the {sanitizer} sanitizer needs {what}, which is not there: on Debian "
        f"apt-get install {PACKAGES[sanitizer]}"
    )


def loaded(sanitizer: str) -> bool:
    """Whether this process runs under a sanitizer."""
    return hasattr(ctypes.CDLL(None), {ADDRESS: "__asan_init", THREAD: "__tsan_init"}[sanitizer])


def mapped() -> list[Path]:
    """The shared objects of this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if "/" in line)
    return [path for path in map(Path, names) if ".so" in path.name and path.is_file()]


@contextlib.contextmanager
def reports() -> Iterator[Callable[[], str]]:
    """A function that gives what the sanitizer has reported in this process since."""
    library = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        library.__sanitizer_set_report_path(os.fsencode(path))
        written = path.with_name(f"report.{os.getpid()}")
        try:
            yield lambda: written.read_text(errors="replace") if written.exists() else ""
        finally:
            library.__sanitizer_set_report_path(b"stderr")


def stacks(report: str) -> list[str]:
    """What happened and where, of both accesses of the first race of a report."""
    found: list[str] = []
    access = ""
    for line in report.splitlines():
        if _ACCESS.fullmatch(line):
            if len(found) == 2:
                break
            access = " ".join(line.split(" at 0x")[0].split()).lower()
        elif access and (frame := _FRAME.fullmatch(line)):
            place = os.path.normpath(frame["place"])
            found.append(f"{access} at {place} in {frame['function']}")
            access = ""
    return found[:2]


def main(arguments: list[str]) -> None:
    """Run a command under a sanitizer; the process becomes the command."""
    match arguments:
        case [("address" | "thread") as sanitizer, command, *rest]:
            try:
                variables = environment(sanitizer)
            except FileNotFoundError as error:
                sys.exit(f"Error: {error}")
            os.execvpe(command, [command, *rest], os.environ | variables)
        case _:
            print(
                "usage: python -m cllm.harness.sanitizers address|thread COMMAND", file=sys.stderr
            )
            sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
