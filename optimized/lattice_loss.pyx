"""The lattice loss; the mirror of `cllm.reference.lattice_loss`.

The work comes in chunks of columns of one head: every row that a chunk's gradient reaches is its
own, so that threads share nothing.
"""

import numpy as np

from cllm.check import check_array
from cllm.lattice.relations import relations_of
from cllm.lattice.symmetry import ORDER
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t

from .arguments cimport disjoint, floats, shape_of
from .attention cimport check_heads
from .kernels cimport LATTICE_COLUMNS, Rows, kernels, share, team_size


def loss_arrays(vocab_size):
    """The arrays of `cllm.lattice.relations.Relations` by the names that a plan has for them."""
    relations = relations_of(vocab_size)
    return {
        "lattice_neighbours": relations.neighbours,
        "lattice_nearness": relations.nearness.astype(np.float32),
        "lattice_composites": relations.composites,
        "lattice_factor_starts": relations.starts,
        "lattice_primes": relations.primes,
        "lattice_exponents": relations.exponents.astype(np.float32),
    }


cdef LatticeLoss loss_from(object arrays, Py_ssize_t V, object weights):
    """The addresses of arrays that are named as `loss_arrays` names them."""
    cdef LatticeLoss loss
    relations = relations_of(V)
    loss.graph.tokens = V
    loss.graph.near = relations.neighbours.shape[1]
    loss.graph.composites = len(relations.composites)
    loss.graph.neighbour = <const int *> <size_t> arrays["lattice_neighbours"].ctypes.data
    loss.graph.nearness = <const float *> <size_t> arrays["lattice_nearness"].ctypes.data
    loss.graph.composite = <const int *> <size_t> arrays["lattice_composites"].ctypes.data
    loss.graph.start = <const int64_t *> <size_t> arrays["lattice_factor_starts"].ctypes.data
    loss.graph.prime = <const int *> <size_t> arrays["lattice_primes"].ctypes.data
    loss.graph.exponent = <const float *> <size_t> arrays["lattice_exponents"].ctypes.data
    loss.counts[0] = relations.neighbours.size
    loss.counts[1] = V // ORDER * ORDER
    loss.counts[2] = loss.graph.composites
    loss.weights[0], loss.weights[1], loss.weights[2] = weights
    return loss


cdef Py_ssize_t lattice_chunks(Py_ssize_t D, Py_ssize_t H) noexcept nogil:
    """How many chunks of at most LATTICE_COLUMNS columns the heads have."""
    return H * ((D // H + LATTICE_COLUMNS - 1) // LATTICE_COLUMNS)


def lattice_loss_chunks(embed_dim, num_heads):
    """How many chunks of columns there are."""
    return lattice_chunks(embed_dim, num_heads)


cdef Rows columns_of(Py_ssize_t chunk, Py_ssize_t D, Py_ssize_t H) noexcept nogil:
    cdef Py_ssize_t each = lattice_chunks(D, H) // H, width = D // H, head = chunk // each
    cdef Rows columns
    columns.start = head * width + chunk % each * LATTICE_COLUMNS
    columns.stop = min(columns.start + LATTICE_COLUMNS, (head + 1) * width)
    return columns


cdef void lattice_loss_forward_body(
    double *sums, const float *embedding, const LatticeLoss *loss, Py_ssize_t D, Py_ssize_t H,
    Rows chunks,
) noexcept nogil:
    """Chunks of sums (chunks,4)."""
    cdef Py_ssize_t chunk
    cdef Rows columns
    for chunk in range(chunks.start, chunks.stop):
        columns = columns_of(chunk, D, H)
        kernels.lattice_loss_sums(
            sums + 4 * chunk, embedding + columns.start, D, columns.stop - columns.start,
            &loss.graph,
        )


cdef void lattice_terms_of(
    double *terms, const double *sums, const LatticeLoss *loss, Py_ssize_t chunks
) noexcept nogil:
    """Terms (4,), from the sums of all chunks in their order."""
    cdef Py_ssize_t i, chunk
    cdef double total
    for i in range(4):
        total = 0.0
        for chunk in range(chunks):
            total += sums[4 * chunk + i]
        if i == 0:
            terms[0] = total / loss.graph.tokens
        elif loss.counts[i - 1] == 0 or terms[0] == 0:
            terms[i] = 0.0
        else:
            terms[i] = total / (loss.counts[i - 1] * terms[0])


cdef double lattice_loss_of(const double *terms, const LatticeLoss *loss) noexcept nogil:
    """The weighted sum of the terms."""
    cdef Py_ssize_t i
    cdef double total = 0.0
    for i in range(3):
        total += loss.weights[i] * terms[i + 1]
    return total


def lattice_loss_forward(terms, embedding, num_heads, *, int threads=1):
    """Terms (4,) float64 = m and the geometric, symmetry and prime term, of E (V,D) float32."""
    cdef Py_ssize_t V, D, H = num_heads, chunks
    V, D = shape_of("embedding", embedding, "VD")
    check_heads(D, num_heads)
    cdef const float *embedding_ = floats("embedding", embedding, (V, D))
    cdef double *terms_ = doubles(terms, True)
    disjoint({"terms": terms}, {"embedding": embedding})
    threads = check_threads(threads)
    arrays = loss_arrays(V)
    cdef LatticeLoss loss = loss_from(arrays, V, (0.0, 0.0, 0.0))
    chunks = lattice_chunks(D, H)
    cdef double[:, ::1] sums = np.empty((chunks, 4))
    with nogil, parallel(num_threads=threads):
        lattice_loss_forward_body(
            &sums[0, 0], embedding_, &loss, D, H, share(chunks, 1, threadid(), team_size())
        )
    lattice_terms_of(terms_, &sums[0, 0], &loss, chunks)


cdef void lattice_loss_backward_body(
    float *dembedding, const double *terms, const float *embedding, const LatticeLoss *loss,
    double part, Py_ssize_t D, Py_ssize_t H, Rows chunks,
) noexcept nogil:
    """Chunks of columns of dembedding."""
    cdef Py_ssize_t chunk, i
    cdef Rows columns
    cdef float[4] factors
    if terms[0] == 0:
        return
    # each term is divided by m, which is a mean over E as well
    factors[0] = <float> (
        2.0 * part * lattice_loss_of(terms, loss) / (loss.graph.tokens * terms[0])
    )
    for i in range(3):
        factors[i + 1] = <float> (
            2.0 * part * loss.weights[i] / (loss.counts[i] * terms[0]) if loss.counts[i] else 0.0
        )
    for chunk in range(chunks.start, chunks.stop):
        columns = columns_of(chunk, D, H)
        kernels.lattice_loss_gradient(
            dembedding + columns.start, embedding + columns.start, D,
            columns.stop - columns.start, &loss.graph, factors,
        )


def lattice_loss_backward(
    dembedding, terms, embedding, weights, num_heads, part, *, int threads=1
):
    """Add to dembedding (V,D) this part of the gradient of the weighted sum of terms (4,)."""
    cdef Py_ssize_t V, D, H = num_heads, chunks
    cdef double part_ = part
    V, D = shape_of("embedding", embedding, "VD")
    check_heads(D, num_heads)
    cdef float *dembedding_ = floats("dembedding", dembedding, (V, D), True)
    cdef const float *embedding_ = floats("embedding", embedding, (V, D))
    cdef const double *terms_ = doubles(terms, False)
    disjoint({"dembedding": dembedding}, {"terms": terms, "embedding": embedding})
    threads = check_threads(threads)
    arrays = loss_arrays(V)
    cdef LatticeLoss loss = loss_from(arrays, V, weights)
    chunks = lattice_chunks(D, H)
    with nogil, parallel(num_threads=threads):
        lattice_loss_backward_body(
            dembedding_, terms_, embedding_, &loss, part_, D, H,
            share(chunks, 1, threadid(), team_size()),
        )


cdef double *doubles(object terms, bint writable) except NULL:
    check_array("terms", terms, (4,), np.float64, writable)
    return <double *> <size_t> terms.ctypes.data
