"""Cross entropy of a softmax over the vocabulary; the mirror of `cllm.reference.cross_entropy`."""

from cllm.check import check_number
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport log
from libc.string cimport memset

from .arguments cimport disjoint, floats, ids, shape_of
from .kernels cimport Rows, kernels, share, team_size


cdef float loss_of(float total, float top, float logit) noexcept nogil:
    """-log(exp(logit - top) / total)."""
    return <float> (log(total) + (<double> top - logit))


cdef void cross_entropy_forward_body(
    float *losses, const float *logits, const int *targets, Py_ssize_t V, Rows rows
) noexcept nogil:
    """Rows of losses."""
    cdef Py_ssize_t n
    cdef float top
    cdef const float *row
    for n in range(rows.start, rows.stop):
        losses[n] = 0.0
        if targets[n] >= 0:
            row = logits + n * V
            top = kernels.max(row, V)
            losses[n] = loss_of(kernels.exp_sum(NULL, row, 1.0, top, V), top, row[targets[n]])


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
        cross_entropy_forward_body(
            losses_, logits_, targets_, V, share(B * T, 1, threadid(), team_size())
        )


cdef void cross_entropy_backward_body(
    float *losses, float *dlogits, const float *logits, const int *targets, double divisor,
    Py_ssize_t V, Rows rows,
) noexcept nogil:
    """Rows of dlogits, which may be logits, and of losses unless they are NULL: forward and
    backward look at each logit once."""
    cdef Py_ssize_t n
    cdef float top, total, logit
    cdef float *row
    for n in range(rows.start, rows.stop):
        row = dlogits + n * V
        if targets[n] < 0:
            memset(row, 0, V * sizeof(float))
            if losses != NULL:
                losses[n] = 0.0
            continue
        logit = logits[n * V + targets[n]]
        top = kernels.max(logits + n * V, V)
        total = kernels.exp_sum(row, logits + n * V, 1.0, top, V)
        if losses != NULL:
            losses[n] = loss_of(total, top, logit)
        # losses = log(sum(exp(logits))) - logits[target]
        kernels.scale(row, <float> (1.0 / (divisor * total)), V)
        row[targets[n]] -= <float> (1.0 / divisor)


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
            NULL, dlogits_, logits_, targets_, divisor_, V,
            share(B * T, 1, threadid(), team_size()),
        )
