cdef void unembedding_forward_body(
    float *logits, const float *x, const float *weight,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil

cdef void unembedding_backward_input_body(
    float *dx, const float *dlogits, const float *weight,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil

cdef void unembedding_backward_weight_body(
    float *dweight, const float *dlogits, const float *x,
    Py_ssize_t N, Py_ssize_t V, Py_ssize_t D, int thread, int threads,
) noexcept nogil
