"""The order of operations; the mirror of `cllm.reference.network`.

Promises: bodies that every thread of a team runs together, each on its own rows of activations and
its own rows of the weights' gradients; a barrier stands only where one thread reads what another
has written, and says what. Nothing is allocated. Results do not depend on the number of threads.
Leaves out: how many threads there are (`cllm.optimized.region`).

Backward keeps its gradients where forward kept what has just been read for the last time: in
`ff_slope` the gradient of the feed-forward's input, in `qkv` that of the projections, in `x_out` of
a layer that of the layer's input.
"""

from libc.math cimport INFINITY
from libc.string cimport memset

from .adam cimport (
    NORM_BLOCK, Adam, adam_of, adam_update_body, clip_scale_of, global_norm_body, norm_of_blocks,
)
from .attention cimport attention_backward_body, attention_decode_body, attention_forward_body
from .cross_entropy cimport cross_entropy_backward_body, cross_entropy_forward_body
from .embedding cimport embedding_backward_body, embedding_forward_body
from .gelu cimport gelu_forward_body
from .kernels cimport (
    TILE_ROWS, LatticeBatch, LatticeTokens, Rows, kernels, share, team_barrier,
)
from .lattice_attention cimport lattice_fields_body, lattice_weight_body
from .lattice_loss cimport (
    lattice_chunks, lattice_loss_backward_body, lattice_loss_forward_body, lattice_loss_of,
    lattice_terms_of,
)
from .layernorm cimport layernorm_backward_body, layernorm_forward_body
from .linear cimport (
    linear_backward_input_body, linear_backward_input_times_body, linear_backward_weight_body,
    linear_forward_body,
)
from .reduction cimport ROW_BLOCK, add_blocks_body, block_sums_body
from .residual cimport residual_forward_body
from .symmetry cimport symmetry_backward_body, symmetry_decode_body, symmetry_forward_body
from .unembedding cimport (
    unembedding_backward_input_body, unembedding_backward_weight_body, unembedding_forward_body,
)

cdef enum:
    # Rows of activations that go through several operations while they are in the cache.
    CHUNK = 256
    # Rows of a weight's gradient that are computed, and used for the update, while they are.
    WEIGHT_ROWS = 128
    # Elements whose update a thread takes as a whole: a cache line.
    LINE = 16


cdef Py_ssize_t parts(Rows rows, Py_ssize_t most) noexcept nogil:
    """How many parts of at most `most` rows there are."""
    return (rows.stop - rows.start + most - 1) // most


cdef Rows part(Rows rows, Py_ssize_t i, Py_ssize_t most) noexcept nogil:
    cdef Rows some
    some.start = rows.start + i * most
    some.stop = min(some.start + most, rows.stop)
    return some


cdef bint sequences_meet(Py_ssize_t B, Py_ssize_t T, int threads) noexcept nogil:
    """Whether rows of one sequence, or its heads, belong to several threads."""
    return threads > 1 and (B % threads != 0 or (B // threads * T) % ROW_BLOCK != 0)


cdef LatticeBatch lattice_of(const Net *net, const int *tokens, Py_ssize_t layer) noexcept nogil:
    """What attention of a layer is handed of the lattice."""
    cdef LatticeBatch lattice
    lattice.tables, lattice.tokens = &net.lattice_tables, tokens
    lattice.fields, lattice.weights = net.c.lattice_fields, net.p[layer].lattice_weight
    lattice.sums = NULL
    return lattice


cdef void forward_body(
    const Net *net, const int *tokens, Py_ssize_t B, Py_ssize_t T, int thread, int threads
) noexcept nogil:
    """From tokens (B,T) to `logits`."""
    cdef Py_ssize_t N = B * T, D = net.D, layer, i
    cdef Rows rows = share(N, ROW_BLOCK, thread, threads), some
    cdef Rows pairs = share(B * net.H, 1, thread, threads)
    cdef bint meet = sequences_meet(B, T, threads)
    cdef const Common *c = &net.c
    cdef const Tensors *w
    cdef const Activations *a
    cdef float *panel = c.panels + thread * net.panel
    cdef float *x = c.x0
    cdef LatticeBatch lattice
    embedding_forward_body(x, tokens, net.embedding, c.positions, T, D, rows)
    if net.attention:
        lattice_fields_body(c.lattice_fields, tokens, &net.lattice_tables, T, rows)
    if net.loss:
        lattice_loss_forward_body(
            c.lattice_chunk_sums, net.embedding, &net.lattice_loss, D, net.H,
            share(lattice_chunks(D, net.H), 1, thread, threads),
        )
    for layer in range(net.L):
        w = net.p + layer
        a = net.a + layer
        for i in range(parts(rows, CHUNK)):
            some = part(rows, i, CHUNK)
            layernorm_forward_body(
                a.ln1, a.ln1_mean, a.ln1_rstd, x, w.ln1_gain, w.ln1_shift, D, some
            )
            linear_forward_body(a.qkv, NULL, 0, a.ln1, w.qkv_weight, panel, D, 3 * D, some)
            if net.symmetry:
                symmetry_forward_body(a.qkv, tokens, D, net.H, some)
        if meet:
            team_barrier(net.barrier, threads)  # attention reads all rows of a sequence
        lattice = lattice_of(net, tokens, layer)
        attention_forward_body(
            a.x_mid, x, a.attn_lse, a.qkv, c.attention_tiles + thread * net.tiles, panel,
            T, D, net.H, &lattice if net.attention else NULL, pairs,
        )
        if meet:
            team_barrier(net.barrier, threads)  # rows of x_mid come from several heads

        x = a.x_mid
        for i in range(parts(rows, CHUNK)):
            some = part(rows, i, CHUNK)
            layernorm_forward_body(
                a.ln2, a.ln2_mean, a.ln2_rstd, x, w.ln2_gain, w.ln2_shift, D, some
            )
            feed_forward_body(net, a, w, x, panel, some)
        x = a.x_out
    unembedding_forward_body(c.logits, x, net.embedding, panel, net.V, D, rows)


cdef void feed_forward_body(
    const Net *net, const Activations *a, const Tensors *w, const float *x, float *panel, Rows rows
) noexcept nogil:
    """Rows of x_out = x + gelu(ln2 W1 + b1) W2 + b2."""
    cdef Py_ssize_t D = net.D, F = net.F, n
    cdef float *ff_in = a.ff_slope if a.ff_slope != NULL else a.ff_act
    linear_forward_body(ff_in, w.ff_in_bias, 0, a.ln2, w.ff_in_weight, panel, D, F, rows)
    gelu_forward_body(a.ff_act, a.ff_slope, ff_in, F, rows)
    for n in range(rows.start, rows.stop):
        kernels.add(a.x_out + n * D, x + n * D, w.ff_out_bias, D)
    linear_forward_body(a.x_out, a.x_out, D, a.ff_act, w.ff_out_weight, panel, F, D, rows)


cdef void loss_body(
    const Net *net, Py_ssize_t N, int thread, int threads
) noexcept nogil:
    """From `logits` and `targets` to `losses`, and to the lattice's terms."""
    cdef const Common *c = &net.c
    if net.loss and thread == 0:
        lattice_terms_body(net)
    cross_entropy_forward_body(
        c.losses, c.logits, c.targets, net.V, share(N, ROW_BLOCK, thread, threads)
    )


cdef Py_ssize_t counted(const int *targets, Py_ssize_t N) noexcept nogil:
    """How many targets are no -1."""
    cdef Py_ssize_t n, count = 0
    for n in range(N):
        count += targets[n] >= 0
    return count


cdef double mean_loss(
    const Net *net, const int *targets, Py_ssize_t N, double divisor
) noexcept nogil:
    """The rows' losses summed in their order, whoever computed them; and the lattice's."""
    cdef Py_ssize_t n
    cdef double total = 0.0
    for n in range(N):
        total += net.c.losses[n]
    if net.loss:
        total += counted(targets, N) * lattice_loss_of(net.c.lattice_terms, &net.lattice_loss)
    return total / divisor


cdef void lattice_terms_body(const Net *net) noexcept nogil:
    """From the sums of all chunks to the lattice's terms."""
    lattice_terms_of(
        net.c.lattice_terms, net.c.lattice_chunk_sums, &net.lattice_loss,
        lattice_chunks(net.D, net.H),
    )


cdef struct Gradients:
    # What becomes of them: added to what is there or written afresh; used at once or left (NULL).
    bint fresh
    const Adam *adam


cdef void use(
    const Net *net, Gradients how, const float *gradient, Py_ssize_t start, Py_ssize_t stop
) noexcept nogil:
    """Update the parameters of these elements of a gradient, if it is to be used at once."""
    cdef Rows elements
    cdef const Common *c = &net.c
    if how.adam != NULL:
        elements.start = gradient - c.gradients + start
        elements.stop = gradient - c.gradients + stop
        adam_update_body(
            c.parameters, c.first_moment, c.second_moment, c.gradients, how.adam, elements
        )


cdef void weight_body(
    const Net *net, Gradients how, float *dweight, const float *dout, const float *x,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil:
    """The thread's rows of a matrix's gradient."""
    cdef Rows rows = share(K, TILE_ROWS, thread, threads), some
    cdef float *panel = net.c.panels + thread * net.panel
    cdef Py_ssize_t i
    for i in range(parts(rows, WEIGHT_ROWS)):
        some = part(rows, i, WEIGHT_ROWS)
        linear_backward_weight_body(dweight, how.fresh, dout, x, panel, N, K, M, some)
        use(net, how, dweight, some.start * M, some.stop * M)


cdef void vector_body(
    const Net *net, Gradients how, float *dvector, const float *sums, Py_ssize_t stride,
    Py_ssize_t N, Py_ssize_t M, int thread, int threads,
) noexcept nogil:
    """The thread's elements of the gradient of a bias, gain or shift."""
    cdef Rows columns = share(M, LINE, thread, threads)
    add_blocks_body(dvector, how.fresh, sums, stride, N, columns)
    use(net, how, dvector, columns.start, columns.stop)


cdef void backward_layer_body(
    const Net *net, Gradients how, const int *tokens, Py_ssize_t layer, Py_ssize_t B,
    Py_ssize_t T, int thread, int threads,
) noexcept nogil:
    """From the gradient of a layer's output to that of its input, and to its tensors'."""
    cdef Py_ssize_t N = B * T, D = net.D, F = net.F
    cdef Py_ssize_t blocks = (N + ROW_BLOCK - 1) // ROW_BLOCK
    cdef Rows rows = share(N, ROW_BLOCK, thread, threads)
    cdef bint meet = sequences_meet(B, T, threads)
    cdef const Common *c = &net.c
    cdef const Tensors *w = net.p + layer
    cdef const Tensors *d = net.g + layer
    cdef const Activations *a = net.a + layer
    cdef float *panel = c.panels + thread * net.panel
    cdef const float *x = net.a[layer - 1].x_out if layer > 0 else c.x0
    cdef const float *dx_out = net.a[layer + 1].x_out if layer < net.L - 1 else c.dx
    # The next layer's sums lie elsewhere: a faster thread writes them while these are read.
    cdef float *ln1_sums = c.row_sums + layer % 2 * blocks * (5 * D + F)
    cdef float *ln2_sums = ln1_sums + blocks * 2 * D
    cdef float *ff_out_sums = ln2_sums + blocks * 2 * D
    cdef float *ff_in_sums = ff_out_sums + blocks * D
    cdef LatticeBatch lattice = lattice_of(net, tokens, layer)
    lattice.sums = c.lattice_sums + layer % 2 * B * net.H * 3
    cdef Rows pairs = share(B * net.H, 1, thread, threads)

    # x_out = x_mid + ff: dx_out is the gradient of both
    block_sums_body(ff_out_sums, dx_out, D, rows)
    # ff_slope, the derivative of gelu, becomes the gradient of what went into it
    linear_backward_input_times_body(a.ff_slope, dx_out, w.ff_out_weight, panel, F, D, rows)
    block_sums_body(ff_in_sums, a.ff_slope, F, rows)
    linear_backward_input_body(a.x_out, a.ff_slope, w.ff_in_weight, panel, D, F, rows)
    layernorm_backward_body(
        a.x_out, ln2_sums, a.x_out, dx_out, a.x_mid, a.ln2_mean, a.ln2_rstd, w.ln2_gain, D, rows
    )

    # x_mid = x + attn: the gradient in x_out is that of both
    if meet:
        team_barrier(net.barrier, threads)  # attention reads all rows of a sequence
    if net.attention:
        memset(lattice.sums + pairs.start * 3, 0, (pairs.stop - pairs.start) * 3 * sizeof(double))
    attention_backward_body(
        a.qkv, a.x_out, a.qkv, a.attn_lse, c.attention_tiles + thread * net.tiles, panel,
        T, D, net.H, &lattice if net.attention else NULL, pairs,
    )
    if meet:
        team_barrier(net.barrier, threads)  # rows of dqkv come from several heads
    if net.symmetry:
        symmetry_backward_body(a.qkv, tokens, D, net.H, rows)
    linear_backward_input_body(a.x_mid, a.qkv, w.qkv_weight, panel, D, 3 * D, rows)
    layernorm_backward_body(
        a.x_out, ln1_sums, a.x_mid, a.x_out, x, a.ln1_mean, a.ln1_rstd, w.ln1_gain, D, rows
    )

    # a tensor's gradient reads all rows; nothing of what it reads is written before the next one
    team_barrier(net.barrier, threads)
    weight_body(net, how, d.ff_out_weight, dx_out, a.ff_act, N, F, D, thread, threads)
    weight_body(net, how, d.ff_in_weight, a.ff_slope, a.ln2, N, D, F, thread, threads)
    weight_body(net, how, d.qkv_weight, a.qkv, a.ln1, N, D, 3 * D, thread, threads)
    vector_body(net, how, d.ff_out_bias, ff_out_sums, D, N, D, thread, threads)
    vector_body(net, how, d.ff_in_bias, ff_in_sums, F, N, F, thread, threads)
    vector_body(net, how, d.ln1_gain, ln1_sums, 2 * D, N, D, thread, threads)
    vector_body(net, how, d.ln1_shift, ln1_sums + D, 2 * D, N, D, thread, threads)
    vector_body(net, how, d.ln2_gain, ln2_sums, 2 * D, N, D, thread, threads)
    vector_body(net, how, d.ln2_shift, ln2_sums + D, 2 * D, N, D, thread, threads)
    if net.attention and thread == 0:
        lattice_weight_body(d.lattice_weight, how.fresh, &lattice, B, net.H, D // net.H)
        use(net, how, d.lattice_weight, 0, 3 * net.H)


cdef void backward_from_logits_body(
    const Net *net, Gradients how, const int *tokens, const int *targets, Py_ssize_t B,
    Py_ssize_t T, double divisor, int thread, int threads,
) noexcept nogil:
    """From the gradient of the logits, which lies in their place, to those of all tensors."""
    cdef Py_ssize_t N = B * T, D = net.D, V = net.V, layer
    cdef Rows rows = share(N, ROW_BLOCK, thread, threads)
    cdef Rows ids = share(V, TILE_ROWS, thread, threads)
    cdef const Common *c = &net.c
    cdef float *panel = c.panels + thread * net.panel
    unembedding_backward_input_body(c.dx, c.logits, net.embedding, panel, V, D, rows)
    team_barrier(net.barrier, threads)  # a tensor's gradient reads all rows
    unembedding_backward_weight_body(
        net.dembedding, how.fresh, c.logits, net.a[net.L - 1].x_out, panel, N, V, D, ids
    )
    team_barrier(net.barrier, threads)  # x_out has been read: its rows get their gradient
    if net.loss:  # by columns; each layer has a barrier before the rows are added to
        lattice_loss_backward_body(
            net.dembedding, c.lattice_terms, net.embedding, &net.lattice_loss,
            counted(targets, N) / divisor, D, net.H,
            share(lattice_chunks(D, net.H), 1, thread, threads),
        )
    for layer in range(net.L - 1, -1, -1):
        backward_layer_body(net, how, tokens, layer, B, T, thread, threads)
    embedding_backward_body(net.dembedding, net.a.x_out, tokens, N, D, ids)
    use(net, how, net.dembedding, ids.start * D, ids.stop * D)


cdef void backward_body(
    const Net *net, const int *tokens, const int *targets, Py_ssize_t B, Py_ssize_t T,
    double divisor, int thread, int threads,
) noexcept nogil:
    """Add to the gradients."""
    cdef const Common *c = &net.c
    cdef Gradients how
    how.fresh, how.adam = False, NULL
    cross_entropy_backward_body(
        NULL, c.logits, c.logits, targets, divisor, net.V,
        share(B * T, ROW_BLOCK, thread, threads),
    )
    backward_from_logits_body(net, how, tokens, targets, B, T, divisor, thread, threads)


cdef void update_body(
    const Net *net, const Hyper *hyper, int thread, int threads
) noexcept nogil:
    """From the gradients and the moments to the parameters."""
    cdef const Common *c = &net.c
    cdef Py_ssize_t blocks = (net.P + NORM_BLOCK - 1) // NORM_BLOCK
    cdef double scale = 1.0
    cdef Adam adam
    if hyper.clip != INFINITY:
        global_norm_body(c.norm_sums, c.gradients, net.P, share(blocks, 1, thread, threads))
        team_barrier(net.barrier, threads)  # the norm reads all blocks' sums
        scale = clip_scale_of(norm_of_blocks(c.norm_sums, net.P), hyper.clip)
    adam = adam_of(
        hyper.step, hyper.learning_rate, hyper.beta1, hyper.beta2, hyper.epsilon,
        hyper.weight_decay, scale, threads,
    )
    adam_update_body(
        c.parameters, c.first_moment, c.second_moment, c.gradients, &adam,
        share(net.P, LINE, thread, threads),
    )


cdef void step_body(
    const Net *net, const int *tokens, const int *targets, Py_ssize_t B, Py_ssize_t T,
    double divisor, const Hyper *hyper, double *loss, int thread, int threads,
) noexcept nogil:
    """Forward, loss, backward and update; each gradient is used as soon as it stands, unless the
    norm of all is to be clipped."""
    cdef const Common *c = &net.c
    cdef Gradients how
    cdef Adam adam = adam_of(
        hyper.step, hyper.learning_rate, hyper.beta1, hyper.beta2, hyper.epsilon,
        hyper.weight_decay, 1.0, threads,
    )
    how.fresh, how.adam = True, &adam if hyper.clip == INFINITY else NULL
    forward_body(net, tokens, B, T, thread, threads)
    if net.loss:
        team_barrier(net.barrier, threads)  # the terms are those of all chunks
        if thread == 0:  # the others read them behind the barriers of backward
            lattice_terms_body(net)
    cross_entropy_backward_body(
        c.losses, c.logits, c.logits, targets, divisor, net.V,
        share(B * T, ROW_BLOCK, thread, threads),
    )
    backward_from_logits_body(net, how, tokens, targets, B, T, divisor, thread, threads)
    if thread == 0:  # before the last barrier: behind it another thread may be a step ahead
        loss[0] = mean_loss(net, targets, B * T, divisor)
    if how.adam == NULL:
        team_barrier(net.barrier, threads)  # the norm reads all gradients
        update_body(net, hyper, thread, threads)
    team_barrier(net.barrier, threads)  # the next step reads all parameters


cdef Py_ssize_t decode_scratch(const Net *net) noexcept nogil:
    """Floats that a thread has for itself while it decodes."""
    return 2 * net.D + net.T + (3 * net.T if net.attention else 0)


cdef void window_body(const Net *net, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """What decoding keeps of the tokens from `start` to `stop` of the window."""
    cdef Rows rows
    if net.attention:
        rows.start, rows.stop = start, stop
        lattice_fields_body(
            net.c.lattice_window, net.c.window, &net.lattice_tables, net.T, rows
        )


cdef void decode_body(
    const Net *net, Py_ssize_t position, int thread, int threads
) noexcept nogil:
    """From the token at `position` of `window` and the cache to `next_logits` (V,).

    `forward_body` for one row of one token. Threads share the columns of each product; the
    residual stream and its norms cost less than a barrier: each thread has its own.
    """
    cdef Py_ssize_t D = net.D, F = net.F, width = D // net.H, layer, third
    cdef const Common *c = &net.c
    cdef const Tensors *w
    cdef const Activations *a
    cdef Rows heads = share(net.H, 1, thread, threads), hidden = share(F, LINE, thread, threads)
    cdef Rows columns = share(D, LINE, thread, threads), ids = share(net.V, LINE, thread, threads)
    cdef Rows one
    cdef float *qkv = c.decoded
    cdef float *attn = qkv + 3 * D
    cdef float *ff = attn + D
    cdef float *act = ff + D
    cdef float *x = act + F + thread * decode_scratch(net)
    cdef float *normed = x + D
    cdef float *scores = normed + D
    cdef float *distances = scores + net.T
    cdef LatticeTokens window
    cdef float mean, rstd
    one.start, one.stop = 0, 1
    embedding_forward_body(
        x, c.window + position, net.embedding, c.positions + position * D, 1, D, one
    )
    if net.attention:
        window.ids, window.fields, window.apart = c.window, c.lattice_window, net.T
        kernels.lattice_distances(
            distances, position + 1, &window, position, 0, position + 1, &net.lattice_tables
        )
    for layer in range(net.L):
        w = net.p + layer
        a = net.a + layer
        layernorm_forward_body(normed, &mean, &rstd, x, w.ln1_gain, w.ln1_shift, D, one)
        for third in range(3):
            decode_columns(
                qkv + third * D, normed, w.qkv_weight + third * D, NULL, D, 3 * D,
                heads.start * width, heads.stop * width,
            )
        if net.symmetry:
            symmetry_decode_body(qkv, c.window[position], D, net.H, heads)
        attention_decode_body(
            attn, a.keys, a.values, qkv, scores, position, D, net.H, w.lattice_weight, distances,
            heads,
        )
        team_barrier(net.barrier, threads)  # the residual stream gets all heads
        residual_forward_body(x, x, attn, D, one)

        layernorm_forward_body(normed, &mean, &rstd, x, w.ln2_gain, w.ln2_shift, D, one)
        decode_columns(
            act, normed, w.ff_in_weight, w.ff_in_bias, D, F, hidden.start, hidden.stop
        )
        kernels.gelu(act + hidden.start, NULL, act + hidden.start, hidden.stop - hidden.start)
        team_barrier(net.barrier, threads)  # a column of W2 meets all of act
        decode_columns(
            ff, act, w.ff_out_weight, w.ff_out_bias, F, D, columns.start, columns.stop
        )
        team_barrier(net.barrier, threads)  # the residual stream gets all columns
        residual_forward_body(x, x, ff, D, one)
    kernels.dots(
        ids.stop - ids.start, D, net.embedding + ids.start * D, D, x, c.next_logits + ids.start
    )


cdef void decode_columns(
    float *out, const float *x, const float *weight, const float *bias, Py_ssize_t K,
    Py_ssize_t M, Py_ssize_t start, Py_ssize_t stop,
) noexcept nogil:
    """Elements start..stop of out = bias + x W, W (K,M); a bias of NULL is zero."""
    kernels.gemv(
        stop - start, K, x, weight + start, M, out + start,
        bias + start if bias != NULL else NULL,
    )
