/* Matrix product by register tiles of MR rows and NR columns, after Goto & van de Geijn 2008
 * (Anatomy of High-Performance Matrix Multiplication).
 *
 * b is packed panel by panel into a buffer on the stack, so that every layout of b costs the
 * same; columns beyond the last are packed as zeros and never stored.
 */
#ifndef CLLM_GEMM_H
#define CLLM_GEMM_H

#include "vector.h"

#if defined(__AVX512F__)
#define MR 8
#elif defined(__AVX2__)
#define MR 6
#else
#define MR 4
#endif
#define NR (2 * LANES)
#define KC 256

/* One tile; mr is a constant at every call, so that the sums live in registers. */
static inline __attribute__((always_inline)) void
gemm_tile(const int mr, ptrdiff_t depth, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
          const float *panel, float *c, ptrdiff_t c_row, ptrdiff_t cols, int accumulate)
{
    vec left[MR], right[MR];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
        left[i] = right[i] = (vec){0};
    for (ptrdiff_t k = 0; k < depth; k++) {
        const vec b_left = vec_load(panel + k * NR);
        const vec b_right = vec_load(panel + k * NR + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < mr; i++) {
            const float x = a[i * a_row + k * a_col];
            left[i] += x * b_left;
            right[i] += x * b_right;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++) {
        float sums[NR];
        vec_store(sums, left[i]);
        vec_store(sums + LANES, right[i]);
        float *row = c + i * c_row;
        if (accumulate)
            for (ptrdiff_t j = 0; j < cols; j++)
                row[j] += sums[j];
        else
            for (ptrdiff_t j = 0; j < cols; j++)
                row[j] = sums[j];
    }
}

static void gemm_pack(float *panel, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                      ptrdiff_t depth, ptrdiff_t cols)
{
    if (b_col == 1 && cols == NR) {
        for (ptrdiff_t k = 0; k < depth; k++)
            memcpy(panel + k * NR, b + k * b_row, NR * sizeof(float));
        return;
    }
    for (ptrdiff_t j = 0; j < NR; j++)
        for (ptrdiff_t k = 0; k < depth; k++)
            panel[k * NR + j] = j < cols ? b[k * b_row + j * b_col] : 0.0f;
}

static void gemm(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                 const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                 float *c, ptrdiff_t c_row, int accumulate)
{
    float panel[KC * NR];
    for (ptrdiff_t j = 0; j < cols; j += NR) {
        const ptrdiff_t width = cols - j < NR ? cols - j : NR;
        for (ptrdiff_t k = 0; k < depth; k += KC) {
            const ptrdiff_t deep = depth - k < KC ? depth - k : KC;
            const int add = accumulate || k > 0;
            gemm_pack(panel, b + k * b_row + j * b_col, b_row, b_col, deep, width);
            for (ptrdiff_t i = 0; i < rows; i += MR) {
                const float *from = a + i * a_row + k * a_col;
                float *to = c + i * c_row + j;
                switch (rows - i < MR ? rows - i : MR) {
#define TILE(mr) gemm_tile(mr, deep, from, a_row, a_col, panel, to, c_row, width, add)
                case 1: TILE(1); break;
                case 2: TILE(2); break;
                case 3: TILE(3); break;
#if MR > 4
                case 4: TILE(4); break;
                case 5: TILE(5); break;
#endif
#if MR > 6
                case 6: TILE(6); break;
                case 7: TILE(7); break;
#endif
                default: TILE(MR); break;
#undef TILE
                }
            }
        }
    }
}

#endif
