"""Logits from the tied embedding; the mirror of `cllm.reference.unembedding`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, panels, shape_of
from .kernels cimport TILE_ROWS, Rows, kernels, share, team_size


cdef void unembedding_forward_body(
    float *logits, const float *x, const float *weight, float *panel,
    Py_ssize_t V, Py_ssize_t D, Rows rows,
) noexcept nogil:
    """Rows of logits."""
    kernels.gemm(
        rows.stop - rows.start, V, D, x + rows.start * D, D, 1, weight, 1, D,
        logits + rows.start * V, V, NULL, 0, panel,
    )


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
    cdef float[:, ::1] panel = panels(threads)
    with nogil, parallel(num_threads=threads):
        unembedding_forward_body(
            logits_, x_, weight_, &panel[threadid(), 0], V, D,
            share(B * T, TILE_ROWS, threadid(), team_size()),
        )


cdef void unembedding_backward_input_body(
    float *dx, const float *dlogits, const float *weight, float *panel,
    Py_ssize_t V, Py_ssize_t D, Rows rows,
) noexcept nogil:
    """Rows of dx."""
    # logits = x @ weight.T
    kernels.gemm(
        rows.stop - rows.start, D, V, dlogits + rows.start * V, V, 1, weight, D, 1,
        dx + rows.start * D, D, NULL, 0, panel,
    )


cdef void unembedding_backward_weight_body(
    float *dweight, bint fresh, const float *dlogits, const float *x, float *panel,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, Rows ids,
) noexcept nogil:
    """Rows of dweight: added to, or written where it is fresh."""
    cdef float *to = dweight + ids.start * D
    # logits = x @ weight.T
    kernels.gemm(
        ids.stop - ids.start, D, N, dlogits + ids.start, 1, V, x, D, 1,
        to, D, NULL if fresh else to, D, panel,
    )


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
    cdef float[:, ::1] panel = panels(threads)
    with nogil, parallel(num_threads=threads):
        unembedding_backward_input_body(
            dx_, dlogits_, weight_, &panel[threadid(), 0], V, D,
            share(B * T, TILE_ROWS, threadid(), team_size()),
        )
        unembedding_backward_weight_body(
            dweight_, False, dlogits_, x_, &panel[threadid(), 0], B * T, V, D,
            share(V, TILE_ROWS, threadid(), team_size()),
        )
