/* What the lattice lowers the scores of a head by: distances of queries and keys, computed for the
 * tile at hand from what is known of each token.
 *
 * An odd q divides n where n times the inverse of q modulo 2^32 is at most (2^32 - 1) / q (Granlund
 * & Montgomery 1994, "Division by Invariant Integers using Multiplication", section 9): that gives
 * ln gcd, and with it the prime distance ln n + ln m - 2 ln gcd(n, m), for LANES tokens at a time.
 */
#ifndef CLLM_LATTICE_ATTENTION_H
#define CLLM_LATTICE_ATTENTION_H

#include "lattice.h"
#include "vector.h"

typedef uint32_t uvec __attribute__((vector_size(LANES * sizeof(float))));

INLINE ivec ivec_load_upto(const int32_t *x, ptrdiff_t n)
{
    ivec lanes = {0};
    memcpy(&lanes, x, (n < LANES ? n : LANES) * sizeof *x);
    return lanes;
}

INLINE vec vec_abs(vec v) { return (vec)((ivec)v & 0x7fffffff); }

static void lattice_distances(float *out, ptrdiff_t apart, const LatticeTokens *tokens,
                              ptrdiff_t one, ptrdiff_t first, ptrdiff_t n,
                              const LatticeTables *tables)
{
    const float *place[LATTICE_FIELDS];
    const float *const of = tables->tokens + (ptrdiff_t)tokens->ids[one] * LATTICE_FIELDS;
    for (int i = 0; i < LATTICE_FIELDS; i++)
        place[i] = tokens->fields + i * tokens->apart + first;
    const int64_t start = tables->start[tokens->ids[one]];
    const int64_t stop = tables->start[tokens->ids[one] + 1];
    for (ptrdiff_t l = 0; l < n; l += LANES) {
        const vec dx = vec_load_upto(place[LATTICE_X] + l, n - l) - of[LATTICE_X];
        const vec dy = vec_load_upto(place[LATTICE_Y] + l, n - l) - of[LATTICE_Y];
        const vec dz = vec_load_upto(place[LATTICE_Z] + l, n - l) - of[LATTICE_Z];
        vec_store_upto(out + l, vec_sqrt(dx * dx + dy * dy + dz * dz), n - l);

        const uvec number = (uvec)ivec_load_upto(tokens->ids + first + l, n - l) + 1u;
        vec common = vec_min(vec_load_upto(place[LATTICE_TWOS] + l, n - l),
                             vec_of(of[LATTICE_TWOS]));
        for (int64_t i = start; i < stop; i++) {
            const ivec divides = number * (uint32_t)tables->inverse[i]
                              <= (uint32_t)tables->bound[i];
            common += vec_select(divides, vec_of(tables->log[i]), (vec){0});
        }
        const vec log = vec_load_upto(place[LATTICE_LOG] + l, n - l);
        vec_store_upto(out + apart + l, (log - common) + (of[LATTICE_LOG] - common), n - l);

        const vec way = vec_abs(vec_load_upto(place[LATTICE_CLASS] + l, n - l)
                                - of[LATTICE_CLASS]);
        vec_store_upto(out + 2 * apart + l, vec_min(way, tables->turn - way), n - l);
    }
}

static void lattice_lower(float *scores, const float *distances, ptrdiff_t apart,
                          const float *weights, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES)
        vec_store_upto(scores + i,
                       vec_load_upto(scores + i, n - i)
                       - weights[0] * vec_load_upto(distances + i, n - i)
                       - weights[1] * vec_load_upto(distances + apart + i, n - i)
                       - weights[2] * vec_load_upto(distances + 2 * apart + i, n - i), n - i);
}

/* Lower the scores (keys,lanes) of a tile, up to the diagonal; leaves its distances for backward. */
static void lattice_lower_tile(float *scores, const LatticeHead *head, ptrdiff_t first,
                               ptrdiff_t keys, ptrdiff_t lanes)
{
    const ptrdiff_t apart = keys * lanes, n = keys - first;
    for (ptrdiff_t j = 0; j < keys; j++) {
        const ptrdiff_t skip = j > first ? (j - first) / LANES * LANES : 0;
        float *const distances = head->distances + j * lanes + skip;
        lattice_distances(distances, apart, &head->tokens, j, first + skip, n - skip, head->tables);
        lattice_lower(scores + j * lanes + skip, distances, apart, head->weights, n - skip);
    }
}

/* Add to the sums of the gradient of the scores (keys,lanes) times each distance. */
static void lattice_sums_tile(const float *dscores, const LatticeHead *head, ptrdiff_t first,
                              ptrdiff_t keys, ptrdiff_t lanes)
{
    const ptrdiff_t apart = keys * lanes, n = keys - first;
    vec sums[3] = {{0}, {0}, {0}};
    for (ptrdiff_t j = 0; j < keys; j++)
        for (ptrdiff_t l = j > first ? (j - first) / LANES * LANES : 0; l < n; l += LANES) {
            const vec ds = vec_load_upto(dscores + j * lanes + l, n - l);
            for (int d = 0; d < 3; d++)
                sums[d] += ds * vec_load_upto(head->distances + d * apart + j * lanes + l, n - l);
        }
    for (int d = 0; d < 3; d++)
        head->sums[d] += vec_sum(sums[d]);
}

#endif
