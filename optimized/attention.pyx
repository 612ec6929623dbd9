"""Causal multi-head self-attention; the mirror of `cllm.reference.attention`.

The work comes in pairs of batch row and head.
"""

import numpy as np

from cllm.errors import CllmError
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport sqrt
from libc.string cimport memcpy

from .arguments cimport disjoint, floats, panels, shape_of
from .kernels cimport (
    LatticeBatch, LatticeHead, Rows, attention_scratch, kernels, lattice_head, lattice_weights,
    share, team_size,
)


cdef void attention_forward_body(
    float *out, const float *start, float *lse, const float *qkv, float *scratch, float *panel,
    Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, const LatticeBatch *lattice, Rows pairs,
) noexcept nogil:
    """Pairs of row and head of out = start + attention; a start of NULL is zero, a lattice none."""
    cdef Py_ssize_t width = D // H, pair, at
    cdef const float *q
    cdef LatticeHead head
    for pair in range(pairs.start, pairs.stop):
        at = pair // H * T * D + pair % H * width
        q = qkv + pair // H * T * 3 * D + pair % H * width
        if lattice != NULL:
            head = lattice_head(lattice, pair, T, H, width, scratch + attention_scratch(T, width))
        kernels.attention_forward(
            out + at, start + at if start != NULL else NULL, D, lse + pair * T,
            q, q + D, q + 2 * D, 3 * D, T, width, scratch, panel,
            &head if lattice != NULL else NULL,
        )


def attention_forward(out, lse, qkv, num_heads, *, int threads=1):
    """Out (B,T,D) = softmax(q kᵀ / sqrt(D/H) + M) v per head, of qkv (B,T,3D), float32.

    M is -inf above the diagonal. Leaves lse (B,H,T), the logarithm of each denominator.
    """
    cdef Py_ssize_t B, T, D, H = num_heads
    B, T, D = sizes(qkv, num_heads)
    cdef float *out_ = floats("out", out, (B, T, D), True)
    cdef float *lse_ = floats("lse", lse, (B, H, T), True)
    cdef const float *qkv_ = floats("qkv", qkv, (B, T, 3 * D))
    disjoint({"out": out, "lse": lse}, {"qkv": qkv})
    threads = check_threads(threads)
    cdef float[:, ::1] panel = panels(threads)
    cdef float[:, ::1] scratch = np.empty((threads, attention_scratch(T, D // H)), np.float32)
    with nogil, parallel(num_threads=threads):
        attention_forward_body(
            out_, NULL, lse_, qkv_, &scratch[threadid(), 0], &panel[threadid(), 0], T, D, H,
            NULL, share(B * H, 1, threadid(), team_size()),
        )


cdef void attention_backward_body(
    float *dqkv, const float *dout, const float *qkv, const float *lse, float *scratch,
    float *panel, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, const LatticeBatch *lattice,
    Rows pairs,
) noexcept nogil:
    """Pairs of row and head of dqkv, which may be qkv, and of the lattice's sums."""
    cdef Py_ssize_t width = D // H, pair, at
    cdef const float *q
    cdef float *dq
    cdef LatticeHead head
    for pair in range(pairs.start, pairs.stop):
        at = pair // H * T * 3 * D + pair % H * width
        q = qkv + at
        dq = dqkv + at
        if lattice != NULL:
            head = lattice_head(lattice, pair, T, H, width, scratch + attention_scratch(T, width))
        kernels.attention_backward(
            dq, dq + D, dq + 2 * D, dout + pair // H * T * D + pair % H * width, D,
            lse + pair * T, q, q + D, q + 2 * D, 3 * D, T, width, scratch, panel,
            &head if lattice != NULL else NULL,
        )


def attention_backward(dqkv, dout, qkv, out, lse, num_heads, *, int threads=1):
    """Write dqkv (B,T,3D), float32. (`out` is not needed: dout·out is summed over the keys.)"""
    cdef Py_ssize_t B, T, D, H = num_heads
    B, T, D = sizes(qkv, num_heads)
    cdef float *dqkv_ = floats("dqkv", dqkv, (B, T, 3 * D), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, D))
    cdef const float *qkv_ = floats("qkv", qkv, (B, T, 3 * D))
    floats("out", out, (B, T, D))
    cdef const float *lse_ = floats("lse", lse, (B, H, T))
    disjoint({"dqkv": dqkv}, {"dout": dout, "qkv": qkv, "out": out, "lse": lse})
    threads = check_threads(threads)
    cdef float[:, ::1] panel = panels(threads)
    cdef float[:, ::1] scratch = np.empty((threads, attention_scratch(T, D // H)), np.float32)
    with nogil, parallel(num_threads=threads):
        attention_backward_body(
            dqkv_, dout_, qkv_, lse_, &scratch[threadid(), 0], &panel[threadid(), 0], T, D, H,
            NULL, share(B * H, 1, threadid(), team_size()),
        )


cdef void attention_decode_body(
    float *out, float *keys, float *values, const float *qkv, float *scores,
    Py_ssize_t position, Py_ssize_t D, Py_ssize_t H, const float *weight, const float *distances,
    Rows heads,
) noexcept nogil:
    """Heads of out and of the cache's row; scores is scratch of position + 1 floats.

    A weight (H,3) of the lattice, which may be NULL, is that of distances (3, position + 1).
    """
    cdef Py_ssize_t width = D // H, seen = position + 1, h, at
    cdef float scale = <float> (1.0 / sqrt(<double> width)), total
    cdef float[3] weights
    for h in range(heads.start, heads.stop):
        at = h * width
        memcpy(keys + position * D + at, qkv + D + at, width * sizeof(float))
        memcpy(values + position * D + at, qkv + 2 * D + at, width * sizeof(float))
        kernels.dots(seen, width, keys + at, D, qkv + at, scores)
        if weight != NULL:
            lattice_weights(weights, weight + 3 * h, width)
            kernels.lattice_lower(scores, distances, seen, weights, seen)
        total = kernels.exp_sum(scores, scores, scale, scale * kernels.max(scores, seen), seen)
        kernels.gemv(width, seen, scores, values + at, D, out + at, NULL)
        kernels.scale(out + at, 1 / total, width)


def attention_decode(out, keys, values, qkv, position, num_heads, *, int threads=1):
    """Out (D,) of the one query at `position` over the cache; float32.

    Writes row `position` of keys and values (T,D), reads rows 0..position; qkv (3D,).
    """
    cdef Py_ssize_t T, D, H = num_heads, at = position
    T, D = shape_of("keys", keys, "TD")
    check_heads(D, num_heads)
    if not 0 <= position < T:
        raise CllmError(f"position must lie in 0..{T - 1}: got {position}")
    cdef float *out_ = floats("out", out, (D,), True)
    cdef float *keys_ = floats("keys", keys, (T, D), True)
    cdef float *values_ = floats("values", values, (T, D), True)
    cdef const float *qkv_ = floats("qkv", qkv, (3 * D,))
    disjoint({"out": out, "keys": keys, "values": values}, {"qkv": qkv})
    threads = check_threads(threads)
    cdef float[:, ::1] scores = np.empty((threads, position + 1), np.float32)
    with nogil, parallel(num_threads=threads):
        attention_decode_body(
            out_, keys_, values_, qkv_, &scores[threadid(), 0], at, D, H,
            NULL, NULL, share(H, 1, threadid(), team_size()),
        )


cdef tuple sizes(object qkv, object num_heads):
    """B, T and D of qkv (B,T,3D)."""
    B, T, thirds = shape_of("qkv", qkv, "BTD")
    if thirds % 3:
        raise CllmError(f"qkv must have a last axis of 3D: got {thirds}")
    check_heads(thirds // 3, num_heads)
    return B, T, thirds // 3


cdef int check_heads(Py_ssize_t D, object num_heads) except -1:
    if num_heads < 1 or D % num_heads:
        raise CllmError(f"num_heads must divide D = {D}: got {num_heads}")
    return 0
