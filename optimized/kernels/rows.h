/* Loops over one row: reductions in a fixed order of lanes, and element-wise functions that the
 * compiler vectorizes. */
#ifndef CLLM_ROWS_H
#define CLLM_ROWS_H

#include <math.h>
#include <stdint.h>

#include "vector.h"

static float dot(const float *x, const float *y, ptrdiff_t n)
{
    vec sums = {0};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums += vec_load(x + i) * vec_load(y + i);
    float rest = 0.0f;
    for (; i < n; i++)
        rest += x[i] * y[i];
    return vec_sum(sums) + rest;
}

static float sum(const float *x, ptrdiff_t n)
{
    vec sums = {0};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums += vec_load(x + i);
    float rest = 0.0f;
    for (; i < n; i++)
        rest += x[i];
    return vec_sum(sums) + rest;
}

static double sum_squares(const float *x, ptrdiff_t n)
{
    double lanes[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += (double)x[i + j] * x[i + j];
    for (; i < n; i++)
        lanes[0] += (double)x[i] * x[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
         + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/* The largest element; NaN if there is one, so that it cannot hide. */
static float max(const float *x, ptrdiff_t n)
{
    float top = x[0];
    int unordered = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        top = x[i] > top ? x[i] : top;
        unordered |= x[i] != x[i];
    }
    return unordered ? NAN : top;
}

static void axpy(float *restrict y, float a, const float *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void add(float *out, const float *x, const float *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = x[i] + y[i];
}

/* exp(x) = 2^n exp(r), |r| <= ln(2)/2, exp(r) by the degree-6 polynomial of Cephes' expf. Within
 * 2 units in the last place on [-87.3, 88.3]; below it 0, above it exp(88.3). NaN stays NaN. */
static inline float exp_approx(float x)
{
    const float low = -87.3f, high = 88.3f;
    const float y = x < low ? low : x > high ? high : x;
    const float magic = 12582912.0f;  /* 1.5 * 2^23: adding it rounds to an integer */
    const float n = (y * 1.44269504f + magic) - magic;
    const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const int32_t exponent = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &exponent, sizeof power);
    return x < low ? 0.0f : p * power;
}

static void exp_shifted(float *out, const float *x, float a, float shift, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = exp_approx(a * x[i] - shift);
}

/* x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3) */
#define GELU_SCALE 0.797884561f
#define GELU_CUBIC 0.044715f

static inline float gelu_sigmoid(float x)
{
    const float u = GELU_SCALE * (x + GELU_CUBIC * x * x * x);
    return 1.0f / (1.0f + exp_approx(-2.0f * u));
}

static void gelu_forward(float *out, const float *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = x[i] * gelu_sigmoid(x[i]);
}

static void gelu_backward(float *dx, const float *dout, const float *x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const float s = gelu_sigmoid(x[i]);
        const float du = GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * x[i] * x[i]);
        dx[i] = dout[i] * (s + 2.0f * x[i] * s * (1.0f - s) * du);
    }
}

static void layernorm_forward(float *out, float *mean, float *rstd, const float *x,
                              const float *gain, const float *shift, ptrdiff_t n)
{
    const float m = sum(x, n) / n;
    vec squares = {0};
    float rest = 0.0f;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec centered = vec_load(x + i) - m;
        squares += centered * centered;
    }
    for (; i < n; i++)
        rest += (x[i] - m) * (x[i] - m);
    const float r = 1.0f / sqrtf((vec_sum(squares) + rest) / n + 1e-5f);
    for (i = 0; i < n; i++)
        out[i] = gain[i] * ((x[i] - m) * r) + shift[i];
    *mean = m;
    *rstd = r;
}

static void layernorm_backward(float *dx, const float *dout, const float *x, float mean,
                               float rstd, const float *gain, ptrdiff_t n)
{
    vec sums = {0}, products = {0};
    float sum_rest = 0.0f, product_rest = 0.0f;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec dnormed = vec_load(dout + i) * vec_load(gain + i);
        sums += dnormed;
        products += dnormed * ((vec_load(x + i) - mean) * rstd);
    }
    for (; i < n; i++) {
        const float dnormed = dout[i] * gain[i];
        sum_rest += dnormed;
        product_rest += dnormed * ((x[i] - mean) * rstd);
    }
    const float mean_sum = (vec_sum(sums) + sum_rest) / n;
    const float mean_product = (vec_sum(products) + product_rest) / n;
    for (i = 0; i < n; i++) {
        const float normed = (x[i] - mean) * rstd;
        dx[i] += rstd * (dout[i] * gain[i] - mean_sum - normed * mean_product);
    }
}

/* rest1 and rest2 are 1 - beta1 and 1 - beta2, which float32 cannot subtract exactly enough. */
static void adam(float *restrict parameters, float *restrict first, float *restrict second,
                 const float *restrict gradients, ptrdiff_t n, float beta1, float rest1,
                 float beta2, float rest2, float scale, float decay, float rate,
                 float second_correction, float epsilon)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const float g = scale * gradients[i];
        const float m = beta1 * first[i] + rest1 * g;
        const float v = beta2 * second[i] + rest2 * g * g;
        first[i] = m;
        second[i] = v;
        parameters[i] = decay * parameters[i]
                      - rate * m / (sqrtf(v * second_correction) + epsilon);
    }
}

#endif
