"""One build of the optimized model with all mutants in it.

Promises: a folder for PYTHONPATH that holds the whole package, its kernels compiled from rewritten
sources, one instruction-set level; `CLLM_MUTANT=17` chooses a mutant, none is the model as it is.
What a compiler refuses is no mutant.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

import cllm
from mutation.excluded import EXCLUDED_FILES, reason
from mutation.mutants import Mutant, changes, mutants
from mutation.rewriting import Pair, numbers_on, rewrite

HEADER = """\
#ifndef CLLM_MUTANT_H
#define CLLM_MUTANT_H
extern int cllm_mutant;
#define MUTANT(number) __builtin_expect(cllm_mutant == number, 0)
#endif
"""
LIBRARY = """\
#include <stdlib.h>
int cllm_mutant;
__attribute__((constructor)) static void choose(void)
{
    const char *number = getenv("CLLM_MUTANT");
    cllm_mutant = number ? atoi(number) : 0;
}
"""
CHOICE = """\
#include "kernels.h"
extern const Kernels kernels_mutants;
const char kernels_names[] = "mutants";
const Kernels *kernels_choose(const char *name) { return name ? NULL : &kernels_mutants; }
"""
LOADER = """\
import ctypes as _ctypes
_ctypes.CDLL({library!r}, _ctypes.RTLD_GLOBAL)
"""
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")  # now: threads get None while it is looked up
DIRECTIVES = [
    *("-Xboundscheck=False", "-Xwraparound=False"),
    *("-Xinitializedcheck=False", "-Xcdivision=True"),
]
# Loops that run past an array are what some mutants are about: the compiler must not reason that
# there are none.
C = [
    *("-std=gnu11", "-fPIC", "-fopenmp", "-w"),
    *("-fno-aggressive-loop-optimizations", "-fno-strict-aliasing", "-fwrapv"),
    *("-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"),  # as the sanitizers' run has it
]
KERNELS = [
    *("-O1", "-march=x86-64-v3"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
]


class Build:
    """A folder with the package and its mutants."""

    def __init__(self, optimized: Path, folder: Path, jobs: int = 1) -> None:
        """Build from the sources in `optimized` and the installed package, into `folder`."""
        self.folder = folder.resolve()
        self.refused = 0
        self.excluded: list[tuple[Mutant, str]] = []
        self._optimized = optimized
        self._package = self.folder / "cllm" / "optimized"
        self._sources = self.folder / "sources" / "cllm" / "optimized"
        shutil.rmtree(self.folder, ignore_errors=True)
        self._copy()
        self._text = {file: (optimized / file).read_text() for file in self._files()}
        self._pairs: dict[str, list[Pair]] = {file: [] for file in self._text}
        self._number()
        self._lock = Lock()
        for file in self._text:
            self._write(file)
        self._kernels()
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self._module, self._modules()))

    @property
    def mutants(self) -> list[Mutant]:
        """All that the compiler takes."""
        return [mutant for pairs in self._pairs.values() for mutant, _ in pairs]

    def _copy(self) -> None:
        """The installed package, the sources, and the library that holds the chosen number."""
        installed = Path(cllm.__file__).parent
        ignore = shutil.ignore_patterns("__pycache__", "optimized")
        shutil.copytree(installed, self.folder / "cllm", ignore=ignore)
        shutil.copytree(self._optimized, self._sources, ignore=shutil.ignore_patterns("*.so"))
        for package in (self._sources.parent, self._sources):
            (package / "__init__.pxd").touch()
        (self._sources / "mutant.h").write_text(HEADER)
        (self._sources / "mutant.c").write_text(LIBRARY)
        library = self.folder / "libmutant.so"
        _run(["cc", "-shared", "-fPIC", self._sources / "mutant.c", "-o", library])
        self._package.mkdir()
        for module in self._optimized.glob("*.py"):
            loader = LOADER.format(library=str(library)) if module.stem == "__init__" else ""
            (self._package / module.name).write_text(loader + module.read_text())

    def _files(self) -> list[str]:
        """Names below `optimized/` of what is mutated."""
        paths = [*self._optimized.glob("kernels/*.h"), *self._optimized.glob("*.pyx")]
        names = sorted(path.relative_to(self._optimized).as_posix() for path in paths)
        return [name for name in names if name not in EXCLUDED_FILES]

    def _modules(self) -> list[str]:
        return sorted(path.stem for path in self._optimized.glob("*.pyx"))

    def _number(self) -> None:
        """Give a number to each change that no rule excludes."""
        number = 1
        for file, source in self._text.items():
            cython = file.endswith(".pyx")
            found = list(changes(source, cython, None if cython else self._active(file)))
            for mutant, change in zip(mutants(file, source, found), found, strict=True):
                if why := reason(mutant):
                    self.excluded.append((mutant, why))
                else:
                    self._pairs[file].append((replace(mutant, number=number), change))
                    number += 1

    def _active(self, file: str) -> frozenset[int]:
        """The lines of a C header that this level compiles."""
        path = self._optimized / file
        text = _run(["cc", "-E", "-fdirectives-only", *C, *KERNELS, path]).stdout
        lines, line, here = set(), 0, False
        for row in text.split("\n"):
            if mark := re.match(r'# (\d+) "(.*?)"', row):
                line, here = int(mark[1]), mark[2].endswith(file)
            else:
                if here and row.strip():
                    lines.add(line)
                line += 1
        return frozenset(lines)

    def _write(self, file: str) -> None:
        text = rewrite(self._text[file], self._pairs[file], file.endswith(".pyx"))
        (self._sources / file).write_text(text)

    def _kernels(self) -> None:
        """Compile the kernels of one level, and the table that chooses it."""
        folder = self._sources / "kernels"
        compile = ["cc", "-c", *C, "-include", "../mutant.h"]
        level = [*KERNELS, "-DLEVEL=mutants", "kernels.c", "-o", self.folder / "kernels.o"]
        self._compile([*compile, *level], folder)
        (folder / "choose.c").write_text(CHOICE)
        self._compile([*compile, "choose.c", "-o", self.folder / "choose.o"], folder)

    def _module(self, name: str) -> None:
        """Translate and compile one Cython module."""
        folder = self._sources.parent.parent
        source = f"cllm/optimized/{name}"
        cython = [sys.executable, "-m", "cython", "-3", *DIRECTIVES, "-I", "."]
        named = ["--module-name", f"cllm.optimized.{name}", f"{source}.pyx"]
        flags = ["-shared", "-O1", *C, "-include", "cllm/optimized/mutant.h", "-Icllm/optimized"]
        include = f"-I{sysconfig.get_path('include')}"
        objects = [self.folder / "kernels.o", self.folder / "choose.o"] if name == "kernels" else []
        target = self._package / f"{name}{SUFFIX}"
        compile = ["cc", *flags, include, f"{source}.c", *objects, "-lm", "-o", target]
        self._compile([*cython, *named], folder)
        self._compile(compile, folder)

    def _compile(self, command: list[str | Path], folder: Path) -> None:
        """Run a compiler, again without the mutants that it refuses."""
        while (done := _run(command, folder)).returncode:
            errors = re.findall(r"^(\S+?):(\d+):\d+: (?!note|warning)", done.stderr, re.M)
            with self._lock:
                refused = self._refuse({(Path(file).name, int(line)) for file, line in errors})
            if not refused:
                raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")

    def _refuse(self, lines: set[tuple[str, int]]) -> bool:
        """Leave out the mutants on lines of rewritten sources; whether there were any."""
        before = self.refused
        for file, pairs in self._pairs.items():
            rows = (self._sources / file).read_text().split("\n")
            own = [rows[line - 1] for name, line in lines if name == Path(file).name]
            numbers = set().union(*map(numbers_on, own))
            if numbers:
                self._pairs[file] = [pair for pair in pairs if pair[0].number not in numbers]
                self.refused += len(pairs) - len(self._pairs[file])
                self._write(file)
        return self.refused > before


def _run(command: list[str | Path], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
