# Queries that share one tile of scores; the scratch of a thread holds two such tiles.
cpdef enum:
    QUERIES = 16

cdef void attention_forward_body(
    float *out, float *lse, const float *qkv, float *scratch,
    Py_ssize_t B, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H, int thread, int threads,
) noexcept nogil

cdef void attention_backward_body(
    float *dqkv, const float *dout, const float *qkv, const float *out, const float *lse,
    float *scratch, Py_ssize_t B, Py_ssize_t T, Py_ssize_t D, Py_ssize_t H,
    int thread, int threads,
) noexcept nogil

cdef void attention_decode_body(
    float *out, float *keys, float *values, const float *qkv, float *scratch,
    Py_ssize_t position, Py_ssize_t D, Py_ssize_t H, int thread, int threads,
) noexcept nogil
