/* Adam with decoupled weight decay, element by element. */
#ifndef CLLM_ADAM_H
#define CLLM_ADAM_H

#include <math.h>
#include <stddef.h>

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
