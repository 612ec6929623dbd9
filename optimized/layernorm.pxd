from .kernels cimport Rows

cdef void layernorm_forward_body(
    float *out, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
    Py_ssize_t D, Rows rows,
) noexcept nogil

cdef void layernorm_backward_body(
    float *dx, float *sums, const float *dout, const float *dskip, const float *x,
    const float *mean, const float *rstd, const float *gain, Py_ssize_t D, Rows rows,
) noexcept nogil
