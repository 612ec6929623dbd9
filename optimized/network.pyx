"""The order of operations; the mirror of `cllm.reference.network`.

Promises: a whole pass, or a whole step, runs in one parallel region; a barrier stands only where
one thread reads what another has written, and says what. Nothing is allocated after
construction. Results do not depend on the number of threads.
Leaves out: checking the input, which `cllm.Model` has done.

A thread owns rows of activations, rows of a weight's gradient, or pairs of batch row and head.
"""

import numpy as np

from cllm.layout import LAYER_TENSORS

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY
from libc.string cimport memmove, memset

from .adam cimport adam_update_body, clip_scale_of, global_norm_body, norm_of_blocks
from .attention cimport attention_backward_body, attention_decode_body, attention_forward_body
from .cross_entropy cimport cross_entropy_backward_body, cross_entropy_forward_body
from .embedding cimport embedding_backward_body, embedding_forward_body
from .gelu cimport gelu_backward_body, gelu_forward_body
from .kernels cimport Barrier, kernels, share_start, team_barrier, team_size
from .layernorm cimport (
    layernorm_backward_input_body, layernorm_backward_weight_body, layernorm_forward_body,
)
from .linear cimport (
    linear_backward_input_body, linear_backward_weight_body, linear_forward_body,
)
from .residual cimport residual_forward_body
from .sampling cimport sample_body
from .unembedding cimport (
    unembedding_backward_input_body, unembedding_backward_weight_body, unembedding_forward_body,
)

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

LAYER_ACTIVATIONS = (
    "ln1", "ln1_mean", "ln1_rstd", "qkv", "attn", "attn_lse", "x_mid", "ln2", "ln2_mean",
    "ln2_rstd", "ff_in", "ff_act", "ff", "x_out", "keys", "values",
)

cdef struct Activations:
    # One layer of the buffers, in the order of LAYER_ACTIVATIONS.
    float *ln1
    float *ln1_mean
    float *ln1_rstd
    float *qkv
    float *attn
    float *attn_lse
    float *x_mid
    float *ln2
    float *ln2_mean
    float *ln2_rstd
    float *ff_in
    float *ff_act
    float *ff
    float *x_out
    float *keys
    float *values

COMMON = (
    "parameters", "gradients", "first_moment", "second_moment", "positions", "tokens", "targets",
    "x0", "logits", "losses", "dx", "dln", "dff", "dqkv", "attention_tiles", "norm_sums",
    "window", "next_logits", "order", "decoded",
)

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
    float *dln
    float *dff
    float *dqkv
    float *attention_tiles
    double *norm_sums
    int *window
    float *next_logits
    int *order
    float *decoded


cdef struct Net:
    # Sizes and addresses: all that a pass needs.
    Py_ssize_t V, D, L, H, F, T, P
    float *embedding
    float *dembedding
    const Tensors *p
    const Tensors *g
    const Activations *a
    Common c
    Barrier *barrier


cdef void forward_body(
    const Net *net, Py_ssize_t B, Py_ssize_t T, int thread, int threads
) noexcept nogil:
    cdef Py_ssize_t N = B * T, D = net.D, F = net.F, H = net.H, layer
    cdef const Common *c = &net.c
    cdef const Tensors *w
    cdef const Activations *a
    cdef float *x = c.x0
    embedding_forward_body(x, c.tokens, net.embedding, c.positions, N, T, D, thread, threads)
    for layer in range(net.L):
        w = net.p + layer
        a = net.a + layer
        layernorm_forward_body(
            a.ln1, a.ln1_mean, a.ln1_rstd, x, w.ln1_gain, w.ln1_shift, N, D, thread, threads
        )
        linear_forward_body(a.qkv, a.ln1, w.qkv_weight, NULL, N, D, 3 * D, thread, threads)
        team_barrier(net.barrier, threads)  # attention reads all rows of qkv
        attention_forward_body(
            a.attn, a.attn_lse, a.qkv, c.attention_tiles, B, T, D, H, thread, threads
        )
        team_barrier(net.barrier, threads)  # rows of attn come from several heads
        residual_forward_body(a.x_mid, x, a.attn, N, D, thread, threads)

        x = a.x_mid
        layernorm_forward_body(
            a.ln2, a.ln2_mean, a.ln2_rstd, x, w.ln2_gain, w.ln2_shift, N, D, thread, threads
        )
        linear_forward_body(a.ff_in, a.ln2, w.ff_in_weight, w.ff_in_bias, N, D, F, thread, threads)
        gelu_forward_body(a.ff_act, a.ff_in, N, F, thread, threads)
        linear_forward_body(
            a.ff, a.ff_act, w.ff_out_weight, w.ff_out_bias, N, F, D, thread, threads
        )
        residual_forward_body(a.x_out, x, a.ff, N, D, thread, threads)
        x = a.x_out
    unembedding_forward_body(c.logits, x, net.embedding, N, net.V, D, thread, threads)


cdef void backward_body(
    const Net *net, Py_ssize_t B, Py_ssize_t T, double divisor, int thread, int threads
) noexcept nogil:
    cdef Py_ssize_t N = B * T, D = net.D, F = net.F, H = net.H, V = net.V, layer
    cdef const Common *c = &net.c
    cdef const Tensors *w
    cdef const Tensors *d
    cdef const Activations *a
    cdef const float *x = net.a[net.L - 1].x_out
    # The logits become their gradient in place.
    cross_entropy_backward_body(c.logits, c.logits, c.targets, divisor, N, V, thread, threads)
    unembedding_backward_input_body(c.dx, c.logits, net.embedding, N, V, D, thread, threads)
    # a weight's gradient reads all rows: of dlogits here, of dx below
    team_barrier(net.barrier, threads)
    unembedding_backward_weight_body(net.dembedding, c.logits, x, N, V, D, thread, threads)
    for layer in range(net.L - 1, -1, -1):
        w = net.p + layer
        d = net.g + layer
        a = net.a + layer
        # x_out = x_mid + ff: dx is the gradient of both
        linear_backward_input_body(c.dff, c.dx, w.ff_out_weight, N, F, D, thread, threads)
        gelu_backward_body(c.dff, c.dff, a.ff_in, N, F, thread, threads)
        linear_backward_input_body(c.dln, c.dff, w.ff_in_weight, N, D, F, thread, threads)
        linear_backward_weight_body(
            d.ff_out_weight, d.ff_out_bias, c.dx, a.ff_act, N, F, D, thread, threads
        )
        # all rows of dff and dln are written, and all of dx has been read
        team_barrier(net.barrier, threads)
        linear_backward_weight_body(
            d.ff_in_weight, d.ff_in_bias, c.dff, a.ln2, N, D, F, thread, threads
        )
        layernorm_backward_weight_body(
            d.ln2_gain, d.ln2_shift, c.dln, a.x_mid, a.ln2_mean, a.ln2_rstd, N, D, thread, threads
        )
        layernorm_backward_input_body(
            c.dx, c.dln, a.x_mid, a.ln2_mean, a.ln2_rstd, w.ln2_gain, N, D, thread, threads
        )

        # x_mid = x + attn: dx is the gradient of both
        # attention reads all rows of dx; all of dff and dln has been read
        team_barrier(net.barrier, threads)
        attention_backward_body(
            c.dqkv, c.dx, a.qkv, a.attn, a.attn_lse, c.attention_tiles, B, T, D, H,
            thread, threads,
        )
        # rows of dqkv come from several heads; all of dx has been read
        team_barrier(net.barrier, threads)
        x = net.a[layer - 1].x_out if layer > 0 else c.x0
        linear_backward_input_body(c.dln, c.dqkv, w.qkv_weight, N, D, 3 * D, thread, threads)
        linear_backward_weight_body(
            d.qkv_weight, NULL, c.dqkv, a.ln1, N, D, 3 * D, thread, threads
        )
        team_barrier(net.barrier, threads)  # all rows of dln are written
        layernorm_backward_weight_body(
            d.ln1_gain, d.ln1_shift, c.dln, x, a.ln1_mean, a.ln1_rstd, N, D, thread, threads
        )
        layernorm_backward_input_body(
            c.dx, c.dln, x, a.ln1_mean, a.ln1_rstd, w.ln1_gain, N, D, thread, threads
        )
        # all rows of dx are written, and all of dln has been read
        team_barrier(net.barrier, threads)
    embedding_backward_body(net.dembedding, c.dx, c.tokens, N, V, D, thread, threads)


cdef void zero_gradients_body(const Net *net, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t start = share_start(net.P, thread, threads)
    cdef Py_ssize_t stop = share_start(net.P, thread + 1, threads)
    memset(net.c.gradients + start, 0, (stop - start) * sizeof(float))


cdef struct Hyper:
    # cllm.Update as C numbers; clip is infinite where it is off.
    double step, learning_rate, beta1, beta2, epsilon, weight_decay, clip


cdef void update_body(const Net *net, const Hyper *u, int thread, int threads) noexcept nogil:
    cdef const Common *c = &net.c
    cdef double scale = 1.0
    if u.clip != INFINITY:
        global_norm_body(c.norm_sums, c.gradients, net.P, thread, threads)
        team_barrier(net.barrier, threads)  # the norm reads all blocks' sums
        scale = clip_scale_of(norm_of_blocks(c.norm_sums, net.P), u.clip)
    adam_update_body(
        c.parameters, c.first_moment, c.second_moment, c.gradients, u.step, u.learning_rate,
        u.beta1, u.beta2, u.epsilon, u.weight_decay, scale, net.P, thread, threads,
    )


cdef void decode_body(const Net *net, Py_ssize_t position) noexcept nogil:
    """One token on one thread, its row of activations in `decoded`."""
    cdef Py_ssize_t D = net.D, F = net.F, layer, v
    cdef const Common *c = &net.c
    cdef const Tensors *w
    cdef const Activations *a
    cdef float *x = c.decoded
    cdef float *normed = x + D
    cdef float *branch = normed + D
    cdef float *qkv = branch + D
    cdef float *hidden = qkv + 3 * D
    cdef float *scores = hidden + F
    cdef float mean, rstd
    embedding_forward_body(
        x, c.window + position, net.embedding, c.positions + position * D, 1, 1, D, 0, 1
    )
    for layer in range(net.L):
        w = net.p + layer
        a = net.a + layer
        layernorm_forward_body(normed, &mean, &rstd, x, w.ln1_gain, w.ln1_shift, 1, D, 0, 1)
        linear_forward_body(qkv, normed, w.qkv_weight, NULL, 1, D, 3 * D, 0, 1)
        attention_decode_body(branch, a.keys, a.values, qkv, scores, position, D, net.H, 0, 1)
        residual_forward_body(x, x, branch, 1, D, 0, 1)

        layernorm_forward_body(normed, &mean, &rstd, x, w.ln2_gain, w.ln2_shift, 1, D, 0, 1)
        linear_forward_body(hidden, normed, w.ff_in_weight, w.ff_in_bias, 1, D, F, 0, 1)
        gelu_forward_body(hidden, hidden, 1, F, 0, 1)
        linear_forward_body(branch, hidden, w.ff_out_weight, w.ff_out_bias, 1, F, D, 0, 1)
        residual_forward_body(x, x, branch, 1, D, 0, 1)
    for v in range(net.V):  # a row of logits: dot products read E as it lies
        c.next_logits[v] = kernels.dot(x, net.embedding + v * D, D)


cdef Py_ssize_t append_body(const Net *net, int token, Py_ssize_t length) noexcept nogil:
    """Append a token to the window and decode it; returns the new length of the context."""
    cdef Py_ssize_t kept = net.T // 2, position
    if length == net.T:  # slide: the last half is fed again from position 0
        memmove(net.c.window, net.c.window + net.T - kept, kept * sizeof(int))
        for position in range(kept):
            decode_body(net, position)
        length = kept
    net.c.window[length] = token
    decode_body(net, length)
    return length + 1


cdef enum:
    # Multiply-adds of a forward pass below which one more thread costs more than it brings.
    WORK_PER_THREAD = 500_000


cdef class Network:
    """The passes over the buffers of one plan."""

    cdef Net net
    cdef Barrier barrier
    cdef int threads
    cdef tuple alive  # what the addresses point into

    def __init__(self, plan, buffers, parameters, gradients):
        """Take the buffers of a plan by name, and its parameters and gradients by tensor name."""
        cdef Net *net = &self.net
        net.barrier = &self.barrier
        config = plan.config
        net.V, net.D, net.L = config.vocab_size, config.embed_dim, config.num_layers
        net.H, net.F, net.T = config.num_heads, config.ff_dim, plan.seq_len
        net.P, self.threads = config.num_parameters, plan.threads
        layers = [f"layer{layer}." for layer in range(config.num_layers)]
        tensors = [name for name, *_ in LAYER_TENSORS]
        p = addresses(parameters, layers, tensors, sizeof(Tensors))
        g = addresses(gradients, layers, tensors, sizeof(Tensors))
        a = addresses(buffers, layers, LAYER_ACTIVATIONS, sizeof(Activations))
        common = addresses(buffers, [""], COMMON, sizeof(Common))
        embeddings = addresses(parameters, [""], ["embedding"], sizeof(void *))
        dembeddings = addresses(gradients, [""], ["embedding"], sizeof(void *))
        net.p = <const Tensors *> <size_t> p.ctypes.data
        net.g = <const Tensors *> <size_t> g.ctypes.data
        net.a = <const Activations *> <size_t> a.ctypes.data
        net.c = (<const Common *> <size_t> common.ctypes.data)[0]
        net.embedding = <float *> <size_t> embeddings[0, 0]
        net.dembedding = <float *> <size_t> dembeddings[0, 0]
        self.alive = (buffers, parameters, gradients, p, g, a)

    cdef int team(self, Py_ssize_t N) noexcept:
        """How many of the planned threads work on N rows: the one place that decides it."""
        cdef Py_ssize_t useful = 1 + N * self.net.P // WORK_PER_THREAD
        return <int> min(<Py_ssize_t> self.threads, useful)

    def forward(self, Py_ssize_t B, Py_ssize_t T):
        """From `tokens` to `logits`."""
        cdef int team = self.team(B * T)
        with nogil, parallel(num_threads=team):
            forward_body(&self.net, B, T, threadid(), team_size())

    def loss(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """From `logits` and `targets` to the loss."""
        cdef int team = self.team(B * T)
        cdef const Common *c = &self.net.c
        with nogil, parallel(num_threads=team):
            cross_entropy_forward_body(
                c.losses, c.logits, c.targets, B * T, self.net.V, threadid(), team_size()
            )
        return self.mean_loss(B * T, divisor)

    def backward(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """Add to the gradients."""
        cdef int team = self.team(B * T)
        with nogil, parallel(num_threads=team):
            backward_body(&self.net, B, T, divisor, threadid(), team_size())

    def update(self, update):
        """From the gradients and the moments to the parameters."""
        cdef int team = self.team(1)
        cdef Hyper hyper = hyper_of(update)
        with nogil, parallel(num_threads=team):
            update_body(&self.net, &hyper, threadid(), team_size())

    def step(self, Py_ssize_t B, Py_ssize_t T, double divisor, update):
        """Zero gradients, forward, loss, backward and update in one parallel region."""
        cdef int team = self.team(B * T)
        cdef Hyper hyper = hyper_of(update)
        cdef const Common *c = &self.net.c
        with nogil, parallel(num_threads=team):
            zero_gradients_body(&self.net, threadid(), team_size())
            forward_body(&self.net, B, T, threadid(), team_size())
            cross_entropy_forward_body(
                c.losses, c.logits, c.targets, B * T, self.net.V, threadid(), team_size()
            )
            backward_body(&self.net, B, T, divisor, threadid(), team_size())
            # the update reads all gradients and writes what backward has read
            team_barrier(&self.barrier, team_size())
            update_body(&self.net, &hyper, threadid(), team_size())
        return self.mean_loss(B * T, divisor)

    cdef double mean_loss(self, Py_ssize_t N, double divisor):
        """The rows' losses summed in their order, whoever computed them."""
        cdef Py_ssize_t n
        cdef double total = 0.0
        for n in range(N):
            total += self.net.c.losses[n]
        return total / divisor

    def append(self, int token, Py_ssize_t length):
        """Append a token to a context of `length`; returns the new length."""
        with nogil:
            length = append_body(&self.net, token, length)
        return length

    def generate(
        self, int[::1] drawn, Py_ssize_t length, double temperature, Py_ssize_t top_k,
        double top_p, const double[::1] uniforms,
    ):
        """Draw and append len(drawn) tokens; returns the new length of the context."""
        cdef Py_ssize_t i
        cdef const Common *c = &self.net.c
        with nogil:
            for i in range(drawn.shape[0]):
                drawn[i] = sample_body(
                    c.order, c.next_logits, self.net.V, temperature, top_k, top_p, uniforms[i]
                )
                length = append_body(&self.net, drawn[i], length)
        return length


cdef Hyper hyper_of(object update):
    cdef Hyper hyper
    hyper.step, hyper.learning_rate = update.step, update.learning_rate
    hyper.beta1, hyper.beta2, hyper.epsilon = update.beta1, update.beta2, update.epsilon
    hyper.weight_decay = update.weight_decay
    hyper.clip = INFINITY if update.clip is None else update.clip
    return hyper


cdef object addresses(object arrays, object prefixes, object names, size_t size):
    """Addresses (prefixes, names) of arrays by name, 0 where the plan does not need one."""
    if len(names) * sizeof(void *) != size:
        raise RuntimeError(f"a struct of {size} bytes does not match its fields {names}")
    table = np.zeros((len(prefixes), len(names)), np.uintp)
    for i, prefix in enumerate(prefixes):
        for j, name in enumerate(names):
            if prefix + name in arrays:
                table[i, j] = arrays[prefix + name].ctypes.data
    return table
