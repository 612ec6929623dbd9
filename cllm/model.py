"""The interface that every implementation offers, and the refusal of bad input before any work.

Promises: a subclass sees only token ids in 0..V-1, shapes that its plan allows, and calls in an
order that makes sense; it owns no memory. A subclass gives the underscored methods.
Leaves out: the network (`cllm.reference`, `cllm.optimized`), training and text.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cllm.config import Config, check_size
from cllm.errors import CllmError
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

IGNORED = -1
"""A target that is not counted."""

ACTIVATIONS = ("x0", "ln1", "qkv", "attn", "x_mid", "ln2", "ff", "x_out", "logits")
"""Common names, compared after `forward`; all but the first and last as `layer0.ln1`."""


@dataclass(frozen=True)
class Update:
    """One step of Adam (Kingma & Ba 2014) with decoupled weight decay (Loshchilov & Hutter 2017).

    Raises `CllmError` for values outside their range.
    """

    step: int
    """Counts from 1; the moments are bias-corrected by it."""
    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    """Added outside the square root."""
    weight_decay: float = 0.0
    """Every parameter loses learning_rate · weight_decay of itself."""
    clip: float | None = None
    """Largest global norm of the gradients; larger ones are scaled down to it. None: off."""

    def __post_init__(self) -> None:
        check_size("step", self.step)
        check_number("learning_rate", self.learning_rate, 0.0, math.inf)
        check_number("beta1", self.beta1, 0.0, 1.0)
        check_number("beta2", self.beta2, 0.0, 1.0)
        check_number("epsilon", self.epsilon, 0.0, math.inf, open_below=True)
        check_number("weight_decay", self.weight_decay, 0.0, math.inf)
        if self.clip is not None:
            check_number("clip", self.clip, 0.0, math.inf, open_below=True)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the logits; raises `CllmError` for values out of range.

    Tokens are ordered by falling logit, equal ones by rising id. The `top_k` first are kept, of
    these the fewest whose probability reaches `top_p` (Holtzman et al. 2019).
    """

    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable token."""
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0.0, math.inf)
        if self.top_k is not None:
            check_size("top_k", self.top_k)
        if self.top_p != 1.0:
            check_number("top_p", self.top_p, 0.0, 1.0, open_below=True)


class Model(ABC):
    """The Crystalline Lattice Language Model over buffers that are handed in.

    The order of calls is forward, loss, backward, update; `step` is all of it in one. Every
    method raises `CllmError` for input out of range and `RuntimeError` for a call out of order.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    """What the implementation computes in."""
    parts: ClassVar[frozenset[Operation]] = frozenset(Operation)
    """What the implementation has; checks for the rest say "not applicable"."""

    # -- planning ----------------------------------------------------------------------------

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
        check_size("batch_size", batch_size)
        check_size("seq_len", seq_len)
        threads = check_threads(threads)
        if np.dtype(dtype).name not in cls.dtypes:
            raise CllmError(f"dtype must be one of {cls.dtypes}: got {np.dtype(dtype).name}")
        shape = Plan(config, batch_size, seq_len, wanted, threads, np.dtype(dtype), {})
        buffers: dict[str, Buffer] = {}
        for buffer in (*_shared_buffers(shape), *cls._buffers(shape)):
            if buffer.name in buffers:
                raise ValueError(f"buffer {buffer.name} is planned twice")
            buffers[buffer.name] = buffer
        return Plan(config, batch_size, seq_len, wanted, threads, np.dtype(dtype), buffers)

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
    ) -> Model:
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
        self._buffers_given = buffers
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
        return self._buffers_given["gradients"]

    @property
    def moments(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Adam's first and second moment (P,) themselves."""
        return self._buffers_given["first_moment"], self._buffers_given["second_moment"]

    def load(self, parameters: NDArray[Any]) -> None:
        """Copy the parameters (P,) in, rounded to the model's dtype, and `prepare`."""
        if parameters.shape != self.parameters.shape:
            raise CllmError(
                f"parameters must have shape {self.parameters.shape}: got {parameters.shape}"
            )
        self.parameters[...] = parameters
        self.prepare()

    def prepare(self) -> None:
        """Rebuild the derived buffers; required after any write to the parameters from outside."""
        positions = self._buffers_given["positions"]
        positions[...] = sinusoidal_positions(*positions.shape)
        self._prepare()
        self._done = "nothing"
        self._context_length = 0
        self._prepared = True

    # -- training ----------------------------------------------------------------------------

    def forward(self, tokens: NDArray[np.int32]) -> NDArray[Any]:
        """Logits (B',T',V) of tokens (B',T') int32; a view that the next call overwrites."""
        self._require(Operation.EVALUATION)
        self._accept_tokens(tokens)
        self._forward(*self._shape)
        self._done = "forward"
        return self.activations()["logits"]

    def loss(self, targets: NDArray[np.int32], divisor: float | None = None) -> float:
        """Sum over counted targets (B',T') int32 of -log softmax(logits)[target] / divisor.

        After `forward` of the same batch. A target of -1 is not counted; `divisor` defaults to
        the number of counted targets. None counted: 0. (A complex number in complex128.)
        """
        self._require(Operation.EVALUATION, after="forward")
        self._accept_targets(targets, divisor)
        loss: float = self._loss(*self._shape, self._divisor)
        self._done = "loss"
        return loss

    def backward(self) -> None:
        """Add the gradient of the last `loss` to the gradients; consumes the activations."""
        self._require(Operation.TRAINING, after="loss")
        self._done = "nothing"
        self._backward(*self._shape, self._divisor)

    def zero_gradients(self) -> None:
        """Set all gradients to zero."""
        self._require(Operation.TRAINING)
        self.gradients.fill(0)

    def update(self, update: Update) -> None:
        """Move the parameters by the gradients; the derived buffers follow."""
        self._require(Operation.TRAINING)
        self._done = "nothing"
        self._context_length = 0
        self._update(update)

    def step(
        self,
        tokens: NDArray[np.int32],
        targets: NDArray[np.int32],
        update: Update,
        divisor: float | None = None,
    ) -> float:
        """One whole training step; returns the loss before it.

        What the gradients held before is ignored; what they hold afterwards is unspecified.
        """
        self._require(Operation.TRAINING)
        self._accept_tokens(tokens)
        self._accept_targets(targets, divisor)
        self._done = "nothing"
        self._context_length = 0
        return self._step(*self._shape, self._divisor, update)

    def steps(
        self, tokens: NDArray[np.int32], targets: NDArray[np.int32], updates: Sequence[Update]
    ) -> NDArray[np.float64]:
        """k whole steps over tokens and targets (k,B',T'); returns their losses (k,) float64."""
        if not len(tokens) == len(targets) == len(updates):
            raise CllmError(
                "steps needs as many batches of tokens and targets as updates: "
                f"got {len(tokens)}, {len(targets)} and {len(updates)}"
            )
        return np.array([self.step(*k) for k in zip(tokens, targets, updates, strict=True)])

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

    # -- generation --------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the context of the decoder."""
        self._require(Operation.GENERATION)
        self._context_length = 0

    @property
    def context(self) -> NDArray[np.int32]:
        """The tokens (n,) that the next logits depend on, n <= T."""
        return self._buffers_given["window"][: self._context_length].copy()

    def feed(self, tokens: NDArray[np.int32]) -> NDArray[Any]:
        """Append tokens (n,) int32, n >= 1, to the context; the logits (V,) of what comes next.

        A full window slides: its last floor(T/2) tokens are fed again from position 0, so that
        the logits are always those of `forward` of `context`.
        """
        self._require(Operation.GENERATION)
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or len(tokens) < 1:
            raise CllmError("tokens to feed must be an array (n,) of at least one token")
        self._check_ids("tokens", tokens, 0)
        for token in tokens.tolist():
            self._append(token)
        return self._buffers_given["next_logits"]

    def generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """Draw `count` tokens (n,) int32, each fed back; `uniforms` (n,) in [0,1) decide them.

        After a `feed`. The last token drawn is fed as well.
        """
        self._require(Operation.GENERATION)
        if self._context_length == 0:
            raise RuntimeError("generate needs a context: feed at least one token first")
        check_size("count", count)
        if uniforms.dtype != np.float64 or uniforms.shape != (count,):
            raise CllmError(
                f"uniforms must be float64 ({count},): got {uniforms.dtype} {uniforms.shape}"
            )
        if not ((uniforms >= 0) & (uniforms < 1)).all():
            raise CllmError("uniforms must lie in [0, 1)")
        return self._generate(count, sampling, uniforms)

    def _append(self, token: int) -> None:
        window = self._buffers_given["window"]
        if self._context_length == len(window):
            kept = len(window) // 2
            window[:kept] = window[len(window) - kept :].copy()
            for position in range(kept):
                self._decode(position)
            self._context_length = kept
        window[self._context_length] = token
        self._decode(self._context_length)
        self._context_length += 1

    # -- refusing ----------------------------------------------------------------------------

    def _require(self, operation: Operation, after: str | None = None) -> None:
        if operation not in self._plan.operations:
            raise RuntimeError(f"{operation} is not in the plan: {sorted(self._plan.operations)}")
        if not self._prepared:
            raise RuntimeError("load() or prepare() must come first")
        if after is not None and self._done != after:
            raise RuntimeError(f"{after}() must come directly before: the last was {self._done}")

    def _accept_tokens(self, tokens: NDArray[np.int32]) -> None:
        shape = self._check_batch(tokens)
        self._check_ids("tokens", tokens, 0)
        self._shape = shape
        self.activations()["tokens"][...] = tokens
        self._done = "nothing"

    def _accept_targets(self, targets: NDArray[np.int32], divisor: float | None) -> None:
        if self._check_batch(targets, "targets") != self._shape:
            raise CllmError(f"targets must have shape {self._shape}: got {targets.shape}")
        self._check_ids("targets", targets, IGNORED)
        if divisor is None:
            divisor = max(1, int(np.count_nonzero(targets >= 0)))
        self._divisor = check_number("divisor", divisor, 0.0, math.inf, open_below=True)
        self.activations()["targets"][...] = targets

    def _check_batch(self, ids: NDArray[np.int32], name: str = "tokens") -> tuple[int, int]:
        most = (self._plan.batch_size, self._plan.seq_len)
        if not isinstance(ids, np.ndarray) or ids.ndim != 2:
            raise CllmError(f"{name} must be an array (B,T)")
        if not (1 <= ids.shape[0] <= most[0] and 1 <= ids.shape[1] <= most[1]):
            raise CllmError(f"{name} must have a shape in (1,1)..{most}: got {ids.shape}")
        return ids.shape[0], ids.shape[1]

    def _check_ids(self, name: str, ids: NDArray[np.int32], lowest: int) -> None:
        if ids.dtype != np.int32:
            raise CllmError(f"{name} must be int32: got {ids.dtype}")
        if ids.min() < lowest or ids.max() >= self.config.vocab_size:
            raise CllmError(
                f"{name} must lie in {lowest}..{self.config.vocab_size - 1}: "
                f"got {ids.min()}..{ids.max()}"
            )

    # -- what an implementation gives: the parts that it has ---------------------------------

    @classmethod
    @abstractmethod
    def _buffers(cls, shape: Plan) -> Iterable[Buffer]:
        """The implementation's own activations, scratch and derived buffers."""

    def _prepare(self) -> None:
        """Rebuild the implementation's own derived buffers."""
        return

    @abstractmethod
    def _forward(self, batch_size: int, seq_len: int) -> None:
        """From `tokens` to `logits`."""

    @abstractmethod
    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        """From `logits` and `targets` to the loss."""

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        """Add to `gradients`."""
        raise NotImplementedError

    def _update(self, update: Update) -> None:
        """From `gradients` and the moments to `parameters`."""
        raise NotImplementedError

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        """All of it; an implementation may fuse it."""
        self.gradients.fill(0)
        self._forward(batch_size, seq_len)
        loss: float = self._loss(batch_size, seq_len, divisor)
        self._backward(batch_size, seq_len, divisor)
        self._update(update)
        return loss

    def _decode(self, position: int) -> None:
        """From the token at `position` of `window` and the cache to `next_logits`."""
        raise NotImplementedError

    def _sample(self, sampling: Sampling, uniform: float) -> int:
        """A token from `next_logits`."""
        raise NotImplementedError

    def _generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        drawn = np.empty(count, np.int32)
        for i, uniform in enumerate(uniforms.tolist()):
            drawn[i] = self._sample(sampling, uniform)
            self._append(int(drawn[i]))
        return drawn


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


def check_number(
    name: str, value: float, low: float, high: float, *, open_below: bool = False
) -> float:
    """Return `value` if low <= value < high (low < value where `open_below`), else `CllmError`."""
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number or not (low < value if open_below else low <= value) or value >= high:
        interval = f"{'(' if open_below else '['}{low:g}, {high:g})"
        raise CllmError(f"{name} must be a number in {interval}: got {value!r}")
    return value
