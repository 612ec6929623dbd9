/* Native defects, one a function: see `defects.pyx`. */
#ifndef CLLM_DEFECTS_H
#define CLLM_DEFECTS_H

#include <stddef.h>

void sum_unsynchronized(float *total, float *parts, ptrdiff_t n, int threads);
void share_activations(float *rows, float *shared, ptrdiff_t count, ptrdiff_t n, int threads);
void read_early(float *read, float *gradients, const float *computed, ptrdiff_t n, int threads);

void write_past_the_end(ptrdiff_t n);
float read_after_free(ptrdiff_t n);
void free_twice(ptrdiff_t n);
int wrap_index(int row, int width);
int shift_too_far(int bits);
void forget(ptrdiff_t bytes);

#endif
