from .kernels cimport LatticeGraph, Rows

cdef struct LatticeLoss:
    # What it is computed from: the graph, its counts in the order of the terms, and their weights.
    LatticeGraph graph
    double[3] counts
    double[3] weights

cdef LatticeLoss loss_from(object arrays, Py_ssize_t V, object weights)

cdef Py_ssize_t lattice_chunks(Py_ssize_t D, Py_ssize_t H) noexcept nogil

cdef void lattice_loss_forward_body(
    double *sums, const float *embedding, const LatticeLoss *loss, Py_ssize_t D, Py_ssize_t H,
    Rows chunks,
) noexcept nogil

cdef void lattice_terms_of(
    double *terms, const double *sums, const LatticeLoss *loss, Py_ssize_t chunks
) noexcept nogil

cdef double lattice_loss_of(const double *terms, const LatticeLoss *loss) noexcept nogil

cdef void lattice_loss_backward_body(
    float *dembedding, const double *terms, const float *embedding, const LatticeLoss *loss,
    double part, Py_ssize_t D, Py_ssize_t H, Rows chunks,
) noexcept nogil
