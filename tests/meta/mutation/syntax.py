"""Expressions of C and of Cython, parsed as far as mutation needs it.

Promises: a tree of what stands in a source, each node with its place, so that any part can be
rewritten and all else stays as it is. Leaves out: types, declarations, and what is right of them:
the compiler refuses a rewriting that makes no sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

C_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="),
    ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
CYTHON_LEVELS = (
    ("or",), ("and",), ("<", "<=", ">", ">=", "==", "!=", "is", "in"), ("|",), ("^",), ("&",),
    ("<<", ">>"), ("+", "-"), ("*", "/", "//", "%"),
)  # fmt: skip
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "|=", "&=", "%=", "//="}
OPENING = {"(": ")", "[": "]", "{": "}"}

_C = re.compile(
    r"(?P<skip>\s+|\\\n|/\*.*?\*/|\#define \w+\([\w, ]*\)[ ]*(?=\\\n)|\#[^\n]*(?:\\\n[^\n]*)*)"
    r"|(?P<string>\"(?:\\.|[^\"])*\"|'(?:\\.|[^'])*')"
    r"|(?P<number>\.?\d(?:[eE][+-]?|[\w.])*)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)",
    re.S,
)
_CYTHON = re.compile(
    r"(?P<skip>[ \t]+|\\\n|\#[^\n]*)"
    r"|(?P<line>\n)"
    r"|(?P<string>[fbr]?\"\"\".*?\"\"\"|[fbr]?\"(?:\\.|[^\"\n])*\"|[fbr]?'(?:\\.|[^'\n])*')"
    r"|(?P<number>\.?\d(?:[eE][+-]?|[\w.])*)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>//=|//|\*\*|<<|>>|<=|>=|==|!=|[-+*/%&|^]=|.)",
    re.S,
)


_TYPE = re.compile(
    "void|char|short|int|long|unsigned|float|double|const|static|struct|[iu]?vec|vec_in_memory"
    r"|Ahead|Barrier|Columns|Finish|Kernels|Lattice[A-Z]\w+|Turn|\w+_t|__\w*m\w*\d+|atomic_int"
)


def is_type(name: str) -> bool:
    """Whether a name of C opens a type."""
    return bool(_TYPE.fullmatch(name))


@dataclass(frozen=True)
class Token:
    """A piece of a source: `name`, `number`, `string`, `mark` or, of Cython, `line`."""

    kind: str
    text: str
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.text)


@dataclass
class Node:
    """An expression: where it stands and what it is made of."""

    kind: str
    """What it is: atom, number, group, unary, cast, postfix, index, call, binary, ternary,
    assignment, or chain (a < b < c)."""
    start: int
    stop: int
    parts: list[Node] = field(default_factory=list)
    operator: str = ""


def tokens(source: str, cython: bool) -> list[Token]:
    """The tokens of a source, without comments, preprocessor lines and blanks.

    The body of a C macro of several lines is code like any other. Of Cython, a `line` ends a
    logical line: none stands inside brackets.
    """
    found = []
    depth = 0
    for match in (_CYTHON if cython else _C).finditer(source):
        kind = str(match.lastgroup)
        if kind == "skip" or (kind == "line" and depth):
            continue
        token = Token(kind, match[0], match.start())
        if kind == "mark":
            depth += (token.text in OPENING) - (token.text in OPENING.values())
        found.append(token)
    return found


class Expression:
    """A parser of the expression that starts at one of some tokens."""

    def __init__(self, found: list[Token], at: int, cython: bool) -> None:
        self.tokens = found
        self.at = at
        self._cython = cython
        self._levels = CYTHON_LEVELS if cython else C_LEVELS

    def peek(self, ahead: int = 0) -> str:
        """The text of a token to come; empty at the end and for the end of a line."""
        at = self.at + ahead
        if at >= len(self.tokens) or self.tokens[at].kind == "line":
            return ""
        return self.tokens[at].text

    def parse(self) -> Node:
        """An expression, assignments included."""
        left = self.ternary()
        if self.peek() not in ASSIGNMENTS:
            return left
        operator = self._next()
        right = self.parse()
        parts = [left, right]
        return Node("assignment", left.start, right.stop, parts, operator.text)

    def ternary(self) -> Node:
        first = self._binary(0)
        if self._cython and self.peek() == "if":
            self._next()
            condition = self._binary(0)
            self._expect("else")
        elif not self._cython and self.peek() == "?":
            self._next()
            condition = self.ternary()
            self._expect(":")
        else:
            return first
        last = self.ternary()
        return Node("ternary", first.start, last.stop, [first, condition, last])

    def _binary(self, level: int) -> Node:
        if level == len(self._levels):
            return self._unary()
        if self._cython and level == 2 and self.peek() == "not":
            operator = self._next()
            operand = self._binary(level)
            return Node("unary", operator.start, operand.stop, [operand], "not")
        left = self._binary(level + 1)
        while self.peek() in self._levels[level]:
            operator = self._next()
            right = self._binary(level + 1)
            parts = [left, right]
            node = Node("binary", left.start, right.stop, parts, operator.text)
            chained = left.kind in {"binary", "chain"} and left.operator in self._levels[level]
            if self._cython and level == 2 and chained:  # a < b < c
                node.kind, node.parts = "chain", [*left.parts, right]
            left = node
        return left

    def _unary(self) -> Node:
        text = self.peek()
        start = self.tokens[self.at].start
        if text in {"-", "+", "!", "~", "*", "&", "++", "--", "sizeof"}:
            self._next()
            operand = self._unary()
            return Node("unary", start, operand.stop, [operand], text)
        cast = ">" if self._cython and text == "<" else ")" if self._casts() else ""
        if not cast:
            return self._postfix()
        while self._next().text != cast:
            pass
        operand = self._postfix() if self.peek() == "{" else self._unary()
        return Node("cast", start, operand.stop, [operand])

    def _casts(self) -> bool:
        """Whether a bracket of C holds a type."""
        return not self._cython and self.peek() == "(" and is_type(self.peek(1))

    def _postfix(self) -> Node:
        token = self._next()
        if token.text == "{":  # an initializer stays as it is
            depth = 1
            while depth:
                text = self._next().text
                depth += (text == "{") - (text == "}")
            node = Node("atom", token.start, self.tokens[self.at - 1].stop)
        elif token.text in OPENING:
            parts = self._members(OPENING[token.text])
            node = Node("group", token.start, self.tokens[self.at - 1].stop, parts)
        else:
            kind = "number" if token.kind == "number" else "atom"
            node = Node(kind, token.start, token.stop)
        while True:
            text = self.peek()
            if text in {"(", "["}:
                self._next()
                kind = "call" if text == "(" else "index"
                parts = [node, *self._members(OPENING[text])]
                node = Node(kind, node.start, self.tokens[self.at - 1].stop, parts)
            elif text in {".", "->"}:
                self._next()
                node = Node("postfix", node.start, self._next().stop, [node])
            elif text in {"++", "--"}:
                node = Node("postfix", node.start, self._next().stop, [node], text)
            else:
                return node

    def _members(self, closing: str) -> list[Node]:
        """What stands between brackets, separated by commas; their closing one is passed too."""
        members = []
        while self.peek() != closing:
            if self.peek() in {",", ":"}:
                self._next()
            else:
                members.append(self.parse())
        self._next()
        return members

    def _next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def _expect(self, text: str) -> None:
        if self._next().text != text:
            raise ValueError(f"expected {text} before {self.tokens[self.at - 1]}")


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for part in node.parts:
        yield from walk(part)
