"""Turns of queries and keys by their token's class; the mirror of `cllm.reference.symmetry`."""

from cllm.lattice.symmetry import COSINES, ORDER, SINES
from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, ids
from .attention cimport sizes
from .kernels cimport Rows, share, team_size

cdef enum:
    CLASSES = 12

cdef float[CLASSES] cosines
cdef float[CLASSES] sines

if ORDER != CLASSES:
    raise RuntimeError(f"the group has {ORDER} elements here and {CLASSES} there")
for g in range(CLASSES):
    cosines[g] = COSINES[g]
    sines[g] = SINES[g]


cdef void turn_heads(float *x, int g, Py_ssize_t width, Rows heads) noexcept nogil:
    """R_g of the pairs of coordinates of each head; an odd last one stays."""
    cdef float cosine = cosines[g], sine = sines[g], even, odd
    cdef Py_ssize_t head, at
    for head in range(heads.start, heads.stop):
        for at in range(head * width, head * width + width - 1, 2):
            even, odd = x[at], x[at + 1]
            x[at] = cosine * even - sine * odd
            x[at + 1] = sine * even + cosine * odd


cdef void turn_rows(
    float *qkv, const int *tokens, int direction, Py_ssize_t D, Py_ssize_t H, Rows rows
) noexcept nogil:
    """q and k of each row; a direction of -1 turns back."""
    cdef Py_ssize_t n
    cdef int g
    cdef Rows all_heads
    all_heads.start, all_heads.stop = 0, H
    for n in range(rows.start, rows.stop):
        g = (CLASSES + direction * (tokens[n] % CLASSES)) % CLASSES
        turn_heads(qkv + n * 3 * D, g, D // H, all_heads)
        turn_heads(qkv + n * 3 * D + D, g, D // H, all_heads)


cdef void symmetry_forward_body(
    float *qkv, const int *tokens, Py_ssize_t D, Py_ssize_t H, Rows rows
) noexcept nogil:
    """Rows of qkv."""
    turn_rows(qkv, tokens, 1, D, H, rows)


def symmetry_forward(qkv, tokens, num_heads, *, int threads=1):
    """Turn q and k of qkv (B,T,3D) float32 where they are, by the class of tokens (B,T) int32."""
    turned(qkv, tokens, num_heads, threads, 1)


cdef void symmetry_backward_body(
    float *dqkv, const int *tokens, Py_ssize_t D, Py_ssize_t H, Rows rows
) noexcept nogil:
    """Rows of dqkv."""
    # the transpose of R_g is R_(-g)
    turn_rows(dqkv, tokens, -1, D, H, rows)


def symmetry_backward(dqkv, tokens, num_heads, *, int threads=1):
    """Turn the gradients of q and k in dqkv (B,T,3D) float32 back, where they are."""
    turned(dqkv, tokens, num_heads, threads, -1)


cdef void symmetry_decode_body(
    float *qkv, int token, Py_ssize_t D, Py_ssize_t H, Rows heads
) noexcept nogil:
    """Heads of q and k of one token's qkv (3D,)."""
    turn_heads(qkv, token % CLASSES, D // H, heads)
    turn_heads(qkv + D, token % CLASSES, D // H, heads)


cdef int turned(object qkv, object tokens, object num_heads, int threads, int direction) except -1:
    cdef Py_ssize_t B, T, D, H = num_heads
    B, T, D = sizes(qkv, num_heads)
    cdef float *qkv_ = floats("qkv" if direction > 0 else "dqkv", qkv, (B, T, 3 * D), True)
    cdef const int *tokens_ = ids("tokens", tokens, (B, T), 0, 2**31 - 1)
    disjoint({"qkv": qkv}, {"tokens": tokens})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        turn_rows(qkv_, tokens_, direction, D, H, share(B * T, 1, threadid(), team_size()))
    return 0
