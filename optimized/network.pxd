from .kernels cimport Barrier, LatticeTables
from .lattice_loss cimport LatticeLoss

cdef struct Tensors:
    # One layer of the parameters or of the gradients, in the order of cllm.layout.
    float *qkv_weight
    float *ff_in_weight
    float *ff_in_bias
    float *ff_out_weight
    float *ff_out_bias
    float *ln1_gain
    float *ln1_shift
    float *ln2_gain
    float *ln2_shift
    float *lattice_weight  # NULL where attention is plain

cdef struct Activations:
    # One layer of the buffers, in the order of LAYER_ACTIVATIONS.
    float *ln1
    float *ln1_mean
    float *ln1_rstd
    float *qkv
    float *attn_lse
    float *x_mid
    float *ln2
    float *ln2_mean
    float *ln2_rstd
    float *ff_act
    float *ff_slope
    float *x_out
    float *keys
    float *values

cdef struct Common:
    # The other buffers, in the order of COMMON.
    float *parameters
    float *gradients
    float *first_moment
    float *second_moment
    float *positions
    int *tokens
    int *targets
    float *x0
    float *logits
    float *losses
    float *dx
    float *row_sums
    float *attention_tiles
    float *panels
    double *norm_sums
    int *window
    float *next_logits
    int *order
    double *token_weights
    float *decoded
    float *lattice_fields
    double *lattice_sums
    float *lattice_window
    double *lattice_terms
    double *lattice_chunk_sums

cdef struct Net:
    # Sizes and addresses: all that a pass needs. P parameters; panel and tiles are the floats of
    # scratch that a thread has for matrix products and for attention.
    Py_ssize_t V, D, L, H, F, T, P, panel, tiles
    float *embedding
    float *dembedding
    const Tensors *p
    const Tensors *g
    const Activations *a
    Common c
    Barrier *barrier
    # The parts of the lattice, and what they are computed from.
    bint attention, symmetry, loss
    LatticeTables lattice_tables
    LatticeLoss lattice_loss

cdef struct Hyper:
    # cllm.Update as C numbers, in its order; clip is infinite where it is off.
    double step, learning_rate, beta1, beta2, epsilon, weight_decay, clip

cdef void forward_body(
    const Net *net, const int *tokens, Py_ssize_t B, Py_ssize_t T, int thread, int threads
) noexcept nogil

cdef void loss_body(
    const Net *net, Py_ssize_t N, int thread, int threads
) noexcept nogil

cdef void backward_body(
    const Net *net, const int *tokens, const int *targets, Py_ssize_t B, Py_ssize_t T,
    double divisor, int thread, int threads,
) noexcept nogil

cdef void update_body(
    const Net *net, const Hyper *hyper, int thread, int threads
) noexcept nogil

cdef void step_body(
    const Net *net, const int *tokens, const int *targets, Py_ssize_t B, Py_ssize_t T,
    double divisor, const Hyper *hyper, double *loss, int thread, int threads,
) noexcept nogil

cdef double mean_loss(
    const Net *net, const int *targets, Py_ssize_t N, double divisor
) noexcept nogil

cdef void window_body(const Net *net, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef void decode_body(
    const Net *net, Py_ssize_t position, int thread, int threads
) noexcept nogil
