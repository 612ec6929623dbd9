"""A pair: a function under test, the function that it is held against, and cases as data.

    softmax = Pair(reference=softmax_numpy, candidate=softmax_c,
                   writes={"out": "NV"}, reads={"x": "NV"}, cases=[{"N": 3, "V": 7}])

Promises: arguments can be drawn for any sizes and either function be called with them; a function
named as `module:function` is imported when it is first called.
Leaves out: what is checked (`cllm.harness.checks.pair`) and on which cases
(`cllm.harness.pairs.cases`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.errors import CllmError
from cllm.plan import ALIGNMENT
from cllm.registry import resolve

Function = Callable[..., Any]
Sizes = Mapping[str, int]
Arrays = dict[str, NDArray[Any]]
Arguments = dict[str, Any]
Situation = Callable[[NDArray[np.float64], np.random.Generator, float], NDArray[np.float64]]
"""Changes what was drawn for an input; the number is how large it may get."""

EDGES = 0.2
"""The share of ids that are the lowest or the highest."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A function and its reference. Both are called by keyword, with the same arguments.

    Axes are strings of letters, one an axis, with digits before a letter for so many times it, and
    at the end for themselves: "BT3D" is (B, T, 3·D), "H3" is (H, 3). Each case gives every letter
    a size. A function that has no parameter of an output's name returns that output instead: one or
    several arrays, in the order of the table.

    Raises `CllmError` where a name stands twice, or a case lacks a letter.
    """

    reference: Function | str
    """The function that is right, in float32 and in float64; or `module:function`."""
    candidate: Function | str
    """The function under test, or `module:function`."""
    _: KW_ONLY
    cases: Sequence[Sizes]
    """Sizes by letter. More are drawn, none of a letter beyond its largest here."""
    writes: Mapping[str, str] = field(default_factory=dict)
    """Outputs that are overwritten, whatever they held: axes by name."""
    adds: Mapping[str, str] = field(default_factory=dict)
    """Outputs that are added to, or changed in place."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Float inputs, drawn from a normal distribution."""
    ids: Mapping[str, tuple[str, int | str, int | str]] = field(default_factory=dict)
    """Integer inputs: axes, the lowest value, and the end of the range (a letter for its size)."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    """Numbers or None; a letter stands for its size."""
    returns: str | Sequence[str] = ()
    """Names of what both functions return."""
    in_place: Mapping[str, str] = field(default_factory=dict)
    """Outputs for which the array of an input may be given: the input by output."""
    after: Pair | None = None
    """The forward pair that computes those `reads` which are its outputs."""
    adjust: Callable[[Arguments, np.random.Generator], None] | None = None
    """Changes drawn arguments, where not all values make sense."""
    valid: Callable[[Sizes], bool] = lambda sizes: True
    """Whether sizes make sense together."""
    largest: float = 100.0
    """How large float inputs get in the extreme cases; exp(100) leaves float32."""
    dtype: str = "float32"
    """Of float arrays; the reference computes in float64 as well."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """Of arrays that have another one; ids are int32 unless they stand here."""
    bound: float | Callable[[Sizes], float] | None = None
    """The largest error as a share of an output's largest magnitude; None: what float32 costs."""
    refuses: bool = True
    """Whether the candidate promises to refuse arrays that do not fit, and ids out of range."""
    alignment: int = 0
    """Bytes that each array's address must be a multiple of; 0: its elements' own alignment."""
    threads: str = "threads"
    """The candidate's keyword for the number of threads, if it has one."""
    large: Sizes | None = None
    """Sizes for which indices pass 2^31, of a pair that touches only the rows that ids name."""
    flops: Callable[[Sizes], float] | None = None
    """Floating-point operations of one call."""
    nbytes: Callable[[Sizes], float] | None = None
    """Bytes that one call must move; None: each array once, those that are added to twice."""
    name: str = ""
    """By default the candidate's."""

    def __post_init__(self) -> None:
        returns = (self.returns,) if isinstance(self.returns, str) else tuple(self.returns)
        object.__setattr__(self, "returns", returns)
        object.__setattr__(self, "name", self.name or _name_of(self.candidate))
        kinds = (self.writes, self.adds, self.reads, self.ids, self.scalars, returns)
        names = [name for named in kinds for name in named]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise CllmError(f"pair {self.name}: {twice[0]} stands in it twice")
        if not [*self.writes, *self.adds, *returns]:
            raise CllmError(f"pair {self.name} has no outputs: give writes, adds or returns")
        if not self.cases:
            raise CllmError(f"pair {self.name} has no cases")
        for case in (*self.cases, *([self.large] if self.large else [])):
            if lacking := sorted(self.letters - set(case)):
                raise CllmError(f"pair {self.name}: case {dict(case)} gives no size for {lacking}")
        if self.dtype == "float64" and self.bound is None:
            raise CllmError(f"pair {self.name}: float64 needs a bound; only float32 calibrates")

    @property
    def axes(self) -> dict[str, str]:
        """Of every array that is an argument; outputs first."""
        ids = {name: axes for name, (axes, _, _) in self.ids.items()}
        return {**self.writes, **self.adds, **self.reads, **ids}

    @property
    def letters(self) -> set[str]:
        """Those that have a size."""
        limits = [limit for _, *limits in self.ids.values() for limit in limits]
        named = [*self.scalars.values(), *limits]
        return {letter for letter in "".join(self.axes.values()) if letter.isalpha()} | {
            value for value in named if isinstance(value, str)
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all results."""
        return (*self.writes, *self.adds, *self.returns)

    def against(self, reference: Function | str | None) -> Pair:
        """The same, held against another function if one is given."""
        return self if reference is None else replace(self, reference=reference)

    def elements(self, sizes: Sizes) -> int:
        """Of all arrays together."""
        return sum(math.prod(shape_of(axes, sizes)) for axes in self.axes.values())

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Of an argument."""
        return np.dtype(self.dtypes.get(name, "int32" if name in self.ids else self.dtype))

    def draw(
        self, sizes: Sizes, generator: np.random.Generator, situation: Situation | None = None
    ) -> Arguments:
        """Arguments by name: outputs of random content, inputs of unit scale or in a situation."""
        arguments: Arguments = {}
        for name, axes in {**self.writes, **self.adds, **self.reads}.items():
            values = generator.standard_normal(shape_of(axes, sizes))
            if situation and name not in self.writes:
                values = situation(values, generator, self.largest)
            arguments[name] = values.astype(self.dtype_of(name))
        for name in self.ids:
            arguments[name] = self._draw_ids(name, sizes, generator)
        for name, value in self.scalars.items():
            arguments[name] = sizes[value] if isinstance(value, str) else value
        if self.adjust:
            self.adjust(arguments, generator)
        if self.after:
            forward = self.after
            given = {**forward.draw(sizes, generator), **arguments}
            found = forward.run(forward.reference, given, wide=True)
            for name in {*found} & {*self.reads}:
                arguments[name] = found[name].astype(self.dtype_of(name))
        return arguments

    def limits(self, name: str, sizes: Sizes) -> tuple[int, int]:
        """The lowest id of an argument, and the end of the range."""
        _, *ends = self.ids[name]
        low, stop = (sizes[end] if isinstance(end, str) else end for end in ends)
        return low, stop

    def run(
        self, function: Function | str, arguments: Arguments, *, wide: bool = False, **more: Any
    ) -> Arrays:
        """The outputs of a call on copies of the arguments; `wide` with all floats in float64."""
        given = {name: copy(value, wide) for name, value in self.select(arguments).items()}
        return self.call(function, given, **more)

    def call(self, function: Function | str, given: Arguments, **more: Any) -> Arrays:
        """The outputs of a call on these very arguments."""
        found = find_function(function)
        takes = _parameters(found)
        passed = {name: value for name, value in given.items() if takes is None or name in takes}
        returned = found(**passed, **more)
        present = [name for name in (*self.writes, *self.adds) if given.get(name) is not None]
        names = [*(name for name in present if name not in passed), *self.returns]
        results = (returned,) if len(names) == 1 else returned if names else ()
        if not isinstance(results, tuple | list) or len(results) != len(names):
            raise CllmError(f"{self.name} returned {type(returned).__name__} instead of {names}")
        if any(result is None for result in results):
            raise CllmError(f"{self.name} returned None instead of {' and '.join(names)}")
        arrays = [np.asarray(result) for result in results]
        given_back = {name: passed[name] for name in present if name in passed}
        return given_back | dict(zip(names, arrays, strict=True))

    def select(self, arguments: Arguments) -> Arguments:
        """The arguments that are this pair's, of those of a pair after it as well."""
        named = {*self.axes, *self.scalars}
        return {name: value for name, value in arguments.items() if name in named}

    def _draw_ids(
        self, name: str, sizes: Sizes, generator: np.random.Generator
    ) -> NDArray[np.integer]:
        """Ids, a fifth of them at the ends of their range; never all the lowest."""
        low, stop = self.limits(name, sizes)
        shape = shape_of(self.axes[name], sizes)
        drawn = generator.integers(low, stop, shape, self.dtype_of(name).type)
        ends = generator.choice([low, stop - 1], shape)
        drawn = np.where(generator.random(shape) < EDGES, ends, drawn).astype(self.dtype_of(name))
        if drawn.size and (drawn == low).all():
            drawn[(-1,) * drawn.ndim] = stop - 1
        return drawn


def shape_of(axes: str, sizes: Sizes) -> tuple[int, ...]:
    """The shape that axes such as "BT3D" have for these sizes."""
    shape: list[int] = []
    digits = ""
    for letter in axes:
        if letter.isdigit():
            digits += letter
        else:
            shape.append(int(digits or 1) * sizes[letter])
            digits = ""
    return (*shape, int(digits)) if digits else tuple(shape)


def find_function(function: Function | str) -> Function:
    """The function itself; raises `CllmError` for a name that is none's."""
    if isinstance(function, str):
        try:
            function = resolve(function)
        except LookupError as error:
            raise CllmError(f"function {function!r} {error}") from error
    if not callable(function):
        raise CllmError(f"a pair holds functions: {function!r:.80} is none")
    return function


def takes_threads(pair: Pair) -> bool:
    """Whether the candidate has a keyword for the number of threads."""
    return pair.threads in (_parameters(find_function(pair.candidate)) or ())


def copy(value: Any, wide: bool = False) -> Any:
    """A copy of an array, on a cache line of its own; `wide` in float64. Anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    dtype = np.dtype(np.float64) if wide and value.dtype.kind == "f" else value.dtype
    space = np.empty(value.size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -space.ctypes.data % ALIGNMENT
    array = space[start : start + value.size * dtype.itemsize].view(dtype).reshape(value.shape)
    array[...] = value
    return array


def _parameters(function: Function) -> Iterable[str] | None:
    """Names that a function can be called with; None where anything goes or nobody knows."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return parameters


def _name_of(function: Function | str) -> str:
    if isinstance(function, str):
        return function.rpartition(":")[2]
    return str(getattr(function, "__name__", type(function).__name__))
