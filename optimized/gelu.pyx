"""Gaussian error linear unit in its tanh form; the mirror of `cllm.reference.gelu`.

The derivative costs little beside the exponential that both share: forward leaves it, and backward
is a product.
"""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport Rows, kernels, share, team_size


cdef void gelu_forward_body(
    float *out, float *slope, const float *x, Py_ssize_t F, Rows rows
) noexcept nogil:
    """Rows of out and of the derivative at x; either may be NULL or x."""
    cdef Py_ssize_t start = rows.start * F
    kernels.gelu(
        out + start if out != NULL else NULL, slope + start if slope != NULL else NULL,
        x + start, (rows.stop - rows.start) * F,
    )


def gelu_forward(out, x, *, int threads=1):
    """Out (B,T,F) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))), float32."""
    cdef Py_ssize_t B, T, F
    B, T, F = shape_of("x", x, "BTF")
    cdef float *out_ = floats("out", out, (B, T, F), True)
    cdef const float *x_ = floats("x", x, (B, T, F))
    disjoint({"out": out}, {"x": x})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        gelu_forward_body(out_, NULL, x_, F, share(B * T, 1, threadid(), team_size()))


cdef void gelu_backward_body(
    float *dx, const float *dout, const float *x, Py_ssize_t F, Rows rows
) noexcept nogil:
    """Rows of dx."""
    cdef Py_ssize_t i
    gelu_forward_body(NULL, dx, x, F, rows)
    for i in range(rows.start * F, rows.stop * F):
        dx[i] *= dout[i]


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
        gelu_backward_body(dx_, dout_, x_, F, share(B * T, 1, threadid(), team_size()))
