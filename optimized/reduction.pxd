from .kernels cimport Rows

# Rows of activations whose sum is one term of the whole: threads get whole blocks, and the blocks
# are summed in their order, so that the result does not depend on the number of threads.
cpdef enum:
    ROW_BLOCK = 32

cdef void block_sums_body(
    float *sums, const float *x, Py_ssize_t M, Rows rows
) noexcept nogil

cdef void add_blocks_body(
    float *out, bint fresh, const float *sums, Py_ssize_t stride, Py_ssize_t N, Rows columns
) noexcept nogil
