cdef void gelu_forward_body(
    float *out, const float *x, Py_ssize_t N, Py_ssize_t F, int thread, int threads
) noexcept nogil

cdef void gelu_backward_body(
    float *dx, const float *dout, const float *x, Py_ssize_t N, Py_ssize_t F,
    int thread, int threads,
) noexcept nogil
