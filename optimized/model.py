"""The optimized model: float32, Cython and OpenMP.

Promises: the reference's function to the last tolerable rounding error, the same bytes for every
number of threads on one instruction-set level, no allocation in a step.
Leaves out: other dtypes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cllm.decoder import Sampling
from cllm.lattice.parts import PARTS
from cllm.lattice.relations import relation_lengths
from cllm.lattice.tables import FIELDS, table_length
from cllm.model import Model as Interface
from cllm.model import Update, update_rows
from cllm.optimized.adam import NORM_BLOCK
from cllm.optimized.batch import Batch
from cllm.optimized.kernels import isa, parallel
from cllm.optimized.lattice_attention import attention_arrays
from cllm.optimized.lattice_loss import lattice_loss_chunks, loss_arrays
from cllm.optimized.reduction import ROW_BLOCK
from cllm.optimized.region import Network, scratch_floats
from cllm.plan import Buffer, Buffers, Operation, Plan, Role


class Model(Interface):
    """`cllm.Model` in Cython and OpenMP; see there."""

    lattice_parts = frozenset(PARTS)
    parallel = parallel
    allocates_in_step = False
    isa = isa
    """The instruction-set level in use: avx512, avx2 or baseline."""

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        config = shape.config
        b, t, d, f = shape.batch_size, shape.seq_len, config.embed_dim, config.ff_dim
        float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
        tiles, panel = scratch_floats(config, t)
        activations: dict[str, tuple[int, ...]] = {}
        scratch: dict[str, tuple[int, ...]] = {}
        if Operation.EVALUATION in shape.operations:
            activations = dict(_activations(shape))
            scratch |= {"attention_tiles": (shape.threads, tiles), "panels": (shape.threads, panel)}
        if Operation.TRAINING in shape.operations:
            # two layers' sums: one is read while the next is written
            scratch |= {"dx": (b, t, d), "row_sums": (2, -(-b * t // ROW_BLOCK), 5 * d + f)}
            blocks = -(-config.num_parameters // NORM_BLOCK)
            yield Buffer("norm_sums", (blocks,), float64, Role.SCRATCH)
        if Operation.GENERATION in shape.operations:
            of_each = 2 * d + (4 * t if config.lattice.attention else t)
            scratch["decoded"] = (5 * d + f + shape.threads * of_each,)
            yield Buffer("order", (config.vocab_size,), np.dtype(np.int32), Role.SCRATCH)
            yield Buffer("token_weights", (config.vocab_size,), float64, Role.SCRATCH)
        yield from _lattice(shape)
        for name, axes in activations.items():
            yield Buffer(name, axes, float32, Role.ACTIVATION)
        for name, axes in scratch.items():
            yield Buffer(name, axes, float32, Role.SCRATCH)

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        super().__init__(plan, buffers)
        self._network = Network(
            plan,
            self._buffers_given,
            self._tensors["parameters"],
            self._tensors.get("gradients", {}),
        )
        if Operation.EVALUATION in plan.operations:
            self._batch = Batch(buffers["tokens"], buffers["targets"], plan.config.vocab_size)

    def _prepare(self) -> None:
        config = self.config
        arrays: dict[str, NDArray[np.generic]] = {}
        if config.lattice.attention:
            arrays |= attention_arrays(config.vocab_size)
        if config.lattice.loss and Operation.EVALUATION in self.planned.operations:
            arrays |= loss_arrays(config.vocab_size)
        for name, array in arrays.items():
            self._buffers_given[name].reshape(-1)[: array.size] = array.reshape(-1)

    def _take(self, tokens: NDArray[np.int32], targets: NDArray[np.int32]) -> int:
        counted: int = self._batch.take(tokens, targets)
        if counted < 0:  # refused, or of a kind that only NumPy understands
            return super()._take(tokens, targets)
        self._shape = tokens.shape
        return counted

    def _forward(self, batch_size: int, seq_len: int) -> None:
        self._network.forward(batch_size, seq_len)

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> float:
        loss: float = self._network.loss(batch_size, seq_len, divisor)
        return loss

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        self._network.backward(batch_size, seq_len, divisor)

    def _update(self, update: Update) -> None:
        self._network.update(update)

    def _step(self, batch_size: int, seq_len: int, divisor: float, update: Update) -> float:
        loss: float = self._network.step(batch_size, seq_len, divisor, update)
        return loss

    def _steps(
        self,
        batch_size: int,
        seq_len: int,
        tokens: NDArray[np.int32],
        targets: NDArray[np.int32],
        divisors: NDArray[np.float64],
        updates: Sequence[Update],
    ) -> NDArray[np.float64]:
        losses: NDArray[np.float64] = self._network.steps(
            batch_size, seq_len, tokens, targets, divisors, update_rows(updates)
        )
        return losses

    def _append(self, token: int) -> None:
        self._context_length = self._network.append(token, self._context_length)

    def _generate(
        self, count: int, sampling: Sampling, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        drawn = np.empty(count, np.int32)
        self._context_length = self._network.generate(
            drawn,
            self._context_length,
            sampling.temperature,
            sampling.top_k or 0,
            sampling.top_p,
            uniforms,
        )
        return drawn


def _lattice(shape: Plan) -> Iterator[Buffer]:
    """The buffers of its parts; nothing where they are off."""
    config, training = shape.config, Operation.TRAINING in shape.operations
    v, b, t, h = config.vocab_size, shape.batch_size, shape.seq_len, config.num_heads
    int32, int64, float32, float64 = map(np.dtype, (np.int32, np.int64, np.float32, np.float64))
    evaluation = Operation.EVALUATION in shape.operations
    if config.lattice.attention:
        powers = max(1, table_length(v))  # a small vocabulary has none
        yield Buffer("lattice_tokens", (v, FIELDS), float32, Role.DERIVED)
        yield Buffer("lattice_starts", (v + 1,), int64, Role.DERIVED)
        yield Buffer("lattice_inverses", (powers,), int32, Role.DERIVED)
        yield Buffer("lattice_bounds", (powers,), int32, Role.DERIVED)
        yield Buffer("lattice_logs", (powers,), float32, Role.DERIVED)
        if evaluation:
            yield Buffer("lattice_fields", (b, FIELDS, t), float32, Role.ACTIVATION)
        if training:
            # two layers' sums: one is read while the next is written
            yield Buffer("lattice_sums", (2, b, h, 3), float64, Role.SCRATCH)
        if Operation.GENERATION in shape.operations:
            yield Buffer("lattice_window", (FIELDS, t), float32, Role.ACTIVATION)
    if config.lattice.loss and evaluation:
        near, composites, factors = relation_lengths(v)
        yield Buffer("lattice_neighbours", (v, max(1, near)), int32, Role.DERIVED)
        yield Buffer("lattice_nearness", (v, max(1, near)), float32, Role.DERIVED)
        yield Buffer("lattice_composites", (max(1, composites),), int32, Role.DERIVED)
        yield Buffer("lattice_factor_starts", (max(0, composites) + 1,), int64, Role.DERIVED)
        yield Buffer("lattice_primes", (max(1, factors),), int32, Role.DERIVED)
        yield Buffer("lattice_exponents", (max(1, factors),), float32, Role.DERIVED)
        chunks = lattice_loss_chunks(config.embed_dim, h)
        yield Buffer("lattice_chunk_sums", (chunks, 4), float64, Role.ACTIVATION)


def _activations(shape: Plan) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What forward leaves for backward; attention and feed-forward end in the residual stream."""
    config = shape.config
    b, t, d, f = shape.batch_size, shape.seq_len, config.embed_dim, config.ff_dim
    layer_shapes: dict[str, tuple[int, ...]] = {
        "ln1": (b, t, d),
        "ln1_mean": (b, t),
        "ln1_rstd": (b, t),
        "qkv": (b, t, 3 * d),
        "attn_lse": (b, config.num_heads, t),
        "x_mid": (b, t, d),
        "ln2": (b, t, d),
        "ln2_mean": (b, t),
        "ln2_rstd": (b, t),
        "ff_act": (b, t, f),
        "x_out": (b, t, d),
    }
    if Operation.TRAINING in shape.operations:
        layer_shapes["ff_slope"] = (b, t, f)
    yield "x0", (b, t, d)
    for layer in range(config.num_layers):
        for name, axes in layer_shapes.items():
            yield f"layer{layer}.{name}", axes
    yield "logits", (b, t, config.vocab_size)
    yield "losses", (b, t)
