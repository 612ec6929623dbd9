from .kernels cimport Rows

cdef void cross_entropy_forward_body(
    float *losses, const float *logits, const int *targets, Py_ssize_t V, Rows rows
) noexcept nogil

cdef void cross_entropy_backward_body(
    float *losses, float *dlogits, const float *logits, const int *targets, double divisor,
    Py_ssize_t V, Rows rows,
) noexcept nogil
