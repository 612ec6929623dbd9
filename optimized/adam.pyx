"""Adam with decoupled weight decay; the mirror of `cllm.reference.adam`."""

import numpy as np

from cllm.model import Update
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, pow, sqrt

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport Rows, kernels, share, team_size


cdef void global_norm_body(
    double *sums, const float *gradients, Py_ssize_t P, Rows blocks
) noexcept nogil:
    """Blocks of sums (ceil(P/NORM_BLOCK),) of squares."""
    cdef Py_ssize_t block
    for block in range(blocks.start, blocks.stop):
        sums[block] = kernels.sum_squares(
            gradients + block * NORM_BLOCK, min(<Py_ssize_t> NORM_BLOCK, P - block * NORM_BLOCK)
        )


cdef double norm_of_blocks(const double *sums, Py_ssize_t P) noexcept nogil:
    """The norm from all the blocks' sums."""
    cdef Py_ssize_t block
    cdef double total = 0.0
    for block in range((P + NORM_BLOCK - 1) // NORM_BLOCK):
        total += sums[block]
    return sqrt(total)


def global_norm(gradients, *, int threads=1):
    """The Euclidean norm of gradients (P,) float32, summed in float64."""
    cdef Py_ssize_t P = shape_of("gradients", gradients, "P")[0]
    cdef const float *gradients_ = floats("gradients", gradients, (P,))
    threads = check_threads(threads)
    cdef Py_ssize_t blocks = (P + NORM_BLOCK - 1) // NORM_BLOCK
    cdef double[::1] sums = np.empty(blocks)
    with nogil, parallel(num_threads=threads):
        global_norm_body(&sums[0], gradients_, P, share(blocks, 1, threadid(), team_size()))
    return norm_of_blocks(&sums[0], P)


cdef double clip_scale_of(double norm, double clip) noexcept nogil:
    return 1.0 if norm <= clip else clip / norm


def clip_scale(norm, clip):
    """What gradients of this norm are multiplied by so that their norm is at most `clip`."""
    return clip_scale_of(norm, INFINITY if clip is None else clip)


cdef Adam adam_of(
    double step, double learning_rate, double beta1, double beta2, double epsilon,
    double weight_decay, double scale, int threads,
) noexcept nogil:
    cdef Adam adam
    adam.beta1, adam.rest1 = <float> beta1, <float> (1.0 - beta1)
    adam.beta2, adam.rest2 = <float> beta2, <float> (1.0 - beta2)
    adam.scale = <float> scale
    adam.decay = <float> (1.0 - learning_rate * weight_decay)
    adam.rate = <float> (learning_rate / (1.0 - pow(beta1, step)))
    adam.second_correction = <float> (1.0 / (1.0 - pow(beta2, step)))
    adam.epsilon = <float> epsilon
    adam.shared = threads > 1
    return adam


cdef void adam_update_body(
    float *parameters, float *first_moment, float *second_moment, const float *gradients,
    const Adam *adam, Rows elements,
) noexcept nogil:
    """Elements of the parameters and of both moments."""
    cdef Py_ssize_t start = elements.start
    kernels.adam(
        parameters + start, first_moment + start, second_moment + start, gradients + start,
        elements.stop - start, adam.beta1, adam.rest1, adam.beta2, adam.rest2, adam.scale,
        adam.decay, adam.rate, adam.second_correction, adam.epsilon, adam.shared,
    )


def adam_update(
    parameters, first_moment, second_moment, gradients, step, learning_rate, beta1, beta2,
    epsilon, weight_decay, scale, *, int threads=1,
):
    """Move parameters (P,) and both moments (P,) by `scale` times the gradients (P,), float32.

    `step` counts from 1; epsilon stands outside the square root.
    """
    Update(step, learning_rate, beta1, beta2, epsilon, weight_decay)  # refuses what is no number
    cdef Py_ssize_t P = shape_of("parameters", parameters, "P")[0]
    cdef float *parameters_ = floats("parameters", parameters, (P,), True)
    cdef float *first_ = floats("first_moment", first_moment, (P,), True)
    cdef float *second_ = floats("second_moment", second_moment, (P,), True)
    cdef const float *gradients_ = floats("gradients", gradients, (P,))
    cdef double t = step, rate = learning_rate, b1 = beta1, b2 = beta2, eps = epsilon
    cdef double decay = weight_decay, factor = scale
    disjoint(
        {"parameters": parameters, "first_moment": first_moment, "second_moment": second_moment},
        {"gradients": gradients},
    )
    threads = check_threads(threads)
    cdef Adam adam = adam_of(t, rate, b1, b2, eps, decay, factor, threads)
    with nogil, parallel(num_threads=threads):
        adam_update_body(
            parameters_, first_, second_, gradients_, &adam,
            share(P, 16, threadid(), team_size()),
        )
