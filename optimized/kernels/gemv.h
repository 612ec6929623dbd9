/* Matrix times vector, for one token at a time: bound by how fast the matrix can be read, so that
 * it is read once and in the order in which it lies. */
#ifndef CLLM_GEMV_H
#define CLLM_GEMV_H

#include "vector.h"

/* `vectors` columns of w, a constant at every call. */
INLINE void gemv_columns(const int vectors, ptrdiff_t cols, ptrdiff_t depth, const float *x,
                         const float *w, ptrdiff_t w_row, float *out, const float *start)
{
    vec sums[8];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
        sums[j] = start == NULL ? (vec){0} : vec_load_upto(start + j * LANES, cols - j * LANES);
    for (ptrdiff_t k = 0; k < depth; k++) {
        const float left = x[k];
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++)
            sums[j] += left * vec_load_upto(w + k * w_row + j * LANES, cols - j * LANES);
    }
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
        vec_store_upto(out + j * LANES, sums[j], cols - j * LANES);
}

static void gemv(ptrdiff_t cols, ptrdiff_t depth, const float *x, const float *w,
                 ptrdiff_t w_row, float *out, const float *start)
{
    ptrdiff_t j = 0;
#define COLUMNS(vectors, n)                                                         \
    gemv_columns(vectors, n, depth, x, w + j, w_row, out + j,                       \
                 start == NULL ? NULL : start + j)
    for (; j + 8 * LANES <= cols; j += 8 * LANES)
        COLUMNS(8, 8 * LANES);
    for (; j + 2 * LANES <= cols; j += 2 * LANES)
        COLUMNS(2, 2 * LANES);
    for (; j < cols; j += LANES)
        COLUMNS(1, cols - j);
#undef COLUMNS
}

static void dots(ptrdiff_t rows, ptrdiff_t depth, const float *m, ptrdiff_t m_row,
                 const float *x, float *out)
{
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        vec sums[LANES];
        for (ptrdiff_t r = 0; r < LANES; r++) {
            vec sum = {0};
            if (i + r < rows)
                for (ptrdiff_t k = 0; k < depth; k += LANES)
                    sum += vec_load_upto(m + (i + r) * m_row + k, depth - k)
                         * vec_load_upto(x + k, depth - k);
            sums[r] = sum;
        }
        vec_transpose(sums);
        vec total = {0};
        for (int k = 0; k < LANES; k++)
            total += sums[k];
        vec_store_upto(out + i, total, rows - i);
    }
}

#endif
