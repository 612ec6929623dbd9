"""Layer normalization; the mirror of `cllm.reference.layernorm`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void layernorm_forward_body(
    float *out, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
    Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Rows by thread."""
    cdef Py_ssize_t n
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
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
            out_, mean_, rstd_, x_, gain_, shift_, B * T, D, threadid(), team_size()
        )


cdef void layernorm_backward_input_body(
    float *dx, const float *dout, const float *x, const float *mean, const float *rstd,
    const float *gain, Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Rows of dx by thread."""
    cdef Py_ssize_t n
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
        kernels.layernorm_backward(dx + n * D, dout + n * D, x + n * D, mean[n], rstd[n], gain, D)


cdef void layernorm_backward_weight_body(
    float *dgain, float *dshift, const float *dout, const float *x, const float *mean,
    const float *rstd, Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil:
    """Elements of dgain and dshift by thread: each sums its own columns over all rows."""
    cdef Py_ssize_t n, d
    cdef Py_ssize_t start = share_start(D, thread, threads)
    cdef Py_ssize_t stop = share_start(D, thread + 1, threads)
    for n in range(N):
        # out = gain * (x - mean) * rstd + shift
        for d in range(start, stop):
            dgain[d] += dout[n * D + d] * ((x[n * D + d] - mean[n]) * rstd[n])
            dshift[d] += dout[n * D + d]


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
    with nogil, parallel(num_threads=threads):
        layernorm_backward_input_body(
            dx_, dout_, x_, mean_, rstd_, gain_, B * T, D, threadid(), team_size()
        )
        layernorm_backward_weight_body(
            dgain_, dshift_, dout_, x_, mean_, rstd_, B * T, D, threadid(), team_size()
        )
