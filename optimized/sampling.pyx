"""Drawing a token from logits; the mirror of `cllm.reference.sampling`.

Without top-k and top-p, O(V) and nothing is sorted. With them the tokens lie in a heap by falling
logit, equal ones by rising id, and are taken from it until the last one kept is known: O(V) and a
logarithm for each token taken.
"""

import numpy as np

from cllm.check import check_number
from cllm.decoder import Sampling

from libc.float cimport DBL_MAX

from .arguments cimport floats, shape_of
from .kernels cimport kernels


cdef bint before(const float *logits, int a, int b) noexcept nogil:
    """Whether token a comes before token b."""
    return logits[a] > logits[b] or (logits[a] == logits[b] and a < b)


cdef void sift_down(
    int *heap, Py_ssize_t size, Py_ssize_t root, const float *logits
) noexcept nogil:
    cdef Py_ssize_t child
    cdef int token = heap[root]
    while 2 * root + 1 < size:
        child = 2 * root + 1
        if child + 1 < size and before(logits, heap[child + 1], heap[child]):
            child += 1
        if not before(logits, heap[child], token):
            break
        heap[root] = heap[child]
        root = child
    heap[root] = token


cdef void take(int *heap, Py_ssize_t V, Py_ssize_t taken, const float *logits) noexcept nogil:
    """Move the first of the V - taken tokens in the heap behind them."""
    cdef Py_ssize_t last = V - taken - 1
    cdef int first = heap[0]
    heap[0] = heap[last]
    heap[last] = first
    if last > 0:
        sift_down(heap, last, 0, logits)


cdef int last_kept(
    const double *weights, int *order, const float *logits, Py_ssize_t V, Py_ssize_t top_k,
    double top_p,
) noexcept nogil:
    """The last token, by falling logit, that top-k and top-p keep; a top_k of 0 keeps all."""
    cdef Py_ssize_t v, kept = min(top_k, V) if top_k > 0 else V, taken = 0
    cdef double total = 0.0, goal, cumulative = 0.0
    for v in range(V):
        order[v] = <int> v
    for v in range(V // 2 - 1, -1, -1):
        sift_down(order, V, v, logits)
    if kept < V:
        for taken in range(kept):
            take(order, V, taken, logits)
            total += weights[order[V - 1 - taken]]
        taken = kept
        if top_p == 1.0:
            return order[V - kept]
    else:
        total = kernels.sum_double(weights, V)
    goal = top_p * total
    for v in range(kept):
        if v == taken:
            take(order, V, taken, logits)
            taken += 1
        cumulative += weights[order[V - 1 - v]]
        if cumulative >= goal:
            return order[V - 1 - v]
    return order[V - kept]


cdef int sample_body(
    double *weights, int *order, const float *logits, Py_ssize_t V, double temperature,
    Py_ssize_t top_k, double top_p, double uniform,
) noexcept nogil:
    """`weights` and `order` are scratch for V each; a top_k of 0 keeps all."""
    cdef float top = kernels.max(logits, V)
    cdef double goal, cumulative = 0.0
    cdef int v, last = 0
    if temperature == 0.0:
        for v in range(V):
            if logits[v] == top:
                return v
        return 0  # none is a number
    kernels.exp_double(weights, logits, min(1.0 / temperature, DBL_MAX), top, V)
    if top_k > 0 or top_p < 1.0:
        last = last_kept(weights, order, logits, V, top_k, top_p)
        for v in range(V):
            if before(logits, last, v):
                weights[v] = 0.0
    goal = uniform * kernels.sum_double(weights, V)
    for v in range(V):
        cumulative += weights[v]
        if cumulative > goal:
            return v
        if weights[v] > 0.0:
            last = v
    return last


def sample(logits, temperature, top_k, top_p, uniform):
    """The token id that `uniform` in [0,1) falls on, of logits (V,) float32.

    By falling logit, equal ones by rising id, the `top_k` first are kept, of these the fewest
    whose share of the probability reaches `top_p`. The token drawn is the first of these, by
    rising id, whose cumulative probability exceeds `uniform`; temperature 0 gives the first.
    """
    Sampling(temperature, top_k, top_p)  # refuses what is out of range
    cdef Py_ssize_t V = shape_of("logits", logits, "V")[0]
    cdef const float *logits_ = floats("logits", logits, (V,))
    cdef int[::1] order = np.empty(V, np.intc)
    cdef double[::1] weights = np.empty(V)
    return sample_body(
        &weights[0], &order[0], logits_, V, temperature, 0 if top_k is None else top_k, top_p,
        check_number("uniform", uniform, 0.0, 1.0),
    )
