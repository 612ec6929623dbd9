"""Floating-point operations of a training step, and model FLOPs utilization.

After Chowdhery et al. 2022 (PaLM, appendix B), with attention counted causally: work that a mask
makes unnecessary is not counted.
"""

from __future__ import annotations

from cllm.config import Config
from cllm.harness.bench.task import Kind
from cllm.harness.cases import Setting

FORMULA = (
    "MFU = (6 · (V·D + L·(3D² + 2D·F)) · B·T + 3 · L·B·H · 2·(2·D/H) · T·(T+1)/2) "
    "/ (seconds a step · measured FMA peak of the threads used)"
)


def matmul_parameters(config: Config) -> int:
    """V·D + L·(3D² + 2D·F): the parameters that each token is multiplied with."""
    d, f = config.embed_dim, config.ff_dim
    return config.vocab_size * d + config.num_layers * (3 * d * d + 2 * d * f)


def step_flops(setting: Setting) -> int:
    """FLOPs of one step on (B,T): 2 forward and 4 backward a parameter and token, and attention.

    Attention has two products, q kᵀ and the one with v, of D/H multiply-adds for each of the
    T(T+1)/2 pairs that the mask leaves, forward once and backward twice.
    """
    config, batch, time = setting.config, setting.batch_size, setting.seq_len
    pairs = time * (time + 1) // 2
    attention = config.num_layers * batch * config.num_heads * 2 * (2 * config.head_dim) * pairs
    return 6 * matmul_parameters(config) * batch * time + 3 * attention


def call_flops(setting: Setting, kind: Kind) -> int:
    """About the FLOPs of one step, or of one generation of T-1 tokens."""
    if kind.is_training:
        return step_flops(setting)
    return 2 * matmul_parameters(setting.config) * (setting.seq_len - 1)


def utilization(setting: Setting, steps_per_second: float, peak: float) -> float:
    """MFU: the share of `peak` (FLOP/s of the threads used) that the steps amount to."""
    return step_flops(setting) * steps_per_second / peak
