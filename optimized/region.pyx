"""The passes of `cllm.optimized.network` over the buffers of one plan, each in a parallel region.

Promises: one place decides how many threads work. Nothing is allocated after construction; the
caller's floating-point state is left as it was.
Leaves out: checking the input, which `cllm.Model` has done.
"""

from time import perf_counter

import numpy as np

from cllm.layout import LAYER_TENSORS

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY
from libc.string cimport memmove

from .kernels cimport (
    Barrier, attention_scratch, flush_denormals, panel_floats, restore_denormals, team_barrier,
    team_size,
)
from .network cimport (
    Activations, Common, Hyper, Net, Tensors, backward_body, decode_body, forward_body, loss_body,
    mean_loss, step_body, update_body,
)
from .sampling cimport sample_body

LAYER_ACTIVATIONS = (
    "ln1", "ln1_mean", "ln1_rstd", "qkv", "attn_lse", "x_mid", "ln2", "ln2_mean", "ln2_rstd",
    "ff_act", "ff_slope", "x_out", "keys", "values",
)

COMMON = (
    "parameters", "gradients", "first_moment", "second_moment", "positions", "tokens", "targets",
    "x0", "logits", "losses", "dx", "row_sums", "attention_tiles", "panels", "norm_sums",
    "window", "next_logits", "order", "token_weights",
    "decoded",
)

cdef enum:
    # Multiply-adds of a forward pass below which one more thread costs more than it brings.
    WORK_PER_THREAD = 500_000
    # The same for one token, whose threads meet some three times a layer.
    TOKEN_PER_THREAD = 200_000
    # One call of so many is for trying what the others do not use: one thread, or the team.
    TRIAL = 128

cdef struct Pace:
    # Seconds of a token's work with one thread and with the team, as lately seen (0: not yet).
    double alone
    double together
    Py_ssize_t calls


cdef void see(double *pace, double seconds) noexcept:
    """Down at once, up by eighths: a single call that something else held up says little."""
    if pace[0] == 0.0 or seconds < pace[0]:
        pace[0] = seconds
    else:
        pace[0] += (min(seconds, 4.0 * pace[0]) - pace[0]) / 8.0


def scratch_floats(Py_ssize_t seq_len, Py_ssize_t embed_dim, Py_ssize_t num_heads):
    """Floats of scratch that a thread needs: for attention, for matrix products."""
    return attention_scratch(seq_len, embed_dim // num_heads), panel_floats(embed_dim)


cdef class Network:
    """The passes over the buffers of one plan."""

    cdef Net net
    cdef Barrier barrier
    cdef int threads
    cdef Pace training, generation
    cdef tuple alive  # what the addresses point into

    def __init__(self, plan, buffers, parameters, gradients):
        """Take the buffers of a plan by name, and its parameters and gradients by tensor name."""
        cdef Net *net = &self.net
        net.barrier = &self.barrier
        config = plan.config
        net.V, net.D, net.L = config.vocab_size, config.embed_dim, config.num_layers
        net.H, net.F, net.T = config.num_heads, config.ff_dim, plan.seq_len
        net.P, self.threads = config.num_parameters, plan.threads
        net.tiles, net.panel = scratch_floats(net.T, net.D, net.H)
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

    cdef int team(self, Py_ssize_t work, Py_ssize_t enough) noexcept:
        """How many of the planned threads work: the one place that decides it."""
        return <int> min(<Py_ssize_t> self.threads, 1 + work // enough)

    cdef int paying_team(self, Pace *pace, Py_ssize_t work, Py_ssize_t enough) noexcept:
        """The team, or one thread where that is faster: on a machine that is busy with other work
        a team waits for its slowest thread, at every barrier."""
        cdef int team = self.team(work, enough)
        cdef bint alone_is_faster = 0.0 < pace.alone < pace.together
        if team == 1:
            return 1
        pace.calls += 1
        if pace.calls % TRIAL == 2:
            return team if alone_is_faster else 1
        return 1 if alone_is_faster else team

    def forward(self, Py_ssize_t B, Py_ssize_t T):
        """From `tokens` to `logits`."""
        cdef int team = self.team(B * T * self.net.P, WORK_PER_THREAD)
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            forward_body(&self.net, self.net.c.tokens, B, T, threadid(), team_size())
            restore_denormals(before)

    def loss(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """From `logits` and `targets` to the loss."""
        cdef int team = self.team(B * T * self.net.P, WORK_PER_THREAD)
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            loss_body(&self.net, B * T, threadid(), team_size())
            restore_denormals(before)
        return mean_loss(&self.net, B * T, divisor)

    def backward(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """Add to the gradients."""
        cdef int team = self.team(B * T * self.net.P, WORK_PER_THREAD)
        cdef const Common *c = &self.net.c
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            backward_body(
                &self.net, c.tokens, c.targets, B, T, divisor, threadid(), team_size()
            )
            restore_denormals(before)

    def update(self, update):
        """From the gradients and the moments to the parameters."""
        cdef int team = self.team(self.net.P, WORK_PER_THREAD)
        cdef Hyper hyper = hyper_of(update)
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            update_body(&self.net, &hyper, threadid(), team_size())
            restore_denormals(before)

    def step(self, Py_ssize_t B, Py_ssize_t T, double divisor, update):
        """Forward, loss, backward and update in one parallel region; returns the loss."""
        cdef Hyper hyper = hyper_of(update)
        cdef double loss = 0.0
        cdef const Common *c = &self.net.c
        self.take_steps(1, B, T, c.tokens, c.targets, &divisor, &hyper, &loss)
        return loss

    def steps(
        self, Py_ssize_t B, Py_ssize_t T, const int[:, :, ::1] tokens,
        const int[:, :, ::1] targets, const double[::1] divisors, const double[:, ::1] hypers,
    ):
        """Whole steps over batches (k,B,T) in one parallel region; returns the losses (k,)."""
        losses = np.empty(tokens.shape[0])
        cdef double[::1] out = losses
        if out.shape[0]:
            self.take_steps(
                out.shape[0], B, T, &tokens[0, 0, 0], &targets[0, 0, 0], &divisors[0],
                <const Hyper *> &hypers[0, 0], &out[0],
            )
        return losses

    cdef void take_steps(
        self, Py_ssize_t count, Py_ssize_t B, Py_ssize_t T, const int *tokens,
        const int *targets, const double *divisors, const Hyper *hypers, double *losses,
    ):
        cdef Pace *pace = &self.training
        cdef int team = self.paying_team(pace, B * T * self.net.P, WORK_PER_THREAD)
        cdef double began = perf_counter()
        cdef Py_ssize_t k
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            for k in range(count):
                step_body(
                    &self.net, tokens + k * B * T, targets + k * B * T, B, T, divisors[k],
                    hypers + k, losses + k, threadid(), team_size(),
                )
            restore_denormals(before)
        see(
            &pace.alone if team == 1 else &pace.together,
            (perf_counter() - began) / (count * B * T),
        )

    def append(self, int token, Py_ssize_t length):
        """Append a token to a context of `length`; returns the new length."""
        cdef int team = self.team(self.net.P, TOKEN_PER_THREAD)
        cdef Py_ssize_t longer = appended(&self.net, length)
        cdef unsigned before
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            append_body(&self.net, token, length, threadid(), team_size())
            restore_denormals(before)
        return longer

    def generate(
        self, int[::1] drawn, Py_ssize_t length, double temperature, Py_ssize_t top_k,
        double top_p, const double[::1] uniforms,
    ):
        """Draw and append len(drawn) tokens; returns the new length of the context."""
        cdef Pace *pace = &self.generation
        cdef int team = self.paying_team(pace, self.net.P, TOKEN_PER_THREAD)
        cdef double began = perf_counter()
        cdef Py_ssize_t i, at, longer = length
        cdef const Common *c = &self.net.c
        cdef unsigned before
        for _ in range(drawn.shape[0]):
            longer = appended(&self.net, longer)
        with nogil, parallel(num_threads=team):
            before = flush_denormals()
            at = length
            for i in range(drawn.shape[0]):
                if threadid() == 0:
                    drawn[i] = sample_body(
                        c.token_weights, c.order, c.next_logits, self.net.V, temperature, top_k,
                        top_p, uniforms[i],
                    )
                team_barrier(self.net.barrier, team_size())  # all decode the token drawn
                append_body(&self.net, drawn[i], at, threadid(), team_size())
                at = appended(&self.net, at)
            restore_denormals(before)
        if drawn.shape[0]:
            see(
                &pace.alone if team == 1 else &pace.together,
                (perf_counter() - began) / drawn.shape[0],
            )
        return longer


cdef Py_ssize_t appended(const Net *net, Py_ssize_t length) noexcept nogil:
    """The length of a context of `length` and one token more: a full one slides by half."""
    return (net.T // 2 if length == net.T else length) + 1


cdef void append_body(
    const Net *net, int token, Py_ssize_t length, int thread, int threads
) noexcept nogil:
    """Append a token to the window and decode it."""
    cdef Py_ssize_t kept = net.T // 2, position
    if length == net.T:  # slide: the last half is fed again from position 0
        if thread == 0:
            memmove(net.c.window, net.c.window + net.T - kept, kept * sizeof(int))
        team_barrier(net.barrier, threads)  # all read the window
        for position in range(kept):
            decode_body(net, position, thread, threads)
        length = kept
    if thread == 0:
        net.c.window[length] = token
    team_barrier(net.barrier, threads)  # all read the window
    decode_body(net, length, thread, threads)
    team_barrier(net.barrier, threads)  # what follows reads all logits


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
