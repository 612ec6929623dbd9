"""Residual addition; the mirror of `cllm.reference.residual`.

In every file of this folder: a body `op_..._body` computes the share of one thread and opens no
parallel region; the public function of the reference's name checks its arguments and opens one
around it. N = B·T rows; the other letters are the reference's.
"""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void residual_forward_body(
    float *out, const float *x, const float *branch, Py_ssize_t N, Py_ssize_t D,
    int thread, int threads,
) noexcept nogil:
    """Rows by thread; out may be x or branch."""
    cdef Py_ssize_t start = share_start(N, thread, threads) * D
    cdef Py_ssize_t stop = share_start(N, thread + 1, threads) * D
    kernels.add(out + start, x + start, branch + start, stop - start)


def residual_forward(out, x, branch, *, int threads=1):
    """Out (B,T,D) = x + branch, float32."""
    shape = shape_of("x", x, "BTD")
    cdef float *out_ = floats("out", out, shape, True)
    cdef const float *x_ = floats("x", x, shape)
    cdef const float *branch_ = floats("branch", branch, shape)
    disjoint({"out": out}, {"x": x, "branch": branch})
    cdef Py_ssize_t N = shape[0] * shape[1], D = shape[2]
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        residual_forward_body(out_, x_, branch_, N, D, threadid(), team_size())
