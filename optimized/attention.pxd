from .kernels cimport Rows

cdef tuple sizes(object qkv, object num_heads)

cdef void attention_forward_body(
    float *out, const float *start, float *lse, const float *qkv, float *scratch, float *panel,
    Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, Rows pairs,
) noexcept nogil

cdef void attention_backward_body(
    float *dqkv, const float *dout, const float *qkv, const float *lse, float *scratch,
    float *panel, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, Rows pairs,
) noexcept nogil

cdef void attention_decode_body(
    float *out, float *keys, float *values, const float *qkv, float *scores,
    Py_ssize_t position, Py_ssize_t D, Py_ssize_t H, Rows heads,
) noexcept nogil
