"""Matrix product with an optional bias; the mirror of `cllm.reference.linear`."""

import numpy as np

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, panels, shape_of
from .kernels cimport TILE_ROWS, Rows, kernels, share, team_size
from .reduction cimport ROW_BLOCK, add_blocks_body, block_sums_body


cdef void linear_forward_body(
    float *out, const float *start, Py_ssize_t start_row, const float *x, const float *weight,
    float *panel, Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil:
    """Rows of out = start + x W: start_row is 0 for a bias, M for a residual; NULL is zero."""
    kernels.gemm(
        rows.stop - rows.start, M, K, x + rows.start * K, K, 1, weight, M, 1,
        out + rows.start * M, M,
        start + rows.start * start_row if start != NULL else NULL, start_row, panel,
    )


def linear_forward(out, x, weight, bias, *, int threads=1):
    """Out (B,T,M) = x W + b, of x (B,T,K), W (K,M) and b (M,) or None, float32."""
    cdef Py_ssize_t B, T, K, M
    B, T, K = shape_of("x", x, "BTK")
    M = shape_of("weight", weight, "KM")[1]
    cdef float *out_ = floats("out", out, (B, T, M), True)
    cdef const float *x_ = floats("x", x, (B, T, K))
    cdef const float *weight_ = floats("weight", weight, (K, M))
    cdef const float *bias_ = NULL
    inputs = {"x": x, "weight": weight}
    if bias is not None:
        bias_ = floats("bias", bias, (M,))
        inputs["bias"] = bias
    disjoint({"out": out}, inputs)
    threads = check_threads(threads)
    cdef float[:, ::1] panel = panels(threads)
    with nogil, parallel(num_threads=threads):
        linear_forward_body(
            out_, bias_, 0, x_, weight_, &panel[threadid(), 0], K, M,
            share(B * T, TILE_ROWS, threadid(), team_size()),
        )


cdef void linear_backward_input_body(
    float *dx, const float *dout, const float *weight, float *panel,
    Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil:
    """Rows of dx."""
    # out = x @ weight + bias
    kernels.gemm(
        rows.stop - rows.start, K, M, dout + rows.start * M, M, 1, weight, 1, M,
        dx + rows.start * K, K, NULL, 0, panel,
    )


cdef void linear_backward_input_times_body(
    float *dx, const float *dout, const float *weight, float *panel,
    Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil:
    """Rows of dx *= the gradient of x: through what x came from, whose derivative dx held."""
    # out = x @ weight + bias
    kernels.gemm_times(
        rows.stop - rows.start, K, M, dout + rows.start * M, M, 1, weight, 1, M,
        dx + rows.start * K, K, panel,
    )


cdef void linear_backward_weight_body(
    float *dweight, bint fresh, const float *dout, const float *x, float *panel,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil:
    """Rows of dweight: added to, or written where it is fresh."""
    cdef float *to = dweight + rows.start * M
    # out = x @ weight + bias
    kernels.gemm(
        rows.stop - rows.start, M, N, x + rows.start, 1, K, dout, M, 1,
        to, M, NULL if fresh else to, M, panel,
    )


def linear_backward(dx, dweight, dbias, dout, x, weight, *, int threads=1):
    """Write dx (B,T,K), add to dweight (K,M) and dbias (M,) or None, float32."""
    cdef Py_ssize_t B, T, K, M
    B, T, K = shape_of("x", x, "BTK")
    M = shape_of("weight", weight, "KM")[1]
    cdef float *dx_ = floats("dx", dx, (B, T, K), True)
    cdef float *dweight_ = floats("dweight", dweight, (K, M), True)
    cdef float *dbias_ = NULL
    cdef const float *dout_ = floats("dout", dout, (B, T, M))
    cdef const float *x_ = floats("x", x, (B, T, K))
    cdef const float *weight_ = floats("weight", weight, (K, M))
    outputs = {"dx": dx, "dweight": dweight}
    if dbias is not None:
        dbias_ = floats("dbias", dbias, (M,), True)
        outputs["dbias"] = dbias
    disjoint(outputs, {"dout": dout, "x": x, "weight": weight})
    threads = check_threads(threads)
    cdef Py_ssize_t N = B * T
    cdef float[:, ::1] panel = panels(threads)
    cdef float[:, ::1] sums = np.empty(((N + ROW_BLOCK - 1) // ROW_BLOCK, M), np.float32)
    with nogil, parallel(num_threads=threads):
        linear_backward_input_body(
            dx_, dout_, weight_, &panel[threadid(), 0], K, M,
            share(N, TILE_ROWS, threadid(), team_size()),
        )
        linear_backward_weight_body(
            dweight_, False, dout_, x_, &panel[threadid(), 0], N, K, M,
            share(K, TILE_ROWS, threadid(), team_size()),
        )
        block_sums_body(&sums[0, 0], dout_, M, share(N, ROW_BLOCK, threadid(), team_size()))
    if dbias_ != NULL:
        with nogil, parallel(num_threads=threads):
            add_blocks_body(
                dbias_, False, &sums[0, 0], M, N, share(M, 1, threadid(), team_size())
            )
