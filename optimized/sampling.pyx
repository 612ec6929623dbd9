"""Drawing a token from logits; the mirror of `cllm.reference.sampling`.

The tokens lie in a heap by falling logit, equal ones by rising id, and are taken from it only
as far as the draw reaches: O(V) and a logarithm for each token taken.
"""

import numpy as np

from cllm.check import check_number
from cllm.decoder import Sampling

from libc.math cimport exp

from .arguments cimport floats, shape_of


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


cdef int sample_body(
    int *order, const float *logits, Py_ssize_t V, double temperature, Py_ssize_t top_k,
    double top_p, double uniform,
) noexcept nogil:
    """`order` is scratch for V ids; a top_k of 0 keeps all."""
    cdef Py_ssize_t v, taken = 0, kept = min(top_k, V) if top_k > 0 else V, rank
    cdef double top, total = 0.0, cumulative = 0.0, goal
    for v in range(V):
        order[v] = <int> v
    for v in range(V // 2 - 1, -1, -1):
        sift_down(order, V, v, logits)
    if temperature == 0.0:
        return order[0]
    top = logits[order[0]]
    if kept < V:
        for taken in range(kept):
            take(order, V, taken, logits)
            total += exp((logits[order[V - 1 - taken]] - top) / temperature)
        taken = kept
    else:
        for v in range(V):
            total += exp((logits[v] - top) / temperature)
    if top_p < 1.0:
        goal = top_p * total
        total = 0.0
        for rank in range(kept):
            if rank == taken:
                take(order, V, taken, logits)
                taken += 1
            total += exp((logits[order[V - 1 - rank]] - top) / temperature)
            if total >= goal:
                kept = rank + 1
                break
    goal = uniform * total
    for rank in range(kept):
        if rank == taken:
            take(order, V, taken, logits)
            taken += 1
        cumulative += exp((logits[order[V - 1 - rank]] - top) / temperature)
        if cumulative > goal:
            return order[V - 1 - rank]
    return order[V - kept]


def sample(logits, temperature, top_k, top_p, uniform):
    """The token id that `uniform` in [0,1) falls on, of logits (V,) float32.

    Tokens lie by falling logit, equal ones by rising id. The `top_k` first are kept, of these
    the fewest whose share of the probability reaches `top_p`; temperature 0 gives the first.
    """
    Sampling(temperature, top_k, top_p)  # refuses what is out of range
    cdef Py_ssize_t V = shape_of("logits", logits, "V")[0]
    cdef const float *logits_ = floats("logits", logits, (V,))
    cdef int[::1] order = np.empty(V, np.intc)
    return sample_body(
        &order[0], logits_, V, temperature, 0 if top_k is None else top_k, top_p,
        check_number("uniform", uniform, 0.0, 1.0),
    )
