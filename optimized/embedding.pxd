from .kernels cimport Rows

cdef void embedding_forward_body(
    float *out, const int *tokens, const float *weight, const float *positions,
    Py_ssize_t T, Py_ssize_t D, Rows rows,
) noexcept nogil

cdef void embedding_backward_body(
    float *dweight, const float *dout, const int *tokens, Py_ssize_t N, Py_ssize_t D, Rows rows
) noexcept nogil
