"""Sums over rows in one fixed order: block by block, then over the blocks."""

from libc.string cimport memset

from .kernels cimport Rows, kernels


cdef void block_sums_body(
    float *sums, const float *x, Py_ssize_t M, Rows rows
) noexcept nogil:
    """sums (blocks,M): the columns of x (N,M) over each block of its rows."""
    cdef Py_ssize_t n
    cdef float *to
    for n in range(rows.start, rows.stop):
        to = sums + n // ROW_BLOCK * M
        if n % ROW_BLOCK == 0:
            memset(to, 0, M * sizeof(float))
        kernels.add(to, to, x + n * M, M)


cdef void add_blocks_body(
    float *out, bint fresh, const float *sums, Py_ssize_t stride, Py_ssize_t N, Rows columns
) noexcept nogil:
    """Add the blocks' sums, `stride` floats apart, to out (or to zero where it is fresh)."""
    cdef Py_ssize_t block, width = columns.stop - columns.start
    if fresh:
        memset(out + columns.start, 0, width * sizeof(float))
    for block in range((N + ROW_BLOCK - 1) // ROW_BLOCK):
        kernels.add(
            out + columns.start, out + columns.start, sums + block * stride + columns.start, width
        )
