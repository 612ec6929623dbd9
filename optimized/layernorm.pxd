cdef void layernorm_forward_body(
    float *out, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
    Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil

cdef void layernorm_backward_input_body(
    float *dx, const float *dout, const float *x, const float *mean, const float *rstd,
    const float *gain, Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil

cdef void layernorm_backward_weight_body(
    float *dgain, float *dshift, const float *dout, const float *x, const float *mean,
    const float *rstd, Py_ssize_t N, Py_ssize_t D, int thread, int threads,
) noexcept nogil
