/* Causal attention of one head, after FlashAttention (Dao et al. 2022): by tiles of queries, with
 * one statistic a query kept instead of its probabilities.
 *
 * Scores are computed transposed, keys by queries: the lanes of a vector are queries, so that the
 * softmax needs no sum across lanes. Keys and queries go by blocks of LANES: above the diagonal
 * nothing is computed but in the blocks that it crosses, where what is not seen is masked.
 */
#ifndef CLLM_ATTENTION_H
#define CLLM_ATTENTION_H

#include <math.h>

#include "exp.h"
#include "gemm.h"
#include "lattice_attention.h"

/* s (keys,lanes) = m x: rows of m by the transposed tile x (width,lanes), up to the diagonal. */
static void attention_scores(float *s, const float *m, ptrdiff_t row, const float *x,
                             ptrdiff_t first, ptrdiff_t keys, ptrdiff_t lanes, ptrdiff_t width,
                             float *panel)
{
    for (ptrdiff_t j = 0; j < keys; j += LANES) {
        const ptrdiff_t high = keys - j < LANES ? keys - j : LANES;
        const ptrdiff_t column = j > first ? j - first : 0;
        gemm(high, lanes - column, width, m + j * row, row, 1, x + column, lanes, 1,
             s + j * lanes + column, lanes, NULL, 0, panel);
    }
}

/* Lanes whose query may look at key j. */
INLINE ivec attention_seen(ptrdiff_t query, ptrdiff_t key)
{
    return (ivec){EACH_LANE} >= (int32_t)(key - query);
}

static void attention_forward(float *out, const float *start, ptrdiff_t out_row, float *lse,
                              const float *q, const float *k, const float *v, ptrdiff_t row,
                              ptrdiff_t T, ptrdiff_t width, float *scratch, float *panel,
                              const LatticeHead *lattice)
{
    const float scale = 1.0f / sqrtf((float)width);
    float *const qt = scratch, *const p = qt + width * ATTENTION_QUERIES;
    for (ptrdiff_t first = 0; first < T; first += ATTENTION_QUERIES) {
        const ptrdiff_t n = T - first < ATTENTION_QUERIES ? T - first : ATTENTION_QUERIES;
        const ptrdiff_t lanes = (n + LANES - 1) / LANES * LANES, keys = first + n;
        gemm_pack(qt, q + first * row, 1, row, width, n);
        attention_scores(p, k, row, qt, first, keys, lanes, width, panel);
        if (lattice != NULL)
            lattice_lower_tile(p, lattice, first, keys, lanes);
        for (ptrdiff_t l = 0; l < lanes; l += LANES) {
            const ptrdiff_t query = first + l;
            const ptrdiff_t seen = query + LANES < keys ? query + LANES : keys;
            vec top = vec_load(p + l), total = {0};
            for (ptrdiff_t j = 1; j < seen; j++) {
                vec s = vec_load(p + j * lanes + l);
                if (j > query) {
                    s = vec_select(attention_seen(query, j), s, vec_of(-INFINITY));
                    vec_store(p + j * lanes + l, s);
                }
                top = vec_max(top, s);
            }
            top *= scale;
            for (ptrdiff_t j = 0; j < seen; j++) {
                const vec e = vec_exp(scale * vec_load(p + j * lanes + l) - top);
                total += e;
                vec_store(p + j * lanes + l, e);
            }
            vec_store_upto(lse + query, vec_log(total) + top, n - l);
            const vec share = 1.0f / total;
            for (ptrdiff_t j = 0; j < seen; j++)
                vec_store(p + j * lanes + l, vec_load(p + j * lanes + l) * share);
        }
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const ptrdiff_t high = n - i < LANES ? n - i : LANES, at = (first + i) * out_row;
            gemm(high, width, first + i + high, p + i, 1, lanes, v, row, 1, out + at, out_row,
                 start == NULL ? NULL : start + at, out_row, panel);
        }
    }
}

/* d (keys,width) gets p (keys,lanes) x (n,width): p is 0 above the diagonal. */
static void attention_backward_keys(float *d, const float *p, const float *x, ptrdiff_t x_row,
                                    ptrdiff_t first, ptrdiff_t n, ptrdiff_t lanes,
                                    ptrdiff_t width, float *panel)
{
    for (ptrdiff_t j = 0; j < first + n; j += LANES) {
        const ptrdiff_t high = first + n - j < LANES ? first + n - j : LANES;
        const ptrdiff_t skip = j > first ? j - first : 0;
        float *to = d + j * width;
        gemm(high, width, n - skip, p + j * lanes + skip, lanes, 1, x + skip * x_row, x_row, 1,
             to, width, j < first ? to : NULL, width, panel);
    }
}

static void attention_backward(float *dq, float *dk, float *dv, const float *dout,
                               ptrdiff_t out_row, const float *lse, const float *q,
                               const float *k, const float *v, ptrdiff_t row, ptrdiff_t T,
                               ptrdiff_t width, float *scratch, float *panel,
                               const LatticeHead *lattice)
{
    const float scale = 1.0f / sqrtf((float)width);
    float *const qt = scratch, *const doutt = qt + width * ATTENTION_QUERIES;
    float *const p = doutt + width * ATTENTION_QUERIES, *const ds = p + T * ATTENTION_QUERIES;
    float *const dkeys = ds + T * ATTENTION_QUERIES, *const dvalues = dkeys + T * width;
    for (ptrdiff_t first = 0; first < T; first += ATTENTION_QUERIES) {
        const ptrdiff_t n = T - first < ATTENTION_QUERIES ? T - first : ATTENTION_QUERIES;
        const ptrdiff_t lanes = (n + LANES - 1) / LANES * LANES, keys = first + n;
        gemm_pack(qt, q + first * row, 1, row, width, n);
        gemm_pack(doutt, dout + first * out_row, 1, out_row, width, n);
        attention_scores(p, k, row, qt, first, keys, lanes, width, panel);
        if (lattice != NULL)
            lattice_lower_tile(p, lattice, first, keys, lanes);
        attention_scores(ds, v, row, doutt, first, keys, lanes, width, panel);
        for (ptrdiff_t l = 0; l < lanes; l += LANES) {
            const ptrdiff_t query = first + l;
            const ptrdiff_t seen = query + LANES < keys ? query + LANES : keys;
            const vec shift = vec_load_upto(lse + query, n - l);
            /* dots is dout times out, over the keys instead of the width. The probabilities are
             * made to add up to 1 again: what lse was rounded by would stand in the difference. */
            vec dots = {0}, total = {0};
            for (ptrdiff_t j = 0; j < seen; j++) {
                vec e = vec_exp(scale * vec_load(p + j * lanes + l) - shift);
                if (j > query)
                    e = vec_select(attention_seen(query, j), e, vec_of(0.0f));
                dots += e * vec_load(ds + j * lanes + l);
                total += e;
                vec_store(p + j * lanes + l, e);
            }
            const vec whole = 1.0f / total;
            dots *= whole;
            for (ptrdiff_t j = 0; j < seen; j++) {
                const vec e = whole * vec_load(p + j * lanes + l);
                vec_store(p + j * lanes + l, e);
                vec_store(ds + j * lanes + l, scale * e * (vec_load(ds + j * lanes + l) - dots));
            }
        }
        if (lattice != NULL)
            lattice_sums_tile(ds, lattice, first, keys, lanes);
        attention_backward_keys(dvalues, p, dout + first * out_row, out_row, first, n, lanes,
                                width, panel);
        attention_backward_keys(dkeys, ds, q + first * row, row, first, n, lanes, width, panel);
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const ptrdiff_t high = n - i < LANES ? n - i : LANES;
            gemm(high, width, first + i + high, ds + i, 1, lanes, k, row, 1,
                 dq + (first + i) * row, row, NULL, 0, panel);
        }
    }
    for (ptrdiff_t j = 0; j < T; j++) {
        for (ptrdiff_t i = 0; i < width; i += LANES) {
            vec_store_upto(dk + j * row + i, vec_load_upto(dkeys + j * width + i, width - i),
                           width - i);
            vec_store_upto(dv + j * row + i, vec_load_upto(dvalues + j * width + i, width - i),
                           width - i);
        }
    }
}

#endif
