"""The statements of function bodies: where expressions stand, and what each is there for.

Promises: all bodies of the C kernels, and of Cython those that run without Python: functions
declared `nogil` and blocks `with nogil`. Leaves out: declarations of types, tables and interfaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mutation.syntax import OPENING, Expression, Node, Token, is_type, tokens


@dataclass(frozen=True)
class Site:
    """An expression in a function's body."""

    role: str
    """statement, value, condition or bound (of a loop)."""
    function: str
    node: Node
    start: int
    """Of the whole statement, where it is one."""
    stop: int
    macro: bool = False
    """Whether it stands in a C macro, all of whose lines end in a backslash."""


def sites(source: str, cython: bool, active: frozenset[int] | None = None) -> Iterator[Site]:
    """The expressions of a source; of `active` lines alone, where those are given."""
    found = tokens(source, cython)
    if active is not None:
        found = [t for t in found if source.count("\n", 0, t.start) + 1 in active]
    return _cython_sites(source, found) if cython else _CBodies(source, found).sites()


class _CBodies:
    """A parser of the statements in C function bodies."""

    def __init__(self, source: str, found: list[Token]) -> None:
        self.source = source
        self.tokens = found
        self.at = 0
        self.function = ""
        self.out: list[Site] = []

    def sites(self) -> Iterator[Site]:
        depth = 0
        while self.at < len(self.tokens):
            text = self._text()
            if text == "{" and depth == 0 and self._text(-1) == ")":
                self.function = self._name_before()
                self.at += 1
                self._block()
                continue
            depth += (text in OPENING) - (text in OPENING.values())
            self.at += 1
        return iter(self.out)

    def _text(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _name_before(self) -> str:
        """The name before the brackets that end here."""
        depth, at = 0, self.at - 1
        while True:
            depth += (self.tokens[at].text == ")") - (self.tokens[at].text == "(")
            at -= 1
            if depth == 0:
                return self.tokens[at].text

    def _block(self) -> None:
        while self._text() != "}":
            self._statement()
        self.at += 1

    def _expression(self, role: str, start: int | None = None) -> Node:
        parser = Expression(self.tokens, self.at, False)
        node = parser.parse()
        self.at = parser.at
        if self._text() not in {";", ")", ","}:
            raise ValueError(f"not understood: {self.source[node.start : node.stop + 40]!r}")
        if role:
            begin = node.start if start is None else start
            stop = self.tokens[self.at].stop if role == "statement" else node.stop
            before = self.source[: node.start].split("\n")[-1]
            line = before + self.source[node.start :].split("\n")[0]
            self.out.append(Site(role, self.function, node, begin, stop, line.endswith("\\")))
        return node

    def _statement(self) -> None:
        text = self._text()
        if text == "{":
            self.at += 1
            self._block()
        elif text in {"if", "while", "switch"}:
            self.at += 2
            self._expression("condition")
            self.at += 1
            self._statement()
        elif text == "for":
            self._for()
        elif text in {"else", ";"}:
            self.at += 1
        elif text in {"case", "default"}:
            while self._text() != ":":
                self.at += 1
            self.at += 1
        elif text in {"break", "continue"}:
            self.at += 2
        elif text == "return":
            self.at += 1
            if self._text() != ";":
                self._expression("value")
            self.at += 1
        elif is_type(text):
            self._declaration()
        elif (
            text.isupper() and len(text) > 1 and self._text(1) == "("
        ):  # a macro that stands for statements
            while self._text() != ")":
                self.at += 1
            self.at += 1
        else:
            self._expression("statement")
            self.at += 1

    def _for(self) -> None:
        self.at += 2
        if is_type(self._text()):
            self._declaration()
        else:
            if self._text() != ";":
                self._expression("")
            self.at += 1
        if self._text() != ";":
            self._expression("bound")
        self.at += 1
        while self._text() != ")":
            self._expression("")
            self.at += self._text() == ","
        self.at += 1
        self._statement()

    def _declaration(self) -> None:
        """Values of what is declared here, up to the semicolon."""
        depth = 0
        while True:
            text = self._text()
            self.at += 1
            if text == "=" and depth == 0:
                self._expression("value")
            elif text == ";" and depth == 0:
                return
            else:
                depth += (text in OPENING) - (text in OPENING.values())


_FUNCTION = re.compile(r"(?:cdef|def|cpdef)\b.*?\b(\w+)\(", re.S)


def _cython_sites(source: str, found: list[Token]) -> Iterator[Site]:
    """Logical lines of functions and blocks without the interpreter's lock."""
    function, inside, without = "", -1, -1  # indentations of the function and of what is nogil
    for line in _logical_lines(found):
        first = line[0]
        indent = first.start - source.rfind("\n", 0, first.start) - 1
        text = source[first.start : line[-1].stop]
        if indent <= without:
            without = -1
        if text.endswith(":") and (match := _FUNCTION.match(text)):
            function, inside = match[1], indent
            without = indent if re.search(r"\bnogil\s*:$", text) else -1
            continue
        if re.match(r"with nogil\b", text) and inside >= 0:
            without = indent if without < 0 else without
            continue
        if without >= 0 and indent > without:
            yield from _line_sites(line, function)


def _logical_lines(found: list[Token]) -> Iterator[list[Token]]:
    line: list[Token] = []
    for token in found:
        if token.kind == "line":
            if line:
                yield line
            line = []
        else:
            line.append(token)
    if line:
        yield line


def _line_sites(line: list[Token], function: str) -> Iterator[Site]:
    start, stop = line[0].start, line[-1].stop

    def at(index: int, role: str) -> tuple[Site, int]:
        parser = Expression(line, index, True)
        node = parser.parse()
        whole = role == "statement"
        begin, end = (start, stop) if whole else (node.start, node.stop)
        return Site(role, function, node, begin, end), parser.at

    first = line[0].text
    if first in {"if", "elif", "while"}:
        yield at(1, "condition")[0]
    elif first == "return" and len(line) > 1:
        yield at(1, "value")[0]
    elif first == "for":
        yield at(next(i for i, t in enumerate(line) if t.text == "in") + 1, "bound")[0]
    elif first == "cdef":
        depth = 0
        index = 0
        while index < len(line):
            text = line[index].text
            depth += (text in OPENING) - (text in OPENING.values())
            index += 1
            if text == "=" and depth == 0:
                site, index = at(index, "value")
                yield site
    elif line[0].kind == "string" or first in {
        "else",
        "break",
        "continue",
        "return",
        "pass",
        "with",
    }:
        return
    elif any(token.text == "," for token in _outer(line)):  # a, b = x, y
        index = next(i for i, t in enumerate(line) if t.text == "=") + 1
        while index < len(line):
            site, index = at(index, "value")
            index += 1
            yield site
    else:
        yield at(0, "statement")[0]


def _outer(line: list[Token]) -> Iterator[Token]:
    """The tokens outside of brackets."""
    depth = 0
    for token in line:
        depth += token.text in OPENING
        if depth == 0:
            yield token
        depth -= token.text in OPENING.values()
