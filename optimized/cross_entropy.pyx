"""Cross entropy of a softmax over the vocabulary; the mirror of `cllm.reference.cross_entropy`."""

from cllm.check import check_number
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport log
from libc.string cimport memset

from .arguments cimport disjoint, floats, ids, shape_of
from .kernels cimport kernels, share_start, team_size

cdef enum:
    BLOCK = 256


cdef void cross_entropy_forward_body(
    float *losses, const float *logits, const int *targets, Py_ssize_t N, Py_ssize_t V,
    int thread, int threads,
) noexcept nogil:
    """Rows by thread."""
    cdef Py_ssize_t n, v, block, width
    cdef float exps[BLOCK]
    cdef float top
    cdef double total
    cdef const float *row
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
        if targets[n] < 0:
            losses[n] = 0.0
            continue
        row = logits + n * V
        top = kernels.max(row, V)
        total = 0.0
        for block in range((V + BLOCK - 1) // BLOCK):
            v = block * BLOCK
            width = min(<Py_ssize_t> BLOCK, V - v)
            kernels.exp_shifted(exps, row + v, 1.0, top, width)
            total += kernels.sum(exps, width)
        losses[n] = <float> (log(total) + (<double> top - row[targets[n]]))


def cross_entropy_forward(losses, logits, targets, *, int threads=1):
    """Losses (B,T) = -log softmax(logits)[target], 0 where the target is -1.

    Of logits (B,T,V) float32 and targets (B,T) int32 in -1..V-1.
    """
    cdef Py_ssize_t B, T, V
    B, T, V = shape_of("logits", logits, "BTV")
    cdef float *losses_ = floats("losses", losses, (B, T), True)
    cdef const float *logits_ = floats("logits", logits, (B, T, V))
    cdef const int *targets_ = ids("targets", targets, (B, T), -1, V)
    disjoint({"losses": losses}, {"logits": logits, "targets": targets})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        cross_entropy_forward_body(losses_, logits_, targets_, B * T, V, threadid(), team_size())


cdef void cross_entropy_backward_body(
    float *dlogits, const float *logits, const int *targets, double divisor,
    Py_ssize_t N, Py_ssize_t V, int thread, int threads,
) noexcept nogil:
    """Rows by thread; dlogits may be logits."""
    cdef Py_ssize_t n, v
    cdef float factor, share = <float> (1.0 / divisor)
    cdef float *row
    for n in range(share_start(N, thread, threads), share_start(N, thread + 1, threads)):
        row = dlogits + n * V
        if targets[n] < 0:
            memset(row, 0, V * sizeof(float))
            continue
        # losses = log(sum(exp(logits))) - logits[target]
        kernels.exp_shifted(row, logits + n * V, 1.0, kernels.max(logits + n * V, V), V)
        factor = <float> (1.0 / (divisor * kernels.sum(row, V)))
        for v in range(V):
            row[v] *= factor
        row[targets[n]] -= share


def cross_entropy_backward(dlogits, logits, targets, divisor, *, int threads=1):
    """Write dlogits (B,T,V), the gradient of sum(losses) / divisor; may be `logits` itself."""
    cdef Py_ssize_t B, T, V
    cdef double divisor_ = check_number("divisor", divisor, 0.0, float("inf"), open_below=True)
    B, T, V = shape_of("logits", logits, "BTV")
    cdef float *dlogits_ = floats("dlogits", dlogits, (B, T, V), True)
    cdef const float *logits_ = floats("logits", logits, (B, T, V))
    cdef const int *targets_ = ids("targets", targets, (B, T), -1, V)
    disjoint({"dlogits": dlogits}, {"targets": targets})
    if dlogits_ != logits_:
        disjoint({"dlogits": dlogits}, {"logits": logits})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        cross_entropy_backward_body(
            dlogits_, logits_, targets_, divisor_, B * T, V, threadid(), team_size()
        )
