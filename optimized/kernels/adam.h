/* Adam with decoupled weight decay, element by element. */
#ifndef CLLM_ADAM_H
#define CLLM_ADAM_H

#include "vector.h"

/* rest1 and rest2 are 1 - beta1 and 1 - beta2, which float32 cannot subtract exactly enough. */
static void adam(float *parameters, float *first, float *second, const float *gradients,
                 ptrdiff_t n, float beta1, float rest1, float beta2, float rest2, float scale,
                 float decay, float rate, float second_correction, float epsilon, int shared)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec g = scale * vec_load_upto(gradients + i, n - i);
        const vec m = beta1 * vec_load_upto(first + i, n - i) + rest1 * g;
        const vec v = beta2 * vec_load_upto(second + i, n - i) + rest2 * g * g;
        const vec p = decay * vec_load_upto(parameters + i, n - i)
                    - rate * m / (vec_sqrt(v * second_correction) + epsilon);
        vec_store_upto(first + i, m, n - i);
        vec_store_upto(second + i, v, n - i);
        if (shared && n - i >= LANES)
            vec_stream(parameters + i, p);
        else
            vec_store_upto(parameters + i, p, n - i);
    }
    if (shared)
        vec_fence();
}

#endif
