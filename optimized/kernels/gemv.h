/* Matrix times vector, for one token at a time: bound by how fast the matrix can be read, so that
 * each element is read once, and in the order in which it lies. */
#ifndef CLLM_GEMV_H
#define CLLM_GEMV_H

#include "vector.h"

/* out = from + some rows of w, each times its element of x; `rows` is a constant at every call. */
INLINE void gemv_rows(const int rows, ptrdiff_t cols, const float *x, const float *w,
                      ptrdiff_t w_row, float *out, const float *from)
{
    for (ptrdiff_t j = 0; j < cols; j += LANES) {
        vec sum = from == NULL ? (vec){0} : vec_load_upto(from + j, cols - j);
#pragma GCC unroll 8
        for (int k = 0; k < rows; k++)
            sum += x[k] * vec_load_upto(w + k * w_row + j, cols - j);
        vec_store_upto(out + j, sum, cols - j);
    }
}

static void gemv(ptrdiff_t cols, ptrdiff_t depth, const float *x, const float *w,
                 ptrdiff_t w_row, float *out, const float *start)
{
    ptrdiff_t k = 0;
    for (; k + 8 <= depth; k += 8)
        gemv_rows(8, cols, x + k, w + k * w_row, w_row, out, k > 0 ? out : start);
    for (; k < depth; k++)
        gemv_rows(1, cols, x + k, w + k * w_row, w_row, out, k > 0 ? out : start);
}

/* The rows' products with x, lane by lane; four rows at a time, as far as addresses go in
 * registers. */
INLINE void dots_of_rows(const int rows, ptrdiff_t depth, const float *m, ptrdiff_t m_row,
                         const float *x, vec *sums)
{
#pragma GCC unroll 4
    for (int some = 0; some < rows; some += 4) {
        const float *row = m + some * m_row;
        const int count = rows - some < 4 ? rows - some : 4;
        vec parts[4] = {{0}, {0}, {0}, {0}};
        ptrdiff_t k = 0;
        for (; k + LANES <= depth; k += LANES, row += LANES) {
            const vec right = vec_load(x + k);
#pragma GCC unroll 4
            for (int r = 0; r < count; r++)
                parts[r] += right * vec_load(row + r * m_row);
        }
        if (k < depth) {
            const vec right = vec_load_upto(x + k, depth - k);
#pragma GCC unroll 4
            for (int r = 0; r < count; r++)
                parts[r] += right * vec_load_upto(row + r * m_row, depth - k);
        }
#pragma GCC unroll 4
        for (int r = 0; r < count; r++)
            sums[some + r] = parts[r];
    }
}

/* LANES rows at once: after rounds that add the halves of pairs of rows side by side, each lane is
 * the sum of one row, in the order of vec_sum. The last rows go with some before them once more. */
static void dots(ptrdiff_t rows, ptrdiff_t depth, const float *m, ptrdiff_t m_row,
                 const float *x, float *out)
{
    vec sums[LANES];
    if (rows < LANES)
        for (ptrdiff_t i = 0; i < rows; i++) {
            dots_of_rows(1, depth, m + i * m_row, m_row, x, sums);
            out[i] = vec_sum(sums[0]);
        }
    else
        for (ptrdiff_t next = 0; next < rows; next += LANES) {
            const ptrdiff_t i = rows - next < LANES ? rows - LANES : next;
            dots_of_rows(LANES, depth, m + i * m_row, m_row, x, sums);
#pragma GCC unroll 4
            for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
                for (int r = 0; r < half; r++)
                    sums[r] = __builtin_shufflevector(sums[r], sums[r + half], LOW_HALVES)
                            + __builtin_shufflevector(sums[r], sums[r + half], HIGH_HALVES);
            vec_store(out + i, sums[0]);
        }
}

#endif
