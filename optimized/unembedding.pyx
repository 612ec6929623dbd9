"""Logits from the tied embedding; the mirror of `cllm.reference.unembedding`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void unembedding_forward_body(
    float *logits, const float *x, const float *weight,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Rows of logits by thread."""
    cdef Py_ssize_t start = share_start(N, thread, threads)
    cdef Py_ssize_t stop = share_start(N, thread + 1, threads)
    kernels.gemm(stop - start, V, D, x + start * D, D, 1, weight, 1, D, logits + start * V, V, 0)


def unembedding_forward(logits, x, weight, *, int threads=1):
    """Logits (B,T,V) = x Eᵀ, of x (B,T,D) and E (V,D), float32."""
    cdef Py_ssize_t B, T, V, D
    B, T, D = shape_of("x", x, "BTD")
    V = shape_of("weight", weight, "VD")[0]
    cdef float *logits_ = floats("logits", logits, (B, T, V), True)
    cdef const float *x_ = floats("x", x, (B, T, D))
    cdef const float *weight_ = floats("weight", weight, (V, D))
    disjoint({"logits": logits}, {"x": x, "weight": weight})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        unembedding_forward_body(logits_, x_, weight_, B * T, V, D, threadid(), team_size())


cdef void unembedding_backward_input_body(
    float *dx, const float *dlogits, const float *weight,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Rows of dx by thread."""
    cdef Py_ssize_t start = share_start(N, thread, threads)
    cdef Py_ssize_t stop = share_start(N, thread + 1, threads)
    # logits = x @ weight.T
    kernels.gemm(stop - start, D, V, dlogits + start * V, V, 1, weight, D, 1, dx + start * D, D, 0)


cdef void unembedding_backward_weight_body(
    float *dweight, const float *dlogits, const float *x,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Rows of dweight by thread."""
    cdef Py_ssize_t start = share_start(V, thread, threads)
    cdef Py_ssize_t stop = share_start(V, thread + 1, threads)
    # logits = x @ weight.T
    kernels.gemm(stop - start, D, N, dlogits + start, 1, V, x, D, 1, dweight + start * D, D, 1)


def unembedding_backward(dx, dweight, dlogits, x, weight, *, int threads=1):
    """Write dx (B,T,D), add to dweight (V,D), float32."""
    cdef Py_ssize_t B, T, V, D
    B, T, D = shape_of("x", x, "BTD")
    V = shape_of("weight", weight, "VD")[0]
    cdef float *dx_ = floats("dx", dx, (B, T, D), True)
    cdef float *dweight_ = floats("dweight", dweight, (V, D), True)
    cdef const float *dlogits_ = floats("dlogits", dlogits, (B, T, V))
    cdef const float *x_ = floats("x", x, (B, T, D))
    cdef const float *weight_ = floats("weight", weight, (V, D))
    disjoint({"dx": dx, "dweight": dweight}, {"dlogits": dlogits, "x": x, "weight": weight})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        unembedding_backward_input_body(
            dx_, dlogits_, weight_, B * T, V, D, threadid(), team_size()
        )
        unembedding_backward_weight_body(
            dweight_, dlogits_, x_, B * T, V, D, threadid(), team_size()
        )
