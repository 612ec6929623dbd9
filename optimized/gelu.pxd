from .kernels cimport Rows

cdef void gelu_forward_body(
    float *out, float *slope, const float *x, Py_ssize_t F, Rows rows
) noexcept nogil
