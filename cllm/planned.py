"""An implementation over the buffers of a plan: planned, handed in, refused out of order.

Promises: it owns no memory; what it does not plan for it refuses to do.
Leaves out: what is computed (`cllm.decoder`, `cllm.model`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cllm.check import check_size
from cllm.config import Config
from cllm.errors import CllmError
from cllm.lattice.features import lattice_positions
from cllm.lattice.parts import SHARED
from cllm.layout import tensor_views
from cllm.plan import (
    Buffer,
    Buffers,
    Operation,
    Plan,
    Role,
    check_operations,
    check_threads,
)
from cllm.positions import sinusoidal_positions


class Planned(ABC):
    """What every part of the interface stands on; a subclass gives the underscored methods."""

    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    """What the implementation computes in."""
    parts: ClassVar[frozenset[Operation]] = frozenset(Operation)
    """What the implementation has; checks for the rest say "not applicable"."""
    lattice_parts: ClassVar[frozenset[str]] = SHARED
    """Parts of the lattice that the implementation has; a plan with another one is refused."""
    parallel: ClassVar[bool] = False
    """Whether the implementation uses the planned threads."""
    allocates_in_step: ClassVar[bool] = True
    """Whether a step may ask for memory; one that claims not to is held to it."""

    @classmethod
    def plan(
        cls,
        config: Config,
        batch_size: int,
        seq_len: int,
        *,
        operations: Iterable[str] = (Operation.TRAINING,),
        threads: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> Plan:
        """The buffers needed for batches of up to (B,T); `threads` 0 means every core."""
        wanted = check_operations(operations)
        if not wanted <= cls.parts:
            raise CllmError(f"{cls.__name__} does not offer {sorted(wanted - cls.parts)}")
        if missing := {*config.lattice.parts} - cls.lattice_parts:
            raise CllmError(f"{cls.__name__} has no lattice {', '.join(sorted(missing))}")
        check_size("batch_size", batch_size)
        check_size("seq_len", seq_len)
        threads = check_threads(threads)
        try:
            number = np.dtype(dtype)
        except TypeError:
            raise CllmError(f"dtype must be one of {cls.dtypes}: got {dtype!r}") from None
        if number.name not in cls.dtypes:
            raise CllmError(f"dtype must be one of {cls.dtypes}: got {number.name}")
        shape = Plan(config, batch_size, seq_len, wanted, threads, number, {})
        buffers: dict[str, Buffer] = {}
        for buffer in (*_shared_buffers(shape), *cls._buffers(shape)):
            if buffer.name in buffers:
                raise ValueError(f"buffer {buffer.name} is planned twice")
            buffers[buffer.name] = buffer
        return replace(shape, buffers=buffers)

    @classmethod
    def create(
        cls,
        config: Config,
        batch_size: int,
        seq_len: int,
        parameters: NDArray[Any],
        *,
        operations: Iterable[str] = (Operation.TRAINING,),
        threads: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> Self:
        """Plan, allocate, load the parameters (P,) and prepare: a model ready to run."""
        plan = cls.plan(
            config, batch_size, seq_len, operations=operations, threads=threads, dtype=dtype
        )
        model = cls(plan, plan.allocate())
        model.load(parameters)
        return model

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        plan.check(buffers)
        self.config = plan.config
        self._plan = plan
        self._buffers_given = dict(buffers)  # the caller may go on to change theirs
        self._views: dict[tuple[int, int], dict[str, NDArray[Any]]] = {}
        self._shape = (plan.batch_size, plan.seq_len)
        self._divisor = 1.0
        self._done = "nothing"
        self._prepared = False
        self._context_length = 0
        self._tensors = {
            name: tensor_views(plan.config, buffers[name])
            for name, buffer in plan.buffers.items()
            if buffer.role in (Role.PARAMETER, Role.GRADIENT, Role.OPTIMIZER_STATE)
        }

    @property
    def planned(self) -> Plan:
        """The plan whose buffers this model works in."""
        return self._plan

    @property
    def parameters(self) -> NDArray[Any]:
        """The parameters (P,) themselves; call `prepare` after writing to them."""
        return self._buffers_given["parameters"]

    @property
    def gradients(self) -> NDArray[Any]:
        """The gradients (P,) themselves."""
        self._require_planned(Operation.TRAINING)
        return self._buffers_given["gradients"]

    @property
    def moments(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Adam's first and second moment (P,) themselves."""
        self._require_planned(Operation.TRAINING)
        return self._buffers_given["first_moment"], self._buffers_given["second_moment"]

    def load(self, parameters: NDArray[Any]) -> None:
        """Copy the parameters (P,) in, rounded to the model's dtype, and `prepare`."""
        if not isinstance(parameters, np.ndarray) or parameters.shape != self.parameters.shape:
            shape = getattr(parameters, "shape", type(parameters).__name__)
            raise CllmError(
                f"parameters must be an array of shape {self.parameters.shape}: got {shape}"
            )
        if not np.can_cast(parameters.dtype, self.parameters.dtype, "same_kind"):
            raise CllmError(
                f"parameters must be numbers that {self.parameters.dtype} can hold: "
                f"got {parameters.dtype}"
            )
        self.parameters[...] = parameters
        self.prepare()

    def prepare(self) -> None:
        """Rebuild the derived buffers; required after any write to the parameters from outside."""
        positions = self._buffers_given["positions"]
        rows = lattice_positions if self.config.lattice.positions else sinusoidal_positions
        positions[...] = rows(*positions.shape)
        self._prepare()
        self._done = "nothing"
        self._context_length = 0
        self._prepared = True

    def activations(self) -> dict[str, NDArray[Any]]:
        """Every buffer by name, in the shapes (B',T') of the last `forward`."""
        views = self._views.get(self._shape)
        if views is None:
            plan = self._plan
            smaller = self.plan(
                plan.config,
                *self._shape,
                operations=plan.operations,
                threads=plan.threads,
                dtype=plan.dtype,
            )
            views = plan.views(self._buffers_given, smaller)
            self._views = {self._shape: views}
        return views

    def tensors(self, name: str = "parameters") -> dict[str, NDArray[Any]]:
        """Views by tensor of `parameters`, `gradients`, `first_moment` or `second_moment`."""
        return self._tensors[name]

    def _require(self, operation: Operation, after: str | None = None) -> None:
        self._require_planned(operation)
        if not self._prepared:
            raise RuntimeError("load() or prepare() must come first")
        if after is not None and self._done != after:
            raise RuntimeError(f"{after}() must come directly before: the last was {self._done}")

    def _require_planned(self, operation: Operation) -> None:
        if operation not in self._plan.operations:
            raise RuntimeError(f"{operation} is not in the plan: {sorted(self._plan.operations)}")

    def _check_ids(self, name: str, ids: NDArray[np.int32], lowest: int) -> None:
        if ids.dtype != np.int32:
            raise CllmError(f"{name} must be int32: got {ids.dtype}")
        if np.count_nonzero((ids < lowest) | (ids >= self.config.vocab_size)):  # faster than any()
            for i, batch in enumerate(ids if ids.ndim == 3 else ()):
                self._check_ids(f"{name}[{i}]", batch, lowest)  # which of them it is
            raise CllmError(
                f"{name} must lie in {lowest}..{self.config.vocab_size - 1}: "
                f"got {ids.min()}..{ids.max()}"
            )

    @classmethod
    @abstractmethod
    def _buffers(cls, shape: Plan) -> Iterable[Buffer]:
        """The implementation's own activations, scratch and derived buffers."""

    def _prepare(self) -> None:
        """Rebuild the implementation's own derived buffers."""
        return


def _shared_buffers(shape: Plan) -> Iterator[Buffer]:
    """What every implementation needs in the same form."""
    config, dtype, ids = shape.config, shape.dtype, np.dtype(np.int32)
    vector = (config.num_parameters,)
    yield Buffer("parameters", vector, dtype, Role.PARAMETER)
    yield Buffer("positions", (shape.seq_len, config.embed_dim), dtype, Role.DERIVED)
    if Operation.EVALUATION in shape.operations:
        batch = (shape.batch_size, shape.seq_len)
        yield Buffer("tokens", batch, ids, Role.ACTIVATION)
        yield Buffer("targets", batch, ids, Role.ACTIVATION)
        if config.lattice.loss:
            wide = np.result_type(dtype, np.float64)
            yield Buffer("lattice_terms", (4,), wide, Role.ACTIVATION)
    if Operation.TRAINING in shape.operations:
        yield Buffer("gradients", vector, dtype, Role.GRADIENT)
        yield Buffer("first_moment", vector, dtype, Role.OPTIMIZER_STATE)
        yield Buffer("second_moment", vector, dtype, Role.OPTIMIZER_STATE)
    if Operation.GENERATION in shape.operations:
        cache = (shape.seq_len, config.embed_dim)
        yield Buffer("window", (shape.seq_len,), ids, Role.ACTIVATION)
        yield Buffer("next_logits", (config.vocab_size,), dtype, Role.ACTIVATION)
        for layer in range(config.num_layers):
            yield Buffer(f"layer{layer}.keys", cache, dtype, Role.ACTIVATION)
            yield Buffer(f"layer{layer}.values", cache, dtype, Role.ACTIVATION)
