cdef void linear_forward_body(
    float *out, const float *x, const float *weight, const float *bias,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil

cdef void linear_backward_input_body(
    float *dx, const float *dout, const float *weight,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil

cdef void linear_backward_weight_body(
    float *dweight, float *dbias, const float *dout, const float *x,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil
