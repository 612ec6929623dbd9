"""Gaussian error linear unit in its tanh form; the mirror of `cllm.reference.gelu`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void gelu_forward_body(
    float *out, const float *x, Py_ssize_t N, Py_ssize_t F, int thread, int threads
) noexcept nogil:
    """Rows by thread; out may be x."""
    cdef Py_ssize_t n
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
        kernels.gelu_forward(out + n * F, x + n * F, F)


def gelu_forward(out, x, *, int threads=1):
    """Out (B,T,F) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))), float32."""
    cdef Py_ssize_t B, T, F
    B, T, F = shape_of("x", x, "BTF")
    cdef float *out_ = floats("out", out, (B, T, F), True)
    cdef const float *x_ = floats("x", x, (B, T, F))
    disjoint({"out": out}, {"x": x})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        gelu_forward_body(out_, x_, B * T, F, threadid(), team_size())


cdef void gelu_backward_body(
    float *dx, const float *dout, const float *x, Py_ssize_t N, Py_ssize_t F,
    int thread, int threads,
) noexcept nogil:
    """Rows by thread; dx may be dout."""
    cdef Py_ssize_t n
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
        kernels.gelu_backward(dx + n * F, dout + n * F, x + n * F, F)


def gelu_backward(dx, dout, x, *, int threads=1):
    """Write dx (B,T,F), float32."""
    cdef Py_ssize_t B, T, F
    B, T, F = shape_of("x", x, "BTF")
    cdef float *dx_ = floats("dx", dx, (B, T, F), True)
    cdef const float *dout_ = floats("dout", dout, (B, T, F))
    cdef const float *x_ = floats("x", x, (B, T, F))
    disjoint({"dx": dx}, {"dout": dout, "x": x})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        gelu_backward_body(dx_, dout_, x_, B * T, F, threadid(), team_size())
