/* One instruction-set level: compiled once for each, with LEVEL its name. */
#include "kernels.h"

#include "gemm.h"
#include "rows.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

const Kernels JOIN(kernels_, LEVEL) = {
    STRING(LEVEL), gemm, dot, axpy, add, max, sum, sum_squares, exp_shifted,
    gelu_forward, gelu_backward, layernorm_forward, layernorm_backward, adam,
};
