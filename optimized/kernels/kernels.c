/* One instruction-set level: compiled once for each, with LEVEL its name. */
#include "kernels.h"

#include "adam.h"
#include "attention.h"
#include "exp.h"
#include "gemm.h"
#include "gemv.h"
#include "lattice_attention.h"
#include "lattice_loss.h"
#include "layernorm.h"
#include "rows.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

const Kernels JOIN(kernels_, LEVEL) = {
    STRING(LEVEL), gemm, gemm_times, gemv, dots, axpy, add, scale, max, sum_squares,
    sum_double, exp_sum, exp_double, gelu, layernorm_forward, layernorm_backward,
    attention_forward, attention_backward, lattice_distances, lattice_lower, lattice_loss_sums,
    lattice_loss_gradient, adam,
};
