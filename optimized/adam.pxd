# Elements of a gradient whose squares are summed together; the blocks are summed in their order.
cpdef enum:
    NORM_BLOCK = 4096

cdef void global_norm_body(
    double *sums, const float *gradients, Py_ssize_t P, int thread, int threads
) noexcept nogil

cdef double norm_of_blocks(const double *sums, Py_ssize_t P) noexcept nogil

cdef double clip_scale_of(double norm, double clip) noexcept nogil

cdef void adam_update_body(
    float *parameters, float *first_moment, float *second_moment, const float *gradients,
    double step, double learning_rate, double beta1, double beta2, double epsilon,
    double weight_decay, double scale, Py_ssize_t P, int thread, int threads,
) noexcept nogil
