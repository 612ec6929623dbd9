/* The exponential and what is made of it: sums of exponentials, logarithm, gelu. */
#ifndef CLLM_EXP_H
#define CLLM_EXP_H

#include "vector.h"

/* exp(x) = 2^n exp(r), |r| <= ln(2)/2, exp(r) by the degree-6 polynomial of Cephes' expf. Within
 * 2 units in the last place on [-87.3, 88.3]; from -88 down 0, from 88.4 up infinity. NaN stays
 * NaN. */
INLINE vec vec_exp(vec x)
{
    const vec magic = vec_of(12582912.0f);  /* 1.5 * 2^23: adding it rounds to an integer */
    const vec y = vec_max(vec_of(-88.0f), vec_min(vec_of(89.0f), x));
    const vec rounded = y * 1.44269504f + magic;
    const vec n = rounded - magic;
    const vec r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    /* the low bits of `rounded` hold n; its exponent and magic's leave the shift */
    const ivec power = ((ivec)rounded + 127) << 23;
    return p * (vec)power;
}

/* log(x) of normal x > 0 by the polynomial of Cephes' logf; within 2 units in the last place. */
INLINE vec vec_log(vec x)
{
    ivec exponent = ((ivec)x >> 23) - 126;
    vec m = (vec)(((ivec)x & 0x007fffff) | 0x3f000000);  /* in [0.5, 1) */
    const ivec small = m < 0.707106781f;
    exponent += small;
    m = m + vec_select(small, m, vec_of(0.0f)) - 1.0f;
    const vec e = __builtin_convertvector(exponent, vec), z = m * m;
    vec p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z + e * -2.12194440e-4f - 0.5f * z;
    return m + p + e * 0.693359375f;
}

static float exp_sum(float *out, const float *x, float a, float shift, ptrdiff_t n)
{
    vec sums[4] = {{0}, {0}, {0}, {0}};
    for (ptrdiff_t i = 0; i < n; i += 4 * LANES)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const ptrdiff_t at = i + j * LANES;
            if (at < n) {
                const vec e = vec_exp(a * vec_load_upto(x + at, n - at) - shift);
                sums[j] += vec_first(e, n - at, 0.0f);
                if (out != NULL)
                    vec_store_upto(out + at, e, n - at);
            }
        }
    return vec_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* out = exp(a (x - top)) in double precision, for x up to top: exp(r), |r| <= ln(2)/2, by its series
 * to r^13, whose rest is below 2^-57. Below -708 it is 0. (a x - a top would lose all its digits
 * where a is large.) */
static void exp_double(double *out, const float *x, double a, double top, ptrdiff_t n)
{
    const double magic = 6755399441055744.0;  /* 1.5 * 2^52: adding it rounds to an integer */
    for (ptrdiff_t i = 0; i < n; i++) {
        const double given = a * (x[i] - top);
        const double y = given < -708.0 ? -708.0 : given;
        const double rounded = y * 1.4426950408889634 + magic, k = rounded - magic;
        const double r = (y - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
        double p = 1.0 / 6227020800.0;
        p = p * r + 1.0 / 479001600.0;
        p = p * r + 1.0 / 39916800.0;
        p = p * r + 1.0 / 3628800.0;
        p = p * r + 1.0 / 362880.0;
        p = p * r + 1.0 / 40320.0;
        p = p * r + 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        uint64_t bits;  /* a signed one must not be shifted out of its range */
        memcpy(&bits, &rounded, sizeof bits);
        bits = (bits + 1023) << 52;
        double power;
        memcpy(&power, &bits, sizeof power);
        out[i] = given < -708.0 ? 0.0 : p * power;
    }
}

/* gelu(x) = x/2 (1 + tanh(u)) = x s, s = 1 / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3);
 * its derivative s + 2 x s (1 - s) du/dx. */
static void gelu(float *out, float *slope, const float *x, ptrdiff_t n)
{
    const float twice = 2.0f * 0.797884561f, cubic = 0.044715f;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec v = vec_load_upto(x + i, n - i);
        const vec near = vec_max(vec_of(-20.0f), vec_min(vec_of(20.0f), v));  /* beyond, s is 0 or 1 */
        const vec square = near * near;
        const vec s = 1.0f / (1.0f + vec_exp(-twice * near * (1.0f + cubic * square)));
        const vec du = twice * (1.0f + 3.0f * cubic * square);
        if (out != NULL)
            vec_store_upto(out + i, v * s, n - i);
        if (slope != NULL)
            vec_store_upto(slope + i, s + near * (s * (1.0f - s)) * du, n - i);
    }
}

#endif
