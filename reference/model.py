"""The reference model: the specification, in NumPy.

Promises: float32 and float64, and the forward pass in complex128 for derivatives by the complex
step. What forward leaves for backward lies in the planned buffers.
Leaves out: speed; it makes temporaries for the sake of reading, and knows one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cllm.decoder import Sampling
from cllm.errors import CllmError
from cllm.lattice.parts import PARTS
from cllm.model import Model as Interface
from cllm.model import Update
from cllm.plan import Buffer, Operation, Plan, activation_buffers
from cllm.reference.adam import adam_update, clip_scale, global_norm
from cllm.reference.cross_entropy import cross_entropy_backward, cross_entropy_forward
from cllm.reference.lattice_loss import lattice_loss_backward, lattice_loss_forward
from cllm.reference.network import backward, decode, forward
from cllm.reference.sampling import sample


class Model(Interface):
    """`cllm.Model` in NumPy; see there."""

    dtypes = ("float32", "float64", "complex128")
    lattice_parts = frozenset(PARTS)

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        dtype = shape.dtype
        if dtype.kind == "c" and shape.operations != {Operation.EVALUATION}:
            raise CllmError(f"complex128 is for evaluation alone: got {sorted(shape.operations)}")
        if Operation.EVALUATION not in shape.operations:
            return
        yield from activation_buffers(shape)

    def _forward(self, batch_size: int, seq_len: int) -> None:
        forward(self.tensors(), self.activations(), self.config)

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        a = self.activations()
        cross_entropy_forward(a["losses"], a["logits"], a["targets"])
        wide = "complex128" if self.planned.dtype.kind == "c" else "float64"
        loss = a["losses"].sum(dtype=wide).item()
        if self.config.lattice.loss:
            embedding = self.tensors()["embedding"]
            lattice_loss_forward(a["lattice_terms"], embedding, self.config.num_heads)
            loss += np.count_nonzero(a["targets"] >= 0) * self.lattice_loss
        return loss / divisor

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        a = self.activations()
        dlogits = a["logits"].copy()  # (B,T,V)
        cross_entropy_backward(dlogits, a["logits"], a["targets"], divisor)
        p, g = self.tensors(), self.tensors("gradients")
        backward(p, g, a, dlogits, self.config)
        if self.config.lattice.loss:
            lattice_loss_backward(
                g["embedding"],
                a["lattice_terms"],
                p["embedding"],
                self.config.lattice.loss_weights,
                self.config.num_heads,
                np.count_nonzero(a["targets"] >= 0) / divisor,
            )

    def _update(self, update: Update) -> None:
        norm = 0.0 if update.clip is None else global_norm(self.gradients)
        adam_update(
            self.parameters,
            *self.moments,
            self.gradients,
            update.step,
            update.learning_rate,
            update.beta1,
            update.beta2,
            update.epsilon,
            update.weight_decay,
            clip_scale(norm, update.clip),
        )

    def _decode(self, position: int) -> None:
        decode(self.tensors(), dict(self._buffers_given), position, self.config)

    def _sample(self, sampling: Sampling, uniform: float) -> int:
        return sample(
            self._buffers_given["next_logits"],
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            uniform,
        )
