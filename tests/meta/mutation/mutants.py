"""Small mistakes: what may become of an expression or a statement.

Promises: each mutant is one change at one place, of a kind that people make: another operator, a
bound or an index off by one, a term or a factor left out, another constant, a condition turned
round, a statement left out, a sum that is overwritten instead of added to. The same sources give
the same mutants.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mutation.statements import Site, sites
from mutation.syntax import Node, walk

OTHER = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*",
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "&&": "||", "||": "&&", "and": "or", "or": "and", "<<": ">>", ">>": "<<", "&": "|", "|": "&",
    "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=",
}  # fmt: skip
"""What an operator is mistaken for."""

COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}


@dataclass(frozen=True)
class Mutant:
    """One change, for people and for tables."""

    number: int
    """By which the build chooses it; 0 is none."""
    file: str
    """Below `optimized/`."""
    line: int
    function: str
    statement: str
    """In which it stands, or the expression as a whole where that is no statement."""
    original: str
    changed: str
    kind: str
    copy: int = 0
    """How many like it stand before it in the same function."""

    @property
    def key(self) -> str:
        """What it is, wherever its line has moved to."""
        return f"{self.file} {self.function}: {self.change}"

    @property
    def change(self) -> str:
        """What becomes of the statement."""
        inside = "" if self.statement == self.original else f" in {self.statement}"
        again = f" (#{self.copy + 1})" if self.copy else ""
        return f"{self.original} -> {self.changed}{inside}{again}"

    def rank(self, seed: int) -> bytes:
        """Its place in a random order that other mutants do not change."""
        return hashlib.sha256(f"{seed} {self.key}".encode()).digest()

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.change}"


@dataclass(frozen=True)
class Change:
    """A mistake at a place of a source."""

    site: Site
    node: Node | None
    """What is rewritten; None for the whole statement."""
    kind: str
    text: str
    """What stands there instead; nothing where a statement is left out."""

    @property
    def place(self) -> Node | Site:
        return self.node or self.site


def changes(source: str, cython: bool, active: frozenset[int] | None = None) -> Iterator[Change]:
    """All changes of a source that the grammar allows; the compiler may refuse some."""
    for site in sites(source, cython, active):
        fixed = _left_alone(site)
        for node in walk(site.node):
            if id(node) not in fixed:
                for kind, text in dict.fromkeys(_variants(node, site, source, cython)):
                    yield Change(site, node, kind, text)
        if site.role == "statement":
            for kind, text in _of_statement(site, source):
                yield Change(site, None, kind, text)


def mutants(file: str, source: str, found: Iterable[Change]) -> Iterator[Mutant]:
    """What the changes of a file are; without numbers yet."""
    seen: Counter[str] = Counter()
    for change in found:
        mutant = Mutant(
            0,
            file,
            source.count("\n", 0, change.place.start) + 1,
            change.site.function,
            plain(source, change.site),
            plain(source, change.place),
            change.text or "nothing",
            change.kind,
        )
        yield replace(mutant, copy=seen[mutant.key])
        seen[mutant.key] += 1


def plain(source: str, node: Node | Site) -> str:
    """The text of a node on one line, without comments."""
    text = re.sub(r"/\*.*?\*/|\\\n|#[^\n]*", " ", source[node.start : node.stop], flags=re.S)
    return " ".join(text.split())


def _left_alone(site: Site) -> set[int]:
    """Nodes that are no values: what is assigned to, whose address is taken, and the like."""
    fixed = set()
    for node in walk(site.node):
        if node.kind == "assignment":
            fixed |= {id(node), *(id(part) for part in _path(node.parts[0]))}
        elif node.kind == "call":
            fixed.add(id(node.parts[0]))
        elif node.operator in {"&", "++", "--"} and len(node.parts) == 1:
            fixed |= {id(part) for part in _path(node.parts[0])} | {id(node)}
        elif node.kind == "postfix":
            fixed |= {id(part) for part in _path(node.parts[0])}
    if site.node.kind == "call" and site.role == "bound":  # range(start, stop, step)
        fixed |= {id(part) for part in site.node.parts[3:] for part in walk(part)}
    return fixed


def _path(node: Node) -> Iterator[Node]:
    """What names a place in memory; indices in it are values."""
    yield node
    if node.kind in {"postfix", "index", "group", "cast"} or node.operator == "*":
        yield from _path(node.parts[0])


def _variants(node: Node, site: Site, source: str, cython: bool) -> Iterator[tuple[str, str]]:
    text = plain(source, node)
    if node.kind == "binary":
        left, right = (plain(source, part) for part in node.parts)
        if node.operator in OTHER:
            yield "operator", f"{left} {OTHER[node.operator]} {right}"
        if node.operator in COMPARISONS:
            if site.role == "bound" and node is site.node:
                yield "bound", f"{left} {node.operator} {right} - 1"
        elif node.operator in {"&&", "||", "and", "or"}:
            yield "dropped", left
            yield "dropped", right
        elif node.operator in {"+", "-", "*", "/", "//", "%", "&", "|"}:
            yield "dropped", left
            if node.operator in {"+", "*"}:
                yield "dropped", right
    elif node.kind == "chain":
        first, middle, last = (plain(source, part) for part in node.parts)
        one = source[node.parts[0].stop : node.parts[1].start].strip()
        two = source[node.parts[1].stop : node.parts[2].start].strip()
        yield "operator", f"{first} {OTHER[one]} {middle} {two} {last}"
        yield "operator", f"{first} {one} {middle} {OTHER[two]} {last}"
        yield "dropped", f"{first} {one} {middle}"
        yield "dropped", f"{middle} {two} {last}"
    elif node.kind == "unary" and node.operator in {"-", "!", "not"}:
        yield "dropped", plain(source, node.parts[0])
    elif node.kind == "number":
        yield "constant", _other_number(text)
    elif node.kind == "index" and node.parts[1].kind != "number":
        array, index = (plain(source, part) for part in node.parts[:2])
        if len(node.parts) == 2:
            yield "index", f"{array}[{index} + 1]"
    elif node.kind == "ternary":
        if cython:
            yield "condition", plain(source, node.parts[0])
            yield "condition", plain(source, node.parts[2])
        else:
            yield "condition", plain(source, node.parts[1])
            yield "condition", plain(source, node.parts[2])
    elif node.kind == "call" and site.role == "bound" and node is site.node:  # range
        bounds = [plain(source, part) for part in node.parts[1:]]
        for at, bound in enumerate(bounds[:2]):
            for off in ("+ 1", "- 1"):
                moved = [*bounds[:at], f"{bound} {off}", *bounds[at + 1 :]]
                yield "bound", f"range({', '.join(moved)})"
    if site.role == "condition" and node is site.node:
        yield "condition", f"not ({text})" if cython else f"!({text})"


def _other_number(text: str) -> str:
    if re.fullmatch(r"\d+", text):
        return str(int(text) + 1)
    if re.match(r"0x|\d[\d_]*[uUlL]+$", text):
        return f"({text} + 1)"
    return f"(2 * {text})" if re.search("[1-9]", text) else text.replace("0", "1", 1)


def _of_statement(site: Site, source: str) -> Iterator[tuple[str, str]]:
    node = site.node
    if node.kind == "assignment":
        left, right = (plain(source, part) for part in node.parts)
        if node.operator != "=":
            yield "accumulate", f"{left} = {right}"
        if node.operator in OTHER:
            yield "operator", f"{left} {OTHER[node.operator]} {right}"
    is_barrier = "barrier" in plain(source, node)
    yield "barrier" if is_barrier else "statement", ""
