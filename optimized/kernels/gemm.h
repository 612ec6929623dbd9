/* Matrix product by register tiles of MR rows and NV vectors, after Goto & van de Geijn 2008
 * (Anatomy of High-Performance Matrix Multiplication).
 *
 * A tile broadcasts elements of a, in any layout, and loads vectors along the rows of b: b is read
 * where it lies, as its rows are contiguous, and fetched ahead. Only a transposed b, and the last
 * columns where they do not fill a vector, are packed first.
 */
#ifndef CLLM_GEMM_H
#define CLLM_GEMM_H

#include "kernels.h"
#include "vector.h"

#if defined(__AVX512F__)
#define MR 8
#define NV 3
#elif defined(__AVX2__)
#define MR 6
#define NV 2
#else
#define MR 4
#define NV 2
#endif
#define NR (NV * LANES)

_Static_assert(NR <= GEMM_COLUMNS, "the panel holds the columns of a tile");

/* What becomes of a product: c = start + a b, or c = c * (a b), element by element. */
typedef enum { PLUS, TIMES } Finish;

/* Lines of the next columns of b, fetched a few at a time while the tiles of these are computed:
 * more at once would keep the loads of the tile itself waiting. */
typedef struct {
    const float *row;
    ptrdiff_t stride, rows, lines, line, each;
} Ahead;

enum { LINE = 16 };  /* floats of a cache line */

INLINE void gemm_fetch(Ahead *ahead)
{
    for (ptrdiff_t n = 0; n < ahead->each && ahead->rows > 0; n++) {
        __builtin_prefetch(ahead->row + ahead->line * LINE);
        if (++ahead->line == ahead->lines) {
            ahead->line = 0;
            ahead->row += ahead->stride;
            ahead->rows--;
        }
    }
}

/* One tile of mr rows and nv vectors, of which the first `cols` elements are stored. mr, nv and
 * finish are constants at every call, so that the sums live in registers. */
INLINE void gemm_tile(const int mr, const int nv, const Finish finish, ptrdiff_t depth,
                      const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                      const float *b, ptrdiff_t b_row, float *c, ptrdiff_t c_row,
                      const float *start, ptrdiff_t start_row, ptrdiff_t cols, Ahead *ahead)
{
    vec sums[MR][NV];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++)
            sums[i][j] = (vec){0};
    ptrdiff_t k = 0;
    for (int part = 0; part < mr; part++) {
        /* What is stored at the end is fetched row by row, for the same reason. */
        gemm_fetch(ahead);
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++)
            __builtin_prefetch(c + part * c_row + j * LANES, 1);
        if (depth < 64 && part < mr - 1)
            continue;
        /* of a row-major a, a row of the next tile; else what comes some columns later */
        const float *next = a_col == 1 ? a + (mr + part) * a_row : a + (k + 16) * a_col;
        const ptrdiff_t step = a_col == 1 ? LINE / 2 : a_col;
        for (const ptrdiff_t stop = depth * (part + 1) / mr; k < stop; k++) {
            vec right[NV];
            __builtin_prefetch(next);
            next += step;
#pragma GCC unroll 3
            for (int j = 0; j < nv; j++) {
                __builtin_prefetch(b + (k + 8) * b_row + j * LANES);
                right[j] = vec_load(b + k * b_row + j * LANES);
            }
#pragma GCC unroll 8
            for (int i = 0; i < mr; i++) {
                const float left = a[i * a_row + k * a_col];
#pragma GCC unroll 3
                for (int j = 0; j < nv; j++)
                    sums[i][j] += left * right[j];
            }
        }
    }
    const int whole = cols >= nv * LANES;
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++) {
            float *to = c + i * c_row + j * LANES;
            const ptrdiff_t n = whole ? LANES : cols - j * LANES;
            vec out = sums[i][j];
            if (finish == TIMES)
                out *= vec_load_upto(to, n);
            else if (start != NULL)
                out += vec_load_upto(start + i * start_row + j * LANES, n);
            vec_store_upto(to, out, n);
        }
}

/* panel (depth, nv * LANES): the columns of b side by side, those beyond `cols` zero. */
static void gemm_pack(float *panel, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                      ptrdiff_t depth, ptrdiff_t cols)
{
    const ptrdiff_t width = (cols + LANES - 1) / LANES * LANES;
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        const ptrdiff_t n = cols - j < LANES ? cols - j : LANES;
        ptrdiff_t k = 0;
        if (b_row == 1)
            for (; k + LANES <= depth; k += LANES) {
                vec rows[LANES];
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++)
                    rows[i] = i < n ? vec_load(b + (j + i) * b_col + k) : (vec){0};
                vec_transpose(rows);
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++)
                    vec_store(panel + (k + i) * width + j, rows[i]);
            }
        for (; k < depth; k++)
            for (ptrdiff_t i = 0; i < LANES; i++)
                panel[k * width + j + i] = i < n ? b[k * b_row + (j + i) * b_col] : 0.0f;
    }
}

/* The next panel, of at most `cols` columns, spread over the parts of the tiles of these rows. */
INLINE Ahead gemm_ahead(const float *b, ptrdiff_t b_row, ptrdiff_t b_col, ptrdiff_t rows,
                        ptrdiff_t depth, ptrdiff_t cols)
{
    if (cols <= 0)
        return (Ahead){0};
    const ptrdiff_t width = cols < NR ? cols : NR;
    Ahead ahead = {.row = b};
    if (b_col == 1) {
        ahead.stride = b_row;
        ahead.rows = depth;
        ahead.lines = (width + LINE - 1) / LINE;
    } else {
        ahead.stride = b_col;
        ahead.rows = width;
        ahead.lines = (depth + LINE - 1) / LINE;
    }
    ahead.each = ahead.rows * ahead.lines / rows + 1;
    return ahead;
}

INLINE void gemm_finish(const Finish finish, const ptrdiff_t block,
                        ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                        const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                        const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                        float *c, ptrdiff_t c_row,
                        const float *start, ptrdiff_t start_row, float *panel)
{
    if (rows == 0)
        return;  /* a thread without a share */
    for (ptrdiff_t k = 0; k < depth; k += block) {
        const ptrdiff_t deep = depth - k < block ? depth - k : block;
        const float *from = k > 0 ? c : start;
        const ptrdiff_t from_row = k > 0 ? c_row : start_row;
        for (ptrdiff_t j = 0; j < cols; j += NR) {
            const ptrdiff_t width = cols - j < NR ? cols - j : NR;
            const ptrdiff_t vectors = (width + LANES - 1) / LANES;
            const float *right = b + k * b_row + j * b_col;
            ptrdiff_t right_row = b_row;
            Ahead ahead = gemm_ahead(right + NR * b_col, b_row, b_col, rows, deep, cols - j - NR);
            if (b_col != 1 || width % LANES != 0) {
                gemm_pack(panel, right, b_row, b_col, deep, width);
                right = panel;
                right_row = vectors * LANES;
            }
            for (ptrdiff_t i = 0; i < rows; i += MR) {
                const ptrdiff_t high = rows - i < MR ? rows - i : MR;
#define TILE(mr, nv)                                                                     \
    case (nv - 1) * MR + mr:                                                             \
        gemm_tile(mr, nv, finish, deep, a + i * a_row + k * a_col, a_row, a_col, right,  \
                  right_row, c + i * c_row + j, c_row,                                   \
                  from == NULL ? NULL : from + i * from_row + j, from_row, width, &ahead); \
        break;
#define TILES(nv) TILE(1, nv) TILE(2, nv) TILE(3, nv) TILE(4, nv) MORE_TILES(nv)
#if MR == 8
#define MORE_TILES(nv) TILE(5, nv) TILE(6, nv) TILE(7, nv) TILE(8, nv)
#elif MR == 6
#define MORE_TILES(nv) TILE(5, nv) TILE(6, nv)
#else
#define MORE_TILES(nv)
#endif
                switch ((vectors - 1) * MR + high) {
                    TILES(1)
                    TILES(2)
#if NV == 3
                    TILES(3)
#endif
                }
            }
        }
    }
}

static __attribute__((noinline)) void
gemm_plus(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
          const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
          const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *c, ptrdiff_t c_row,
          const float *start, ptrdiff_t start_row, float *panel)
{
    gemm_finish(PLUS, GEMM_DEPTH, rows, cols, depth, a, a_row, a_col, b, b_row, b_col, c, c_row,
                start, start_row, panel);
}

/* Columns of a transposed a, one beside the other: where its rows are far apart, a tile would
 * touch a page for each. */
static void gemm_gather(float *rows, const float *a, ptrdiff_t a_col, ptrdiff_t count,
                        ptrdiff_t depth)
{
    for (ptrdiff_t k = 0; k < depth; k++)
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            __builtin_prefetch(a + (k + 8) * a_col + i);
            vec_store_upto(rows + k * GEMM_ROWS + i, vec_load_upto(a + k * a_col + i, count - i),
                           count - i);
        }
}

static void gemm(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                 const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                 float *c, ptrdiff_t c_row,
                 const float *start, ptrdiff_t start_row, float *panel)
{
    if (a_row != 1 || a_col < GEMM_FAR || cols < GEMM_FAR) {
        gemm_plus(rows, cols, depth, a, a_row, a_col, b, b_row, b_col, c, c_row, start, start_row,
                  panel);
        return;
    }
    float *const gathered = panel + GEMM_COLUMNS * GEMM_DEPTH;
    for (ptrdiff_t i = 0; i < rows; i += GEMM_ROWS) {
        const ptrdiff_t count = rows - i < GEMM_ROWS ? rows - i : GEMM_ROWS;
        for (ptrdiff_t k = 0; k < depth; k += GEMM_DEPTH) {
            const ptrdiff_t deep = depth - k < GEMM_DEPTH ? depth - k : GEMM_DEPTH;
            float *to = c + i * c_row;
            gemm_gather(gathered, a + i + k * a_col, a_col, count, deep);
            gemm_plus(count, cols, deep, gathered, 1, GEMM_ROWS, b + k * b_row, b_row, b_col, to,
                      c_row, k > 0 ? to : start == NULL ? NULL : start + i * start_row,
                      k > 0 ? c_row : start_row, panel);
        }
    }
}

static void gemm_times(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                       const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                       const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                       float *c, ptrdiff_t c_row, float *panel)
{
    gemm_finish(TIMES, depth, rows, cols, depth, a, a_row, a_col, b, b_row, b_col, c, c_row,
                NULL, 0, panel);
}

#endif
