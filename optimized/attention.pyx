"""Causal multi-head self-attention; the mirror of `cllm.reference.attention`.

A thread owns whole pairs of batch row and head, and walks each in tiles of QUERIES queries; its
scratch is 2·QUERIES·T floats.
"""

import numpy as np

from cllm.errors import CllmError
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport logf, sqrt
from libc.string cimport memcpy, memset

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void attention_forward_body(
    float *out, float *lse, const float *qkv, float *scratch,
    Py_ssize_t B, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, int thread, int threads,
) noexcept nogil:
    """Pairs of row and head by thread."""
    cdef Py_ssize_t width = D // H, pair, b, h, tile, first, rows, keys, r, s, seen
    cdef float scale = <float> (1.0 / sqrt(<double> width)), top, total
    cdef float *scores = scratch + thread * 2 * QUERIES * T
    cdef float *row
    cdef const float *q
    cdef const float *k
    cdef const float *v
    for pair in range(share_start(B * H, thread, threads), share_start(B * H, thread + 1, threads)):
        b = pair // H
        h = pair % H
        q = qkv + b * T * 3 * D + h * width
        k = q + D
        v = q + 2 * D
        for tile in range((T + QUERIES - 1) // QUERIES):
            first = tile * QUERIES
            rows = min(<Py_ssize_t> QUERIES, T - first)
            keys = first + rows
            kernels.gemm(
                rows, keys, width, q + first * 3 * D, 3 * D, 1, k, 1, 3 * D, scores, T, 0
            )
            for r in range(rows):
                row = scores + r * T
                seen = first + r + 1
                top = scale * kernels.max(row, seen)
                kernels.exp_shifted(row, row, scale, top, seen)
                total = kernels.sum(row, seen)
                lse[pair * T + first + r] = logf(total) + top
                for s in range(seen):
                    row[s] /= total
                for s in range(seen, keys):
                    row[s] = 0.0
            kernels.gemm(
                rows, width, keys, scores, T, 1, v, 3 * D, 1,
                out + (b * T + first) * D + h * width, D, 0,
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
    scratch = np.empty((threads, 2 * QUERIES * T), np.float32)
    cdef float *scratch_ = floats("scratch", scratch, scratch.shape, True)
    with nogil, parallel(num_threads=threads):
        attention_forward_body(out_, lse_, qkv_, scratch_, B, T, D, H, threadid(), team_size())


cdef void attention_backward_body(
    float *dqkv, const float *dout, const float *qkv, const float *out, const float *lse,
    float *scratch, Py_ssize_t B, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H,
    int thread, int threads,
) noexcept nogil:
    """Pairs of row and head by thread."""
    cdef Py_ssize_t width = D // H, pair, b, h, tile, first, rows, keys, r, s, seen, offset
    cdef float scale = <float> (1.0 / sqrt(<double> width)), total
    cdef float *probs = scratch + thread * 2 * QUERIES * T
    cdef float *dprobs = probs + QUERIES * T
    cdef float *dq
    cdef float *dk
    cdef float *dv
    cdef const float *q
    cdef const float *k
    cdef const float *v
    for pair in range(share_start(B * H, thread, threads), share_start(B * H, thread + 1, threads)):
        b = pair // H
        h = pair % H
        q = qkv + b * T * 3 * D + h * width
        k = q + D
        v = q + 2 * D
        dq = dqkv + b * T * 3 * D + h * width
        dk = dq + D
        dv = dq + 2 * D
        for s in range(T):
            memset(dk + s * 3 * D, 0, width * sizeof(float))
            memset(dv + s * 3 * D, 0, width * sizeof(float))
        for tile in range((T + QUERIES - 1) // QUERIES):
            first = tile * QUERIES
            rows = min(<Py_ssize_t> QUERIES, T - first)
            keys = first + rows
            offset = (b * T + first) * D + h * width
            kernels.gemm(
                rows, keys, width, q + first * 3 * D, 3 * D, 1, k, 1, 3 * D, probs, T, 0
            )
            # heads = probs @ v
            kernels.gemm(rows, keys, width, dout + offset, D, 1, v, 1, 3 * D, dprobs, T, 0)
            for r in range(rows):
                seen = first + r + 1
                kernels.exp_shifted(
                    probs + r * T, probs + r * T, scale, lse[pair * T + first + r], seen
                )
                # probs = softmax(scores), scores = scale * q @ kᵀ
                total = kernels.dot(dout + offset + r * D, out + offset + r * D, width)
                for s in range(seen):
                    dprobs[r * T + s] = scale * probs[r * T + s] * (dprobs[r * T + s] - total)
                for s in range(seen, keys):
                    probs[r * T + s] = 0.0
                    dprobs[r * T + s] = 0.0
            kernels.gemm(keys, width, rows, probs, 1, T, dout + offset, D, 1, dv, 3 * D, 1)
            kernels.gemm(
                rows, width, keys, dprobs, T, 1, k, 3 * D, 1, dq + first * 3 * D, 3 * D, 0
            )
            kernels.gemm(
                keys, width, rows, dprobs, 1, T, q + first * 3 * D, 3 * D, 1, dk, 3 * D, 1
            )


def attention_backward(dqkv, dout, qkv, out, lse, num_heads, *, int threads=1):
    """Write dqkv (B,T,3D), float32."""
    cdef Py_ssize_t B, T, D, H = num_heads
    B, T, D = sizes(qkv, num_heads)
    cdef float *dqkv_ = floats("dqkv", dqkv, (B, T, 3 * D), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, D))
    cdef const float *qkv_ = floats("qkv", qkv, (B, T, 3 * D))
    cdef const float *out_ = floats("out", out, (B, T, D))
    cdef const float *lse_ = floats("lse", lse, (B, H, T))
    disjoint({"dqkv": dqkv}, {"dout": dout, "qkv": qkv, "out": out, "lse": lse})
    threads = check_threads(threads)
    scratch = np.empty((threads, 2 * QUERIES * T), np.float32)
    cdef float *scratch_ = floats("scratch", scratch, scratch.shape, True)
    with nogil, parallel(num_threads=threads):
        attention_backward_body(
            dqkv_, dout_, qkv_, out_, lse_, scratch_, B, T, D, H, threadid(), team_size()
        )


cdef void attention_decode_body(
    float *out, float *keys, float *values, const float *qkv, float *scratch,
    Py_ssize_t position, Py_ssize_t D, Py_ssize_t H, int thread, int threads,
) noexcept nogil:
    """Heads by thread; scratch holds position + 1 floats a thread."""
    cdef Py_ssize_t width = D // H, seen = position + 1, h, s
    cdef float scale = <float> (1.0 / sqrt(<double> width)), total
    cdef float *scores = scratch + thread * seen
    cdef const float *q
    for h in range(share_start(H, thread, threads), share_start(H, thread + 1, threads)):
        q = qkv + h * width
        memcpy(keys + position * D + h * width, q + D, width * sizeof(float))
        memcpy(values + position * D + h * width, q + 2 * D, width * sizeof(float))
        memset(out + h * width, 0, width * sizeof(float))
        for s in range(seen):
            scores[s] = kernels.dot(q, keys + s * D + h * width, width)
        kernels.exp_shifted(scores, scores, scale, scale * kernels.max(scores, seen), seen)
        total = kernels.sum(scores, seen)
        for s in range(seen):
            kernels.axpy(out + h * width, scores[s] / total, values + s * D + h * width, width)


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
    scratch = np.empty((threads, position + 1), np.float32)
    cdef float *scratch_ = floats("scratch", scratch, scratch.shape, True)
    with nogil, parallel(num_threads=threads):
        attention_decode_body(
            out_, keys_, values_, qkv_, scratch_, at, D, H, threadid(), team_size()
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
