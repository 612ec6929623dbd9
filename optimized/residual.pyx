"""Residual addition; the mirror of `cllm.reference.residual`.

In every file of this folder: a body `op_..._body` computes the rows that it is given and opens no
parallel region; the public function of the reference's name checks its arguments, opens one
around it and gives each thread its share. N = B·T rows; the other letters are the reference's.
"""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport Rows, kernels, share, team_size


cdef void residual_forward_body(
    float *out, const float *x, const float *branch, Py_ssize_t D, Rows rows
) noexcept nogil:
    """Rows of out, which may be x or branch."""
    cdef Py_ssize_t start = rows.start * D
    kernels.add(out + start, x + start, branch + start, (rows.stop - rows.start) * D)


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
        residual_forward_body(out_, x_, branch_, D, share(N, 1, threadid(), team_size()))
