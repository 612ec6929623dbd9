/* The lattice loss over some columns of the embedding that lie in one head, from an even one on, so
 * that no pair that is turned is cut. */
#ifndef CLLM_LATTICE_LOSS_H
#define CLLM_LATTICE_LOSS_H

#include "lattice.h"
#include "vector.h"

enum { LATTICE_VECS = LATTICE_COLUMNS / LANES, LATTICE_ORDER = 12, LATTICE_ROWS = 64 };

#if LANES == 16
#define SWAPPED 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif LANES == 8
#define SWAPPED 1, 0, 3, 2, 5, 4, 7, 6
#else
#define SWAPPED 1, 0, 3, 2
#endif

/* The columns of one row; those beyond n are 0. */
typedef struct {
    vec v[LATTICE_VECS];
} Columns;

INLINE Columns columns_load(const float *x, ptrdiff_t n)
{
    Columns c;
    for (int i = 0; i < LATTICE_VECS; i++)
        c.v[i] = n > i * LANES ? vec_load_upto(x + i * LANES, n - i * LANES) : (vec){0};
    return c;
}

INLINE void columns_store(float *x, Columns c, ptrdiff_t n)
{
    for (int i = 0; i < LATTICE_VECS; i++)
        if (n > i * LANES)
            vec_store_upto(x + i * LANES, c.v[i], n - i * LANES);
}

/* c + a x */
INLINE Columns columns_plus(Columns c, float a, Columns x)
{
    for (int i = 0; i < LATTICE_VECS; i++)
        c.v[i] += a * x.v[i];
    return c;
}

/* sum + a x x, lane by lane */
INLINE vec columns_squares(vec sum, float a, Columns x)
{
    for (int i = 0; i < LATTICE_VECS; i++)
        sum += a * (x.v[i] * x.v[i]);
    return sum;
}

/* What turns a pair: x_even cos - x_odd sin, x_even sin + x_odd cos; an odd last one stays. */
typedef struct {
    Columns cosine, sine;
} Turn;

INLINE Turn turn_of(ptrdiff_t n, int direction)
{
    float cosine[LATTICE_COLUMNS], sine[LATTICE_COLUMNS];
    for (ptrdiff_t i = 0; i < LATTICE_COLUMNS; i++) {
        const int lone = n % 2 == 1 && i >= n - 1;  /* nor do the lanes behind it turn */
        cosine[i] = lone ? 1.0f : 0.866025404f;
        sine[i] = lone ? 0.0f : i % 2 == 1 ? 0.5f * direction : -0.5f * direction;
    }
    return (Turn){columns_load(cosine, LATTICE_COLUMNS), columns_load(sine, LATTICE_COLUMNS)};
}

INLINE Columns columns_turned(Columns x, const Turn *turn)
{
    for (int i = 0; i < LATTICE_VECS; i++)
        x.v[i] = turn->cosine.v[i] * x.v[i]
               + turn->sine.v[i] * __builtin_shufflevector(x.v[i], x.v[i], SWAPPED);
    return x;
}

/* The row of a composite less those of its prime factors. */
INLINE Columns prime_residual(const float *e, ptrdiff_t row, ptrdiff_t n, const LatticeGraph *g,
                              ptrdiff_t i)
{
    Columns rest = columns_load(e + g->composite[i] * row, n);
    for (int64_t f = g->start[i]; f < g->start[i + 1]; f++)
        rest = columns_plus(rest, -g->exponent[f], columns_load(e + g->prime[f] * row, n));
    return rest;
}

static void lattice_loss_sums(double *sums, const float *e, ptrdiff_t row, ptrdiff_t n,
                              const LatticeGraph *g)
{
    const ptrdiff_t turned = g->tokens / LATTICE_ORDER * LATTICE_ORDER;
    const Turn turn = turn_of(n, 1);
    sums[0] = sums[1] = sums[2] = sums[3] = 0.0;
    for (ptrdiff_t first = 0; first < g->tokens; first += LATTICE_ROWS) {
        const ptrdiff_t stop = first + LATTICE_ROWS < g->tokens ? first + LATTICE_ROWS : g->tokens;
        vec squares = {0}, near = {0}, apart = {0};
        for (ptrdiff_t i = first; i < stop; i++) {
            const Columns own = columns_load(e + i * row, n);
            squares = columns_squares(squares, 1.0f, own);
            for (ptrdiff_t k = i * g->near; k < (i + 1) * g->near; k++)
                near = columns_squares(
                    near, g->nearness[k],
                    columns_plus(own, -1.0f, columns_load(e + g->neighbour[k] * row, n)));
            if (i < turned) {
                const ptrdiff_t next = (i + 1) % LATTICE_ORDER ? i + 1 : i + 1 - LATTICE_ORDER;
                apart = columns_squares(
                    apart, 1.0f,
                    columns_plus(columns_turned(own, &turn), -1.0f,
                                 columns_load(e + next * row, n)));
            }
        }
        sums[0] += vec_sum(squares);
        sums[1] += vec_sum(near);
        sums[2] += vec_sum(apart);
    }
    for (ptrdiff_t first = 0; first < g->composites; first += LATTICE_ROWS) {
        vec rests = {0};
        for (ptrdiff_t i = first; i < first + LATTICE_ROWS && i < g->composites; i++)
            rests = columns_squares(rests, 1.0f, prime_residual(e, row, n, g, i));
        sums[3] += vec_sum(rests);
    }
}

static void lattice_loss_gradient(float *d, const float *e, ptrdiff_t row, ptrdiff_t n,
                                  const LatticeGraph *g, const float *factors)
{
    const ptrdiff_t turned = g->tokens / LATTICE_ORDER * LATTICE_ORDER;
    const Turn turn = turn_of(n, 1), back = turn_of(n, -1);
    for (ptrdiff_t i = 0; i < g->tokens; i++) {
        const Columns own = columns_load(e + i * row, n);
        Columns sum = columns_plus(columns_load(d + i * row, n), -factors[0], own);
        for (ptrdiff_t k = i * g->near; k < (i + 1) * g->near; k++) {
            float *const other = d + g->neighbour[k] * row;
            const float factor = factors[1] * g->nearness[k];
            const Columns apart =
                columns_plus(own, -1.0f, columns_load(e + g->neighbour[k] * row, n));
            sum = columns_plus(sum, factor, apart);
            columns_store(other, columns_plus(columns_load(other, n), -factor, apart), n);
        }
        if (i < turned) {
            const ptrdiff_t next = (i + 1) % LATTICE_ORDER ? i + 1 : i + 1 - LATTICE_ORDER;
            const ptrdiff_t before = i % LATTICE_ORDER ? i - 1 : i - 1 + LATTICE_ORDER;
            const Columns behind = columns_load(e + next * row, n);
            const Columns ahead = columns_load(e + before * row, n);
            sum = columns_plus(sum, 2.0f * factors[2], own);
            sum = columns_plus(sum, -factors[2], columns_turned(behind, &back));
            sum = columns_plus(sum, -factors[2], columns_turned(ahead, &turn));
        }
        columns_store(d + i * row, sum, n);
    }
    for (ptrdiff_t i = 0; i < g->composites; i++) {
        float *const own = d + g->composite[i] * row;
        const Columns rest = prime_residual(e, row, n, g, i);
        columns_store(own, columns_plus(columns_load(own, n), factors[3], rest), n);
        for (int64_t f = g->start[i]; f < g->start[i + 1]; f++) {
            float *const to = d + g->prime[f] * row;
            columns_store(to, columns_plus(columns_load(to, n), -factors[3] * g->exponent[f], rest),
                          n);
        }
    }
}

#endif
