"""The passes of `cllm.optimized.network` over the buffers of one plan, each in a parallel region.

Promises: one place decides how many threads work. Nothing is allocated after construction; the
caller's floating-point state is left as it was.
Leaves out: checking the input, which `cllm.Model` has done.
"""

from time import perf_counter

import numpy as np

from cllm.lattice.tables import tables_of
from cllm.layout import LATTICE_TENSORS, LAYER_TENSORS

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY
from libc.string cimport memmove

from .kernels cimport (
    ATTENTION_QUERIES, Barrier, attention_scratch, flush_denormals, lattice_scratch, panel_floats,
    restore_denormals, team_barrier, team_size,
)
from .lattice_attention cimport tables_from
from .lattice_loss cimport loss_from
from .network cimport (
    Activations, Common, Hyper, Net, Tensors, backward_body, decode_body, forward_body, loss_body,
    mean_loss, step_body, update_body, window_body,
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
    "decoded", "lattice_fields", "lattice_sums", "lattice_window", "lattice_terms",
    "lattice_chunk_sums",
)

cdef enum:
    # Multiply-adds of a forward pass below which one more thread costs more than it brings.
    WORK_PER_THREAD = 500_000
    # The same for one token, whose threads meet some three times a layer.
    TOKEN_PER_THREAD = 200_000
    # See is_trial.
    TRIAL = 256

cdef struct Pace:
    # Seconds of a token's work with one thread and with the team, as lately seen (0: not yet).
    double alone
    double together
    Py_ssize_t calls


cdef struct Task:
    # What a pass is about; each uses what it needs.
    const Net *net
    Py_ssize_t B, T, count
    const int *tokens
    const int *targets
    const double *divisors
    const Hyper *hypers
    double *losses
    Py_ssize_t length
    int *drawn
    const double *uniforms
    double temperature, top_p
    Py_ssize_t top_k

ctypedef void (*Work)(const Task *task, int thread, int threads) noexcept nogil


cdef void see(double *pace, double seconds) noexcept:
    """Down at once, up by eighths: a single call that something else held up says little."""
    if pace[0] == 0.0 or seconds < pace[0]:
        pace[0] = seconds
    else:
        pace[0] += (min(seconds, 2.0 * pace[0]) - pace[0]) / 8.0


cpdef bint is_trial(Py_ssize_t call, bint alone_is_faster):
    """Whether a call, from 1 on, is for trying what the others do not use: the team, or one thread.

    Four of `TRIAL`, one after another: the first calls of a team that has slept find cold caches.
    The team, whose very first call makes its threads, also from the 2nd, 4th, 8th and so on before;
    one thread, which a team of t may outdo t times, not sooner.
    """
    cdef Py_ssize_t power = 2
    if call >= TRIAL or not alone_is_faster:
        return 4 <= call % TRIAL < 8
    while 2 * power <= call:
        power *= 2
    return power <= call < power + 4


def scratch_floats(config, Py_ssize_t seq_len):
    """Floats of scratch that a thread needs: for attention, for matrix products."""
    cdef Py_ssize_t tiles = attention_scratch(seq_len, config.head_dim)
    if config.lattice.attention:
        tiles += lattice_scratch(seq_len, ATTENTION_QUERIES)
    return tiles, panel_floats(config.embed_dim)


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
        net.symmetry = config.lattice.symmetry
        net.attention = config.lattice.attention
        net.loss = config.lattice.loss and "lattice_terms" in buffers
        if net.attention:
            net.lattice_tables = tables_from(buffers, tables_of(net.V).turn)
        if net.loss:
            net.lattice_loss = loss_from(buffers, net.V, config.lattice.loss_weights)
        net.tiles, net.panel = scratch_floats(config, net.T)
        layers = [f"layer{layer}." for layer in range(config.num_layers)]
        tensors = [name for name, *_ in LAYER_TENSORS + LATTICE_TENSORS]
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
        if is_trial(pace.calls, alone_is_faster):
            return team if alone_is_faster else 1
        return 1 if alone_is_faster else team

    cdef Task task(self, Py_ssize_t B, Py_ssize_t T):
        """A task over the batch (B,T) that lies in the buffers."""
        cdef Task task
        task.net = &self.net
        task.B, task.T = B, T
        task.tokens, task.targets = self.net.c.tokens, self.net.c.targets
        return task

    def forward(self, Py_ssize_t B, Py_ssize_t T):
        """From `tokens` to `logits`."""
        cdef Task task = self.task(B, T)
        run(take_forward, &task, self.team(B * T * self.net.P, WORK_PER_THREAD))

    def loss(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """From `logits` and `targets` to the loss."""
        cdef Task task = self.task(B, T)
        run(take_loss, &task, self.team(B * T * self.net.P, WORK_PER_THREAD))
        return mean_loss(&self.net, task.targets, B * T, divisor)

    def backward(self, Py_ssize_t B, Py_ssize_t T, double divisor):
        """Add to the gradients."""
        cdef Task task = self.task(B, T)
        task.divisors = &divisor
        run(take_backward, &task, self.team(B * T * self.net.P, WORK_PER_THREAD))

    def update(self, update):
        """From the gradients and the moments to the parameters."""
        cdef Hyper hyper = hyper_of(update)
        cdef Task task = self.task(0, 0)
        task.hypers = &hyper
        run(take_update, &task, self.team(self.net.P, WORK_PER_THREAD))

    def step(self, Py_ssize_t B, Py_ssize_t T, double divisor, update):
        """Forward, loss, backward and update in one parallel region; returns the loss."""
        cdef Hyper hyper = hyper_of(update)
        cdef double loss = 0.0
        cdef Task task = self.task(B, T)
        task.count, task.divisors, task.hypers, task.losses = 1, &divisor, &hyper, &loss
        self.take(&task)
        return loss

    def steps(
        self, Py_ssize_t B, Py_ssize_t T, const int[:, :, ::1] tokens,
        const int[:, :, ::1] targets, const double[::1] divisors, const double[:, ::1] hypers,
    ):
        """Whole steps over batches (k,B,T) in one parallel region; returns the losses (k,)."""
        losses = np.empty(tokens.shape[0])
        cdef double[::1] out = losses
        cdef Task task = self.task(B, T)
        task.count = out.shape[0]
        if task.count:
            task.tokens, task.targets = &tokens[0, 0, 0], &targets[0, 0, 0]
            task.divisors, task.hypers = &divisors[0], <const Hyper *> &hypers[0, 0]
            task.losses = &out[0]
            self.take(&task)
        return losses

    cdef void take(self, Task *task):
        """Whole steps, by as many threads as are worth it."""
        cdef Pace *pace = &self.training
        cdef Py_ssize_t tokens = task.B * task.T
        cdef int team = self.paying_team(pace, tokens * self.net.P, WORK_PER_THREAD)
        cdef double began = perf_counter()
        run(take_steps, task, team)
        see(
            &pace.alone if team == 1 else &pace.together,
            (perf_counter() - began) / (task.count * tokens),
        )

    def append(self, int token, Py_ssize_t length):
        """Append a token to a context of `length`; returns the new length."""
        cdef Task task = self.task(1, 1)
        task.tokens, task.length = &token, length
        run(take_token, &task, self.team(self.net.P, TOKEN_PER_THREAD))
        return appended(&self.net, length)

    def generate(
        self, int[::1] drawn, Py_ssize_t length, double temperature, Py_ssize_t top_k,
        double top_p, const double[::1] uniforms,
    ):
        """Draw and append len(drawn) tokens; returns the new length of the context."""
        cdef Pace *pace = &self.generation
        cdef int team = self.paying_team(pace, self.net.P, TOKEN_PER_THREAD)
        cdef double began = perf_counter()
        cdef Task task = self.task(1, 1)
        task.count, task.length = drawn.shape[0], length
        if task.count:
            task.drawn, task.uniforms = &drawn[0], &uniforms[0]
            task.temperature, task.top_k, task.top_p = temperature, top_k, top_p
            run(take_tokens, &task, team)
            see(
                &pace.alone if team == 1 else &pace.together,
                (perf_counter() - began) / task.count,
            )
        for _ in range(task.count):
            length = appended(&self.net, length)
        return length


cdef void run(Work work, const Task *task, int team) noexcept:
    """A parallel region; one thread needs none, for which OpenMP would allocate memory."""
    cdef unsigned before
    if team == 1:
        with nogil:
            before = flush_denormals()
            work(task, 0, 1)
            restore_denormals(before)
        return
    with nogil, parallel(num_threads=team):
        before = flush_denormals()
        work(task, threadid(), team_size())
        restore_denormals(before)


cdef void take_forward(const Task *t, int thread, int threads) noexcept nogil:
    forward_body(t.net, t.tokens, t.B, t.T, thread, threads)


cdef void take_loss(const Task *t, int thread, int threads) noexcept nogil:
    loss_body(t.net, t.B * t.T, thread, threads)


cdef void take_backward(const Task *t, int thread, int threads) noexcept nogil:
    backward_body(t.net, t.tokens, t.targets, t.B, t.T, t.divisors[0], thread, threads)


cdef void take_update(const Task *t, int thread, int threads) noexcept nogil:
    update_body(t.net, t.hypers, thread, threads)


cdef void take_steps(const Task *t, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t k, batch = t.B * t.T
    for k in range(t.count):
        step_body(
            t.net, t.tokens + k * batch, t.targets + k * batch, t.B, t.T, t.divisors[k],
            t.hypers + k, t.losses + k, thread, threads,
        )


cdef void take_token(const Task *t, int thread, int threads) noexcept nogil:
    append_body(t.net, t.tokens[0], t.length, thread, threads)


cdef void take_tokens(const Task *t, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t i, length = t.length
    cdef const Common *c = &t.net.c
    for i in range(t.count):
        if thread == 0:
            t.drawn[i] = sample_body(
                c.token_weights, c.order, c.next_logits, t.net.V, t.temperature, t.top_k,
                t.top_p, t.uniforms[i],
            )
        team_barrier(t.net.barrier, threads)  # all decode the token drawn
        append_body(t.net, t.drawn[i], length, thread, threads)
        length = appended(t.net, length)


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
            window_body(net, 0, kept)
        team_barrier(net.barrier, threads)  # all read the window
        for position in range(kept):
            decode_body(net, position, thread, threads)
        length = kept
    if thread == 0:
        net.c.window[length] = token
        window_body(net, length, length + 1)
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
