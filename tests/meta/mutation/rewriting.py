"""One source with all its mutants in it, of which a global number chooses one at run time.

An expression becomes `(MUTANT(17) ? mutated : original)`, in Cython `(mutated if cllm_mutant == 17
else original)`, a statement an `if`. The mutated text stands on one line of its own, so that what
the compiler refuses can be told by the line and left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from mutation.mutants import Change, Mutant
from mutation.statements import Site
from mutation.syntax import Node

DECLARATION = 'cdef extern from "mutant.h":\n    int cllm_mutant\n\n'

_NUMBER = re.compile(r"MUTANT\((\d+)\)|cllm_mutant [!=]= (\d+)")


Pair = tuple[Mutant, Change]


def rewrite(source: str, pairs: Sequence[Pair], cython: bool) -> str:
    """The source with these mutants in it, in the order in which `changes` gives them."""
    pieces, done = [], 0
    numbered: dict[int | None, list[tuple[int, str]]]
    for site, group in groupby(pairs, lambda pair: pair[1].site):
        numbered = {}
        for mutant, change in group:
            key = None if change.node is None else id(change.node)
            numbered.setdefault(key, []).append((mutant.number, change.text))
        write = _Cython(source, numbered) if cython else _C(source, numbered)
        pieces += [source[done : site.start], write.site(site)]
        done = site.stop
    return (DECLARATION if cython else "") + "".join([*pieces, source[done:]])


def numbers_on(line: str) -> set[int]:
    """The mutants whose text stands on a line of a rewritten source."""
    return {int(c or cython) for c, cython in _NUMBER.findall(line)}


class _C:
    """Writes C."""

    def __init__(self, source: str, numbered: dict[int | None, list[tuple[int, str]]]) -> None:
        self.source = source
        self.numbered = numbered
        self.newline = "\n"

    def site(self, site: Site) -> str:
        self.newline = "\\\n" if site.macro else "\n"
        text = self.node(site.node)
        if None not in self.numbered:
            return text + self.source[site.node.stop : site.stop]
        return self.statement(site, text)

    def statement(self, site: Site, text: str) -> str:
        end = self.newline
        lines = [
            f"if (MUTANT({number})) {changed or ''}; else{end}"
            for number, changed in self.numbered[None]
        ]
        return f"{{{end}{''.join(lines)}{text}; }}"

    def node(self, node: Node) -> str:
        """The text of a node, its parts and itself rewritten."""
        pieces, done = [], node.start
        for part in sorted(node.parts, key=lambda part: part.start):
            pieces += [self.source[done : part.start], self.node(part)]
            done = part.stop
        text = "".join([*pieces, self.source[done : node.stop]])
        return self.choice(self.numbered[id(node)], text) if id(node) in self.numbered else text

    def choice(self, variants: list[tuple[int, str]], text: str) -> str:
        end = self.newline
        lines = [f"MUTANT({number}) ? ({changed}) :{end}" for number, changed in variants]
        return f"({end}{''.join(lines)}({text}))"


class _Cython(_C):
    """Writes Cython."""

    def statement(self, site: Site, text: str) -> str:
        start = self.source.rfind("\n", 0, site.start) + 1
        indent = self.source[start : site.start]
        lines, word = [], "if"
        for number, changed in self.numbered[None]:
            lines.append(f"{word} cllm_mutant == {number}: {changed or 'pass'}\n{indent}")
            word = "elif"
        return f"{''.join(lines)}else: {text}"

    def choice(self, variants: list[tuple[int, str]], text: str) -> str:
        lines = [f"({changed}) if cllm_mutant == {number} else\n" for number, changed in variants]
        return f"(\n{''.join(lines)}({text}))"
