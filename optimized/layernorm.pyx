"""Layer normalization; the mirror of `cllm.reference.layernorm`."""

import numpy as np

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.string cimport memset

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport Rows, kernels, share, team_size
from .reduction cimport ROW_BLOCK, add_blocks_body


cdef void layernorm_forward_body(
    float *out, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
    Py_ssize_t D, Rows rows,
) noexcept nogil:
    """Rows of out, mean and rstd."""
    cdef Py_ssize_t n
    for n in range(rows.start, rows.stop):
        kernels.layernorm_forward(out + n * D, mean + n, rstd + n, x + n * D, gain, shift, D)


def layernorm_forward(out, mean, rstd, x, gain, shift, *, int threads=1):
    """Out (B,T,D) = gain (x - mean) rstd + shift, rstd = 1 / sqrt(variance + 1e-5), float32.

    Of x (B,T,D), gain and shift (D,); leaves mean and rstd (B,T) for backward.
    """
    cdef Py_ssize_t B, T, D
    B, T, D = shape_of("x", x, "BTD")
    cdef float *out_ = floats("out", out, (B, T, D), True)
    cdef float *mean_ = floats("mean", mean, (B, T), True)
    cdef float *rstd_ = floats("rstd", rstd, (B, T), True)
    cdef const float *x_ = floats("x", x, (B, T, D))
    cdef const float *gain_ = floats("gain", gain, (D,))
    cdef const float *shift_ = floats("shift", shift, (D,))
    disjoint({"out": out, "mean": mean, "rstd": rstd}, {"x": x, "gain": gain, "shift": shift})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        layernorm_forward_body(
            out_, mean_, rstd_, x_, gain_, shift_, D, share(B * T, 1, threadid(), team_size())
        )


cdef void layernorm_backward_body(
    float *dx, float *sums, const float *dout, const float *dskip, const float *x,
    const float *mean, const float *rstd, const float *gain, Py_ssize_t D, Rows rows,
) noexcept nogil:
    """Rows of dx = dskip + the gradient through the norm; dx may be dout or dskip.

    Leaves in sums (blocks,2,D) what each block of rows adds to dgain and to dshift.
    """
    cdef Py_ssize_t n
    cdef float *block
    for n in range(rows.start, rows.stop):
        block = sums + n // ROW_BLOCK * 2 * D
        if n % ROW_BLOCK == 0:
            memset(block, 0, 2 * D * sizeof(float))
        kernels.layernorm_backward(
            dx + n * D, block, block + D, dout + n * D, dskip + n * D, x + n * D, mean[n],
            rstd[n], gain, D,
        )


def layernorm_backward(dx, dgain, dshift, dout, x, mean, rstd, gain, *, int threads=1):
    """Add to dx (B,T,D), dgain and dshift (D,), float32."""
    cdef Py_ssize_t B, T, D
    B, T, D = shape_of("x", x, "BTD")
    cdef float *dx_ = floats("dx", dx, (B, T, D), True)
    cdef float *dgain_ = floats("dgain", dgain, (D,), True)
    cdef float *dshift_ = floats("dshift", dshift, (D,), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, D))
    cdef const float *x_ = floats("x", x, (B, T, D))
    cdef const float *mean_ = floats("mean", mean, (B, T))
    cdef const float *rstd_ = floats("rstd", rstd, (B, T))
    cdef const float *gain_ = floats("gain", gain, (D,))
    disjoint(
        {"dx": dx, "dgain": dgain, "dshift": dshift},
        {"dout": dout, "x": x, "mean": mean, "rstd": rstd, "gain": gain},
    )
    threads = check_threads(threads)
    cdef Py_ssize_t N = B * T
    sums = np.empty(((N + ROW_BLOCK - 1) // ROW_BLOCK, 2, D), np.float32)
    cdef float *sums_ = floats("sums", sums, sums.shape, True)
    with nogil, parallel(num_threads=threads):
        layernorm_backward_body(
            dx_, sums_, dout_, dx_, x_, mean_, rstd_, gain_, D,
            share(N, ROW_BLOCK, threadid(), team_size()),
        )
    with nogil, parallel(num_threads=threads):
        add_blocks_body(dgain_, False, sums_, 2 * D, N, share(D, 1, threadid(), team_size()))
        add_blocks_body(dshift_, False, sums_ + D, 2 * D, N, share(D, 1, threadid(), team_size()))
