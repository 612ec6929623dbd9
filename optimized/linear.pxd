from .kernels cimport Rows

cdef void linear_forward_body(
    float *out, const float *start, Py_ssize_t start_row, const float *x, const float *weight,
    float *panel, Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil

cdef void linear_backward_input_body(
    float *dx, const float *dout, const float *weight, float *panel,
    Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil

cdef void linear_backward_input_times_body(
    float *dx, const float *dout, const float *weight, float *panel,
    Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil

cdef void linear_backward_weight_body(
    float *dweight, bint fresh, const float *dout, const float *x, float *panel,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, Rows rows,
) noexcept nogil
