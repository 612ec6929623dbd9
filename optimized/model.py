"""The optimized model: float32, Cython and OpenMP.

Promises: the reference's function to the last tolerable rounding error, the same bytes for every
number of threads on one instruction-set level, no allocation in a step.
Leaves out: other dtypes. Generation runs on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cllm.decoder import Sampling
from cllm.model import Model as Interface
from cllm.model import Update
from cllm.optimized.adam import NORM_BLOCK
from cllm.optimized.attention import QUERIES
from cllm.optimized.kernels import isa
from cllm.optimized.network import Network
from cllm.plan import Buffer, Buffers, Operation, Plan, Role, activation_buffers


class Model(Interface):
    """`cllm.Model` in Cython and OpenMP; see there."""

    isa = isa
    """The instruction-set level in use: avx512, avx2 or baseline."""

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        config = shape.config
        b, t, d, f = shape.batch_size, shape.seq_len, config.embed_dim, config.ff_dim
        v, p = config.vocab_size, config.num_parameters
        float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
        scratch: dict[str, tuple[int, ...]] = {}
        if Operation.EVALUATION in shape.operations:
            yield from activation_buffers(shape)
            scratch["attention_tiles"] = (shape.threads, 2, QUERIES, t)
        if Operation.TRAINING in shape.operations:
            scratch |= {
                "dx": (b, t, d),
                "dln": (b, t, d),
                "dff": (b, t, f),
                "dqkv": (b, t, 3 * d),
            }
            blocks = -(-p // NORM_BLOCK)
            yield Buffer("norm_sums", (blocks,), float64, Role.SCRATCH)
        if Operation.GENERATION in shape.operations:
            scratch["decoded"] = (6 * d + f + t,)
            yield Buffer("order", (v,), np.dtype(np.int32), Role.SCRATCH)
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
