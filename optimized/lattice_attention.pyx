"""Attention on the lattice; the mirror of `cllm.reference.lattice_attention`.

The bodies are those of attention, which a lattice is handed to: the kernel computes the distances
of a tile of queries and keys from what is known of each token (`cllm.lattice.tables`).
"""

import numpy as np

from cllm.errors import CllmError
from cllm.lattice.tables import FIELDS, tables_of
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport exp, fabs, sqrt
from libc.stdint cimport int64_t

from .arguments cimport disjoint, floats, ids, panels, shape_of
from .attention cimport (
    attention_backward_body, attention_decode_body, attention_forward_body, check_heads, sizes,
)
from .kernels cimport (
    ATTENTION_QUERIES, LATTICE_FIELDS, LatticeBatch, LatticeTables, LatticeTokens, Rows,
    attention_scratch, kernels, lattice_scratch, share, team_size,
)

if FIELDS != LATTICE_FIELDS:
    raise RuntimeError(f"a token has {LATTICE_FIELDS} fields here and {FIELDS} there")


def attention_arrays(vocab_size):
    """The arrays of `cllm.lattice.tables.Tables` by the names that a plan has for them."""
    tables = tables_of(vocab_size)
    return {
        "lattice_tokens": tables.tokens,
        "lattice_starts": tables.starts,
        "lattice_inverses": tables.inverses,
        "lattice_bounds": tables.bounds,
        "lattice_logs": tables.logs,
    }


cdef LatticeTables tables_from(object arrays, double turn):
    """The addresses of arrays that are named as `attention_arrays` names them."""
    cdef LatticeTables tables
    tables.tokens = <const float *> <size_t> arrays["lattice_tokens"].ctypes.data
    tables.start = <const int64_t *> <size_t> arrays["lattice_starts"].ctypes.data
    tables.inverse = <const int *> <size_t> arrays["lattice_inverses"].ctypes.data
    tables.bound = <const int *> <size_t> arrays["lattice_bounds"].ctypes.data
    tables.log = <const float *> <size_t> arrays["lattice_logs"].ctypes.data
    tables.turn = <float> turn
    return tables


cdef void lattice_fields_body(
    float *fields, const int *tokens, const LatticeTables *tables, Py_ssize_t T, Rows rows
) noexcept nogil:
    """Rows of the tokens' fields (B,LATTICE_FIELDS,T): each field of a sequence lies together."""
    cdef Py_ssize_t n, i
    cdef float *to
    cdef const float *of
    for n in range(rows.start, rows.stop):
        to = fields + n // T * LATTICE_FIELDS * T + n % T
        of = tables.tokens + <Py_ssize_t> tokens[n] * LATTICE_FIELDS
        for i in range(LATTICE_FIELDS):
            to[i * T] = of[i]


def lattice_attention_forward(out, lse, qkv, tokens, weight, vocab_size, *, int threads=1):
    """`attention_forward` of qkv (B,T,3D), lowered by weight (H,3) and tokens (B,T) of V ids."""
    cdef Batch batch = Batch(qkv, tokens, weight, vocab_size)
    cdef Py_ssize_t B = batch.B, T = batch.T, D = batch.D, H = batch.H
    cdef float *out_ = floats("out", out, (B, T, D), True)
    cdef float *lse_ = floats("lse", lse, (B, H, T), True)
    cdef const float *qkv_ = floats("qkv", qkv, (B, T, 3 * D))
    disjoint({"out": out, "lse": lse}, {"qkv": qkv, "tokens": tokens, "weight": weight})
    threads = check_threads(threads)
    cdef float[:, ::1] panel = panels(threads)
    cdef float[:, ::1] scratch = batch.scratch(threads)
    with nogil, parallel(num_threads=threads):
        attention_forward_body(
            out_, NULL, lse_, qkv_, &scratch[threadid(), 0], &panel[threadid(), 0], T, D, H,
            &batch.lattice, share(B * H, 1, threadid(), team_size()),
        )


cdef void lattice_weight_body(
    float *dweight, bint fresh, const LatticeBatch *lattice, Py_ssize_t B, Py_ssize_t H,
    Py_ssize_t width,
) noexcept nogil:
    """The gradient (H,3) of the weights: added to, or written where it is fresh.

    What is taken from a score that is not yet divided is softplus(w) sqrt(width) times a distance,
    and the derivative of softplus is the logistic function.
    """
    cdef Py_ssize_t b, i
    cdef double total, w
    for i in range(3 * H):
        total = 0.0
        for b in range(B):
            total += lattice.sums[b * 3 * H + i]
        w = exp(-fabs(lattice.weights[i]))
        w = (1.0 if lattice.weights[i] > 0 else w) / (1.0 + w)
        total *= -w * sqrt(<double> width)
        dweight[i] = <float> (total if fresh else dweight[i] + total)


def lattice_attention_backward(
    dqkv, dweight, dout, qkv, out, lse, tokens, weight, vocab_size, *, int threads=1
):
    """Write dqkv (B,T,3D), add to dweight (H,3), float32. (`out` is not needed.)"""
    cdef Batch batch = Batch(qkv, tokens, weight, vocab_size)
    cdef Py_ssize_t B = batch.B, T = batch.T, D = batch.D, H = batch.H
    cdef float *dqkv_ = floats("dqkv", dqkv, (B, T, 3 * D), True)
    cdef float *dweight_ = floats("dweight", dweight, (H, 3), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, D))
    cdef const float *qkv_ = floats("qkv", qkv, (B, T, 3 * D))
    floats("out", out, (B, T, D))
    cdef const float *lse_ = floats("lse", lse, (B, H, T))
    disjoint(
        {"dqkv": dqkv, "dweight": dweight},
        {"dout": dout, "qkv": qkv, "out": out, "lse": lse, "tokens": tokens, "weight": weight},
    )
    threads = check_threads(threads)
    cdef float[:, ::1] panel = panels(threads)
    cdef float[:, ::1] scratch = batch.scratch(threads)
    with nogil, parallel(num_threads=threads):
        attention_backward_body(
            dqkv_, dout_, qkv_, lse_, &scratch[threadid(), 0], &panel[threadid(), 0], T, D, H,
            &batch.lattice, share(B * H, 1, threadid(), team_size()),
        )
    lattice_weight_body(dweight_, False, &batch.lattice, B, H, D // H)


def lattice_attention_decode(
    out, keys, values, qkv, position, window, weight, vocab_size, *, int threads=1
):
    """`attention_decode` of the token at `position` of window (T,), lowered by weight (H,3)."""
    cdef Py_ssize_t T, D, H, at = position, seen = at + 1
    T, D = shape_of("keys", keys, "TD")
    H = shape_of("weight", weight, "HN")[0]
    check_heads(D, H)
    if not 0 <= position < T:
        raise CllmError(f"position must lie in 0..{T - 1}: got {position}")
    cdef float *out_ = floats("out", out, (D,), True)
    cdef float *keys_ = floats("keys", keys, (T, D), True)
    cdef float *values_ = floats("values", values, (T, D), True)
    cdef const float *qkv_ = floats("qkv", qkv, (3 * D,))
    cdef const float *weight_ = floats("weight", weight, (H, 3))
    cdef LatticeTokens tokens
    cdef Rows rows
    tokens.ids = ids("window", window, (T,), 0, vocab_size)
    disjoint(
        {"out": out, "keys": keys, "values": values},
        {"qkv": qkv, "window": window, "weight": weight},
    )
    threads = check_threads(threads)
    arrays = attention_arrays(vocab_size)
    cdef LatticeTables tables = tables_from(arrays, tables_of(vocab_size).turn)
    cdef float[:, ::1] fields = np.empty((LATTICE_FIELDS, seen), np.float32)
    cdef float[:, ::1] distances = np.empty((3, seen), np.float32)
    cdef float[:, ::1] scores = np.empty((threads, seen), np.float32)
    rows.start, rows.stop = 0, seen
    lattice_fields_body(&fields[0, 0], tokens.ids, &tables, seen, rows)
    tokens.fields, tokens.apart = &fields[0, 0], seen
    kernels.lattice_distances(&distances[0, 0], seen, &tokens, at, 0, seen, &tables)
    with nogil, parallel(num_threads=threads):
        attention_decode_body(
            out_, keys_, values_, qkv_, &scores[threadid(), 0], at, D, H,
            weight_, &distances[0, 0], share(H, 1, threadid(), team_size()),
        )


cdef class Batch:
    """What attention is handed of the lattice, and the arrays that it points into."""

    cdef Py_ssize_t B, T, D, H
    cdef LatticeTables tables
    cdef LatticeBatch lattice
    cdef tuple alive

    def __init__(self, qkv, tokens, weight, vocab_size):
        cdef Rows rows
        cdef float[:, :, ::1] fields
        cdef double[:, :, ::1] sums
        self.H = shape_of("weight", weight, "HN")[0]
        self.B, self.T, self.D = sizes(qkv, self.H)
        self.lattice.tokens = ids("tokens", tokens, (self.B, self.T), 0, vocab_size)
        self.lattice.weights = floats("weight", weight, (self.H, 3))
        arrays = attention_arrays(vocab_size)
        self.tables = tables_from(arrays, tables_of(vocab_size).turn)
        self.lattice.tables = &self.tables
        fields = np.empty((self.B, LATTICE_FIELDS, self.T), np.float32)
        sums = np.zeros((self.B, self.H, 3))
        rows.start, rows.stop = 0, self.B * self.T
        lattice_fields_body(
            &fields[0, 0, 0], self.lattice.tokens, &self.tables, self.T, rows
        )
        self.lattice.fields, self.lattice.sums = &fields[0, 0, 0], &sums[0, 0, 0]
        self.alive = (arrays, fields, sums)

    cdef object scratch(self, int threads):
        floats_of_each = attention_scratch(self.T, self.D // self.H)
        floats_of_each += lattice_scratch(self.T, ATTENTION_QUERIES)
        return np.empty((threads, floats_of_each), np.float32)
