from .kernels cimport LatticeBatch, Rows

cdef tuple sizes(object qkv, object num_heads)

cdef int check_heads(Py_ssize_t D, object num_heads) except -1

cdef void attention_forward_body(
    float *out, const float *start, float *lse, const float *qkv, float *scratch, float *panel,
    Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, const LatticeBatch *lattice, Rows pairs,
) noexcept nogil

cdef void attention_backward_body(
    float *dqkv, const float *dout, const float *qkv, const float *lse, float *scratch,
    float *panel, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, const LatticeBatch *lattice,
    Rows pairs,
) noexcept nogil

cdef void attention_decode_body(
    float *out, float *keys, float *values, const float *qkv, float *scores,
    Py_ssize_t position, Py_ssize_t D, Py_ssize_t H, const float *weight, const float *distances,
    Rows heads,
) noexcept nogil
