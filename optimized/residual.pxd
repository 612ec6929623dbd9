from .kernels cimport Rows

cdef void residual_forward_body(
    float *out, const float *x, const float *branch, Py_ssize_t D, Rows rows
) noexcept nogil
