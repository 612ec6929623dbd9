/* One vector of floats in the width of the level, through the compiler's vector extensions. */
#ifndef CLLM_VECTOR_H
#define CLLM_VECTOR_H

#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));

static inline vec vec_load(const float *x)
{
    vec v;
    memcpy(&v, x, sizeof v);  /* an unaligned load */
    return v;
}

static inline void vec_store(float *x, vec v)
{
    memcpy(x, &v, sizeof v);
}

/* The lanes in pairs: lane i with lane i + LANES/2, and so on. */
static inline float vec_sum(vec v)
{
    float lane[LANES];
    vec_store(lane, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

#endif
