from .kernels cimport Rows

# Elements of a gradient whose squares are summed together; the blocks are summed in their order.
cpdef enum:
    NORM_BLOCK = 4096

cdef void global_norm_body(
    double *sums, const float *gradients, Py_ssize_t P, Rows blocks
) noexcept nogil

cdef double norm_of_blocks(const double *sums, Py_ssize_t P) noexcept nogil

cdef double clip_scale_of(double norm, double clip) noexcept nogil

cdef struct Adam:
    # What a step of Adam needs, as the kernel takes it.
    float beta1
    float rest1
    float beta2
    float rest2
    float scale
    float decay
    float rate
    float second_correction
    float epsilon
    int shared  # whether several threads read the parameters next

cdef Adam adam_of(
    double step, double learning_rate, double beta1, double beta2, double epsilon,
    double weight_decay, double scale, int threads,
) noexcept nogil

cdef void adam_update_body(
    float *parameters, float *first_moment, float *second_moment, const float *gradients,
    const Adam *adam, Rows elements,
) noexcept nogil
