cdef int sample_body(
    double *weights, int *order, const float *logits, Py_ssize_t V, double temperature,
    Py_ssize_t top_k, double top_p, double uniform,
) noexcept nogil
