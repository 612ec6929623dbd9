from .kernels cimport Rows

cdef void unembedding_forward_body(
    float *logits, const float *x, const float *weight, float *panel,
    Py_ssize_t V, Py_ssize_t D, Rows rows,
) noexcept nogil

cdef void unembedding_backward_input_body(
    float *dx, const float *dlogits, const float *weight, float *panel,
    Py_ssize_t V, Py_ssize_t D, Rows rows,
) noexcept nogil

cdef void unembedding_backward_weight_body(
    float *dweight, bint fresh, const float *dlogits, const float *x, float *panel,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, Rows ids,
) noexcept nogil
