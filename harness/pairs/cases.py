"""Cases of a pair, and how its results are held against the reference's.

Promises: a case draws the same arguments wherever it is run; sizes that nobody chose are drawn by
hypothesis from 1 to the largest of each letter, and a size that fails is made as small as it goes.
Tolerances are calibrated on the case itself (`cllm.harness.tolerance`), or the pair's own bound.
Leaves out: the checks (`cllm.harness.checks.pair`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cllm.harness.configurations import OPTIONS, TRIES
from cllm.harness.pairs.pair import Arguments, Arrays, Pair, Situation, Sizes
from cllm.harness.tolerance import FORWARD, GRADIENTS, Comparison, compare, tensor_tolerance
from cllm.harness.verdict import Inconclusive

NEIGHBORS = 3
"""Arguments moved a little, on which the reference is calibrated as well."""

FEW = 2**16
"""Elements of a case; where there are more, luck evens out and one neighbor is enough."""

MEDIUM = 2**17
"""Elements of cases that are run many times."""

SMALLEST_NORMAL = 2.0**-126
"""Of float32. A candidate may take what is below for zero."""

Numbers = NDArray[np.float64]


def large(values: Numbers, generator: np.random.Generator, largest: float) -> Numbers:
    """Of both signs, both ends among them."""
    drawn = generator.uniform(-largest, largest, values.shape)
    drawn.reshape(-1)[:1], drawn.reshape(-1)[-1:] = largest, -largest
    return drawn


def equal(values: Numbers, generator: np.random.Generator, largest: float) -> Numbers:
    """One number of few bits: sums of it are exact in whatever order they are taken."""
    return np.full_like(values, min(largest, generator.integers(1, 13) / 4))


def one_hot(values: Numbers, generator: np.random.Generator, largest: float) -> Numbers:
    """Rows of zeros with one large number."""
    hot = np.zeros_like(values)
    if values.ndim:
        place = generator.integers(0, values.shape[-1], (*values.shape[:-1], 1))
        np.put_along_axis(hot, place, largest, -1)
    return hot


def zero(values: Numbers, generator: np.random.Generator, largest: float) -> Numbers:
    """What masks hold."""
    return np.zeros_like(values)


def denormal(values: Numbers, generator: np.random.Generator, largest: float) -> Numbers:
    """Below the smallest normal float32."""
    return values * 1e-40


SITUATIONS: dict[str, Situation | None] = {
    "": None,
    "large values": large,
    "equal values": equal,
    "one-hot values": one_hot,
    "zeros": zero,
    "denormal values": denormal,
}
"""What the float inputs are, by what it is called in the evidence."""


@dataclass(frozen=True, eq=False)
class PairCase:
    """Arguments of a pair that are not drawn yet."""

    sizes: Sizes
    seed: int
    draw: int = 0
    situation: str = ""

    def arguments(self, pair: Pair) -> Arguments:
        """Drawn afresh, the same every time."""
        return pair.draw(self.sizes, self._generator(0), SITUATIONS[self.situation])

    def neighbors(self, arguments: Arguments, count: int) -> list[Arguments]:
        """The same with floats moved by some 2^-20 of themselves."""
        generator = self._generator(1)
        return [
            {
                name: (value * (1 + 2.0**-20 * generator.normal(0.0, 1.0, value.shape))).astype(
                    value.dtype
                )
                if _is_float(value)
                else value
                for name, value in arguments.items()
            }
            for _ in range(count)
        ]

    def _generator(self, which: int) -> np.random.Generator:
        place = [*SITUATIONS].index(self.situation)
        return np.random.default_rng(
            [self.seed, self.draw, place, which, *map(int, self.sizes.values())]
        )

    def __str__(self) -> str:
        sizes = " ".join(f"{letter} {size}" for letter, size in self.sizes.items())
        with_ = f"{self.situation}, " if self.situation else ""
        return f"{sizes}, {with_}seed {self.seed} draw {self.draw}".lstrip(", ")


@dataclass(frozen=True, eq=False)
class Expected:
    """What the reference gives, and by how much a candidate may be off."""

    exact: Mapping[str, NDArray[Any]]
    """In float64."""
    tolerances: Mapping[str, float]

    def hold(self, got: Arrays, where: str = "") -> list[Comparison]:
        """Every output of `got` against it."""
        return [
            compare(f"{name}{where}", got[name], exact, self.tolerances[name])
            for name, exact in self.exact.items()
        ]


def given_cases(pair: Pair, seed: int, draw: int = 0) -> list[PairCase]:
    """Those of the pair."""
    letters = pair.letters
    sizes = [{letter: n for letter, n in case.items() if letter in letters} for case in pair.cases]
    return [PairCase(one, seed, draw) for i, one in enumerate(sizes) if one not in sizes[:i]]


def small_cases(pair: Pair, cases: list[PairCase], elements: int) -> list[PairCase]:
    """Those with at most so many elements; where there are none, the smallest."""
    sizes = [pair.elements(case.sizes) for case in cases]
    room = max(elements, min(sizes))
    return [case for case, size in zip(cases, sizes, strict=True) if size <= room]


def drawn_cases(pair: Pair, seed: int, count: int) -> list[PairCase]:
    """The least sizes and others, none with more elements than the largest of the pair."""
    bounds = {
        letter: (min(1, *sizes), max(sizes))
        for letter in sorted(pair.letters)
        for sizes in [[1, *(case[letter] for case in pair.cases)]]
    }
    room = max(pair.elements(case) for case in pair.cases)
    drawn: dict[tuple[int, ...], None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(OPTIONS, max_examples=2 * count + 8)
    @hypothesis.given(st.tuples(*(_between(*ends) for ends in bounds.values())))
    def collect(sizes: tuple[int, ...]) -> None:
        named = dict(zip(bounds, sizes, strict=True))
        if len(drawn) < count and pair.valid(named) and pair.elements(named) <= room:
            drawn[sizes] = None

    if bounds:
        collect()
    return [PairCase(dict(zip(bounds, sizes, strict=True)), seed) for sizes in drawn]


def smallest_failing(pair: Pair, case: PairCase, fails: Callable[[PairCase], bool]) -> PairCase:
    """A case that `fails`, as the one given does, and of which no size can be any smaller.

    Where `configurations.TRIES` do not suffice it is the smallest that was found.
    """
    left = TRIES
    for letter in [*case.sizes] * 2:
        low = 0  # sizes below pass, or make no sense
        while low + 1 < case.sizes[letter] and left:
            left -= 1
            size = 1 if low == 0 else (low + case.sizes[letter]) // 2
            tried = replace(case, sizes={**case.sizes, letter: size})
            if pair.valid(tried.sizes) and fails(tried):
                case = tried
            else:
                low = size
    return case


def expect(pair: Pair, case: PairCase, arguments: Arguments | None = None) -> Expected | None:
    """What is right for these arguments (the case's own, unless others are given).

    None where the reference itself is not finite, in float32 or in float64. Raises `Inconclusive`
    where it writes nothing.
    """
    if arguments is None:
        arguments = case.arguments(pair)
    exact = pair.run(pair.reference, arguments, wide=True)
    for name in pair.writes:
        given = arguments.get(name)
        if given is not None and given.dtype.kind == "f" and np.array_equal(exact[name], given):
            raise Inconclusive(f"the reference of {pair.name} leaves {name} as it was")
    errors = _errors(pair, arguments, exact)
    if pair.bound is not None:
        bound = pair.bound(case.sizes) if callable(pair.bound) else pair.bound
        tolerances = {name: bound * _largest(tensor) for name, tensor in exact.items()}
    else:
        few = sum(value.size for value in arguments.values() if _is_float(value)) <= FEW
        for near in case.neighbors(arguments, NEIGHBORS if few else 1):
            found = _errors(pair, near, pair.run(pair.reference, near, wide=True))
            errors = {name: max(errors[name], found[name]) for name in errors}
        backward = bool(pair.after or pair.adds)
        largest = max(map(_largest, exact.values())) if backward else 0.0
        factor = GRADIENTS if backward else FORWARD
        tolerances = {
            name: 0.0
            if tensor.dtype.kind in "iub"
            else SMALLEST_NORMAL
            + tensor_tolerance(tensor, np.asarray(errors[name]), factor, largest)
            for name, tensor in exact.items()
        }
    finite = all(np.isfinite(tensor).all() for tensor in exact.values())
    if not finite or not all(map(np.isfinite, tolerances.values())):
        return None
    return Expected(exact, tolerances)


def _errors(pair: Pair, arguments: Arguments, exact: Arrays) -> dict[str, float]:
    """The largest error of the reference in the pair's own dtype; not finite where it is not."""
    rounded = pair.run(pair.reference, arguments)
    return {name: _largest(rounded[name] - tensor) for name, tensor in exact.items()}


def _largest(tensor: NDArray[Any]) -> float:
    return float(np.abs(tensor).max(initial=0.0))


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _between(low: int, high: int) -> st.SearchStrategy[int]:
    """Sizes, of bits: see `cllm.harness.configurations`."""
    span = high - low + 1
    return st.tuples(*[st.booleans()] * span.bit_length()).map(
        lambda bits: low + sum(bit << place for place, bit in enumerate(bits)) % span
    )
