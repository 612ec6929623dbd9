cdef void residual_forward_body(
    float *out, const float *x, const float *branch, Py_ssize_t N, Py_ssize_t D,
    int thread, int threads,
) noexcept nogil
