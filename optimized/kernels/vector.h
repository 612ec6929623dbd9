/* One vector of floats in the width of the level, through the compiler's vector extensions. What
 * they cannot say (a partial load or store, the larger of two) stands here, level by level. */
#ifndef CLLM_VECTOR_H
#define CLLM_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define EACH_LANE 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LANES 8
#define EACH_LANE 0, 1, 2, 3, 4, 5, 6, 7
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LANES 4
#define EACH_LANE 0, 1, 2, 3
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(LANES * sizeof(float))));
/* the same in memory: only element-aligned */
typedef float vec_in_memory
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

INLINE vec vec_load(const float *x) { return *(const vec_in_memory *)x; }
INLINE void vec_store(float *x, vec v) { *(vec_in_memory *)x = v; }
INLINE vec vec_of(float x) { return x - (vec){0}; }

/* The first n lanes from memory, the others 0; all of them where n >= LANES. */
INLINE vec vec_load_upto(const float *x, ptrdiff_t n)
{
    if (n >= LANES)
        return vec_load(x);
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
#else
    float lanes[LANES] = {0};
    for (ptrdiff_t i = 0; i < n; i++)
        lanes[i] = x[i];
    return vec_load(lanes);
#endif
}

/* The first n lanes to memory; all of them where n >= LANES. */
INLINE void vec_store_upto(float *x, vec v, ptrdiff_t n)
{
    if (n >= LANES) {
        vec_store(x, v);
        return;
    }
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(x, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    float lanes[LANES];
    vec_store(lanes, v);
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = lanes[i];
#endif
}

/* To memory past the caches, for what another core reads next: it need not fetch the line from this
 * one, nor this one take it back. vec_fence ends a run of them. */
INLINE void vec_stream(float *x, vec v)
{
#if defined(__x86_64__)
    if ((uintptr_t)x % sizeof v == 0) {
#if defined(__AVX512F__)
        _mm512_stream_ps(x, (__m512)v);
#elif defined(__AVX2__)
        _mm256_stream_ps(x, (__m256)v);
#else
        _mm_stream_ps(x, (__m128)v);
#endif
        return;
    }
#endif
    vec_store(x, v);
}

INLINE void vec_fence(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* a where the mask is all ones, b where it is 0 */
INLINE vec vec_select(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* The first n lanes of v, in the others `rest`. */
INLINE vec vec_first(vec v, ptrdiff_t n, float rest)
{
    if (n >= LANES)
        return v;
    return vec_select((ivec){EACH_LANE} < (int32_t)n, v, vec_of(rest));
}

/* The larger and the smaller, lane by lane; b where either is NaN. */
INLINE vec vec_max(vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vec_select(a > b, a, b);
#endif
}

INLINE vec vec_sqrt(vec v)
{
#if defined(__AVX512F__)
    return (vec)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (vec)_mm256_sqrt_ps((__m256)v);
#elif defined(__x86_64__)
    return (vec)_mm_sqrt_ps((__m128)v);
#else
    for (int i = 0; i < LANES; i++)
        v[i] = sqrtf(v[i]);
    return v;
#endif
}

INLINE vec vec_min(vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (vec)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vec_select(a < b, a, b);
#endif
}

/* The lanes in pairs: lane i with lane i + LANES/2, and so on. */
INLINE float vec_sum(vec v)
{
    float lane[LANES];
#if LANES == 16
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    (void)lane;
    return v[0];
#else
    vec_store(lane, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
#endif
}

/* Rows become columns: log2(LANES) perfect shuffles of the rows (Stone 1971, "Parallel Processing
 * with the Perfect Shuffle"). */
INLINE void vec_transpose(vec rows[LANES])
{
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        vec next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], LOW_HALVES);
            next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], HIGH_HALVES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            rows[i] = next[i];
    }
}

#endif
