from .kernels cimport Rows

cdef void symmetry_forward_body(
    float *qkv, const int *tokens, Py_ssize_t D, Py_ssize_t H, Rows rows
) noexcept nogil

cdef void symmetry_backward_body(
    float *dqkv, const int *tokens, Py_ssize_t D, Py_ssize_t H, Rows rows
) noexcept nogil

cdef void symmetry_decode_body(
    float *qkv, int token, Py_ssize_t D, Py_ssize_t H, Rows heads
) noexcept nogil
