"""The tool that makes small mistakes: it finds what it should, and alters nothing else."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from mutation.build import HEADER, LIBRARY
from mutation.campaign import Campaign, sample
from mutation.excluded import EXCLUDED_FILES, FUNCTIONS, STATEMENTS, reason
from mutation.mutants import Mutant, changes, mutants
from mutation.report import explanations, markdown, summary, unexplained
from mutation.rewriting import numbers_on, rewrite
from mutation.statements import sites

OPTIMIZED = Path(__file__).parents[2] / "optimized"

C = """\
/* The sum of squares up to a bound. */
static int sum(const int *x, int n)
{
    int total = 0;  /* a = b + c */
    for (int i = 0; i < n; i++)
        total += x[i] * (x[i] - 1);
    if (total > 100 && n != 0)
        return -total;
    return total;
}
"""

CYTHON = '''\
"""A module."""

cdef enum:
    BLOCK = 4


def checked(x):
    """Python: what it does is no kernel's work: a + b."""
    y = x + 1
    with nogil:
        body(
            &x[0], x.shape[0] - 1,
        )
    return y + 2


cdef void body(float *x, Py_ssize_t n) noexcept nogil:
    """Adds."""
    cdef Py_ssize_t i, last = n - 1
    for i in range(n):
        if 0 <= i < last:
            x[i] += <float> 1.0
    x[last] = 0.0 if n > 1 else x[0]
'''


def found(source: str, cython: bool) -> list[Mutant]:
    file = "body.pyx" if cython else "sum.h"
    return list(mutants(file, source, list(changes(source, cython))))


def changed(source: str, cython: bool) -> set[str]:
    return {f"{mutant.original} -> {mutant.changed}" for mutant in found(source, cython)}


def test_mistakes_in_c() -> None:
    assert changed(C, cython=False) == {
        "0 -> 1", "i < n -> i <= n", "i < n -> i < n - 1",
        "x[i] * (x[i] - 1) -> x[i] / (x[i] - 1)", "x[i] * (x[i] - 1) -> x[i]",
        "x[i] * (x[i] - 1) -> (x[i] - 1)", "x[i] -> x[i + 1]", "x[i] - 1 -> x[i] + 1",
        "x[i] - 1 -> x[i]", "1 -> 2",
        "total += x[i] * (x[i] - 1); -> total = x[i] * (x[i] - 1)",
        "total += x[i] * (x[i] - 1); -> total -= x[i] * (x[i] - 1)",
        "total += x[i] * (x[i] - 1); -> nothing",
        "total > 100 && n != 0 -> total > 100 || n != 0", "total > 100 && n != 0 -> total > 100",
        "total > 100 && n != 0 -> n != 0", "total > 100 && n != 0 -> !(total > 100 && n != 0)",
        "total > 100 -> total >= 100", "100 -> 101", "n != 0 -> n == 0", "-total -> total",
    }  # fmt: skip


def test_mistakes_in_cython_without_the_lock_alone() -> None:
    assert changed(CYTHON, cython=True) == {
        "x.shape[0] - 1 -> x.shape[0] + 1", "x.shape[0] - 1 -> x.shape[0]", "0 -> 1", "1 -> 2",
        "body( &x[0], x.shape[0] - 1, ) -> nothing",
        "n - 1 -> n + 1", "n - 1 -> n", "range(n) -> range(n + 1)", "range(n) -> range(n - 1)",
        "0 <= i < last -> 0 < i < last", "0 <= i < last -> 0 <= i <= last",
        "0 <= i < last -> 0 <= i", "0 <= i < last -> i < last",
        "0 <= i < last -> not (0 <= i < last)",
        "1.0 -> (2 * 1.0)", "x[i] += <float> 1.0 -> x[i] = <float> 1.0",
        "x[i] += <float> 1.0 -> x[i] -= <float> 1.0", "x[i] += <float> 1.0 -> nothing",
        "0.0 -> 1.0", "n > 1 -> n >= 1", "0.0 if n > 1 else x[0] -> 0.0",
        "0.0 if n > 1 else x[0] -> x[0]", "x[last] = 0.0 if n > 1 else x[0] -> nothing",
    }  # fmt: skip


def test_each_is_one_change_at_a_known_line() -> None:
    [accumulate] = [m for m in found(C, cython=False) if m.kind == "accumulate"]
    assert (accumulate.line, accumulate.function) == (6, "sum")
    keys = [mutant.key for mutant in found(C, cython=False)]
    assert len(set(keys)) == len(keys)


def built(folder: Path) -> tuple[ctypes.CDLL, list[Mutant], ctypes.c_int]:
    """The C function above with all its mutants, and the number that chooses one."""
    made = list(changes(C, cython=False))
    numbered = [
        (Mutant(i, m.file, m.line, m.function, m.statement, m.original, m.changed, m.kind), change)
        for i, (m, change) in enumerate(zip(found(C, cython=False), made, strict=True), 1)
    ]
    text = rewrite(C, numbered, cython=False).replace("static int", "int")
    source = folder / "sum.c"
    source.write_text(HEADER.replace("extern", "") + LIBRARY.replace("int cllm_mutant;", "") + text)
    library = folder / "sum.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    choice = ctypes.c_int.in_dll(loaded, "cllm_mutant")
    return loaded, [mutant for mutant, _ in numbered], choice


def test_one_build_has_all_of_them_and_without_a_choice_none(tmp_path: Path) -> None:
    library, numbered, choice = built(tmp_path)
    values = (ctypes.c_int * 6)(4, 2, 3, 1, 50, 7)

    def results() -> list[int]:
        return [library.sum(values, n) for n in (0, 1, 3, 5)]

    right = [0, 12, 20, -2470]
    assert results() == right
    by_change = {}
    for mutant in numbered:
        if "/" not in mutant.changed:  # a division by zero is no result
            choice.value = mutant.number
            by_change[mutant.change] = results()
    choice.value = 0
    assert results() == right
    seen = {change for change, result in by_change.items() if result != right}
    same = {change.partition(" in ")[0] for change in set(by_change) - seen}
    # no sum is just at 100 or 101, and that of one element is not above it
    assert same == {
        "total > 100 -> total >= 100", "100 -> 101", "total > 100 && n != 0 -> total > 100",
        "0 -> 1",
    }  # fmt: skip


def test_the_line_tells_the_mutant() -> None:
    made = list(changes(CYTHON, cython=True))
    numbered = [
        (Mutant(i, m.file, m.line, m.function, m.statement, m.original, m.changed, m.kind), change)
        for i, (m, change) in enumerate(zip(found(CYTHON, cython=True), made, strict=True), 1)
    ]
    lines = rewrite(CYTHON, numbered, cython=True).split("\n")
    numbers = [number for line in lines for number in sorted(numbers_on(line))]
    assert sorted(numbers) == [mutant.number for mutant, _ in numbered]
    assert all(len(numbers_on(line)) <= 1 for line in lines)


def test_the_sample_stays_when_lines_are_added() -> None:
    before = sample(found(C, cython=False), 8, seed=1)
    more = C.replace("    int total", "    int other = n * 3;\n    int total")
    after = sample(found(more, cython=False), 8, seed=1)
    assert len({m.key for m in before} & {m.key for m in after}) >= 6
    assert sample(found(C, cython=False), 8, seed=2) != before


def kernels() -> list[Mutant]:
    """Every mutant of the sources, whether a level compiles it or not."""
    paths = [*OPTIMIZED.glob("kernels/*.h"), *OPTIMIZED.glob("*.pyx")]
    every = []
    for path in paths:
        file = path.relative_to(OPTIMIZED).as_posix()
        if file not in EXCLUDED_FILES:
            source, cython = path.read_text(), path.suffix == ".pyx"
            every += mutants(file, source, changes(source, cython))
    return every


def test_what_is_known_to_be_equivalent_is_still_there() -> None:
    keys = {mutant.key for mutant in kernels()}
    assert set(explanations()) <= keys


def test_every_rule_leaves_something_out() -> None:
    every = kernels()
    assert {mutant.function for mutant in every} >= set(FUNCTIONS)
    for pattern in STATEMENTS:
        assert any(re.search(pattern, mutant.statement) for mutant in every), pattern
    assert {file for file in EXCLUDED_FILES if not (OPTIMIZED / file).exists()} == set()
    excluded = sum(bool(reason(mutant)) for mutant in every)
    assert excluded < len(every) / 10


@pytest.mark.parametrize("file", ["kernels/gemm.h", "network.pyx"])
def test_sources_are_understood_to_their_end(file: str) -> None:
    source = (OPTIMIZED / file).read_text()
    functions = {site.function for site in sites(source, file.endswith(".pyx"))}
    last = {"kernels/gemm.h": "gemm_times", "network.pyx": "decode_columns"}[file]
    assert last in functions


def test_survivors_are_named_with_their_reason() -> None:
    known = next(iter(explanations()))
    [of] = [mutant for mutant in kernels() if mutant.key == known]
    other = found(C, cython=False)[0]
    killed = Mutant(3, "a.h", 1, "f", "x", "x", "y", "operator")
    tried = [Mutant(i, *list(vars(m).values())[1:]) for i, m in ((1, of), (2, other))] + [killed]
    campaign = Campaign(tried)
    for mutant in tried:
        killer = "loss.value" if mutant is killed else ""
        how = "fail: off" if killer else "survived"
        campaign.outcomes[mutant.number] = {"killer": killer, "how": how, "seconds": 1.0}
    assert [mutant.number for mutant in unexplained(campaign)] == [2]
    assert summary(campaign).startswith("1 of 3 mutants killed (33.3%), 2 survived, 1 of them")
    text = markdown(campaign, tried, [(killed, "speed")], 1)
    assert explanations()[known] in text
    assert "**not explained**" in text
    assert f"`{other.file}:{other.line}`" in text
