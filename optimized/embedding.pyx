"""Token embedding with fixed positions; the mirror of `cllm.reference.embedding`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport sqrt

from .arguments cimport disjoint, floats, ids, shape_of
from .kernels cimport Rows, kernels, share, team_size


cdef void embedding_forward_body(
    float *out, const int *tokens, const float *weight, const float *positions,
    Py_ssize_t T, Py_ssize_t D, Rows rows,
) noexcept nogil:
    """Rows of out."""
    cdef Py_ssize_t n, d
    cdef float scale = <float> sqrt(<double> D)
    cdef const float *e
    cdef const float *p
    for n in range(rows.start, rows.stop):
        e = weight + tokens[n] * D
        p = positions + (n % T) * D
        for d in range(D):
            out[n * D + d] = scale * e[d] + p[d]


def embedding_forward(out, tokens, weight, positions, *, int threads=1):
    """Out (B,T,D) = sqrt(D) E[t] + P, of tokens (B,T) int32, E (V,D) and P (>=T,D) float32."""
    cdef Py_ssize_t B, T, V, D
    B, T = shape_of("tokens", tokens, "BT")
    V, D = shape_of("weight", weight, "VD")
    length = max(T, shape_of("positions", positions, "TD")[0])
    cdef float *out_ = floats("out", out, (B, T, D), True)
    cdef const int *tokens_ = ids("tokens", tokens, (B, T), 0, V)
    cdef const float *weight_ = floats("weight", weight, (V, D))
    cdef const float *positions_ = floats("positions", positions, (length, D))
    disjoint({"out": out}, {"tokens": tokens, "weight": weight, "positions": positions})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        embedding_forward_body(
            out_, tokens_, weight_, positions_, T, D, share(B * T, 1, threadid(), team_size())
        )


cdef void embedding_backward_body(
    float *dweight, const float *dout, const int *tokens, Py_ssize_t N, Py_ssize_t D, Rows rows
) noexcept nogil:
    """Rows of dweight: looks at every token and adds to these rows alone."""
    cdef Py_ssize_t n
    cdef float scale = <float> sqrt(<double> D)
    for n in range(N):
        if rows.start <= tokens[n] < rows.stop:
            # out = scale * weight[tokens] + positions
            kernels.axpy(dweight + tokens[n] * D, scale, dout + n * D, D)


def embedding_backward(dweight, dout, tokens, *, int threads=1):
    """Add to dweight (V,D), of dout (B,T,D) float32 and tokens (B,T) int32."""
    cdef Py_ssize_t B, T, V, D
    B, T = shape_of("tokens", tokens, "BT")
    V, D = shape_of("dweight", dweight, "VD")
    cdef float *dweight_ = floats("dweight", dweight, (V, D), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, D))
    cdef const int *tokens_ = ids("tokens", tokens, (B, T), 0, V)
    disjoint({"dweight": dweight}, {"dout": dout, "tokens": tokens})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        embedding_backward_body(
            dweight_, dout_, tokens_, B * T, D, share(V, 1, threadid(), team_size())
        )
