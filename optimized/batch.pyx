"""A batch of token ids, checked and copied in one call.

Promises: `take` copies exactly what `cllm.Model` allows, and nothing of a batch that it does not
take. A tiny model's whole step costs as much as checking its batch with a dozen calls to NumPy.
Leaves out: saying what is wrong, and arrays out of the ordinary: both are left to `cllm.Model`.
"""

import numpy as np

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer

cdef type ndarray = np.ndarray
cdef object int32 = np.dtype(np.int32)


cdef class Batch:
    """The buffers `tokens` and `targets` (B,T) of a plan, and what may be copied into them."""

    cdef Py_ssize_t B, T, V
    cdef int *tokens
    cdef int *targets
    cdef tuple alive  # what the addresses point into

    def __init__(self, tokens, targets, Py_ssize_t vocab_size):
        self.B, self.T = tokens.shape
        self.V = vocab_size
        self.tokens = <int *> <size_t> tokens.ctypes.data
        self.targets = <int *> <size_t> targets.ctypes.data
        self.alive = (tokens, targets)

    def take(self, tokens, targets):
        """Copy tokens and targets (B',T'); returns how many targets are counted, -1 if not taken.

        Takes arrays of NumPy's own class with aligned int32 ids in range, 1 <= B' <= B and
        1 <= T' <= T, strided as they like but apart from the buffers.
        """
        cdef Py_buffer t, g
        if not plain(tokens) or not plain(targets):
            return -1
        PyObject_GetBuffer(tokens, &t, PyBUF_STRIDED_RO)
        try:
            PyObject_GetBuffer(targets, &g, PyBUF_STRIDED_RO)
            try:
                return self.copy(&t, &g)
            finally:
                PyBuffer_Release(&g)
        finally:
            PyBuffer_Release(&t)

    cdef Py_ssize_t copy(self, const Py_buffer *tokens, const Py_buffer *targets) noexcept nogil:
        if not self.fits(tokens) or not self.fits(targets):
            return -1
        if tokens.shape[0] != targets.shape[0] or tokens.shape[1] != targets.shape[1]:
            return -1
        if not within(tokens, 0, self.V) or not within(targets, -1, self.V):
            return -1
        copy_ids(self.tokens, tokens)
        return copy_ids(self.targets, targets)

    cdef bint fits(self, const Py_buffer *ids) noexcept nogil:
        """Whether axes, sizes and place of the ids allow to copy them, whatever they are."""
        if ids.ndim != 2 or not (1 <= ids.shape[0] <= self.B and 1 <= ids.shape[1] <= self.T):
            return False
        if (<size_t> ids.buf | <size_t> ids.strides[0] | <size_t> ids.strides[1]) % sizeof(int):
            return False
        return apart(ids, self.tokens, self.B * self.T) and apart(
            ids, self.targets, self.B * self.T
        )


cdef bint plain(object ids) except -1:
    return type(ids) is ndarray and ids.dtype is int32


cdef bint apart(const Py_buffer *ids, const int *buffer, Py_ssize_t size) noexcept nogil:
    """Whether no id (B',T') lies in the buffer (size,)."""
    cdef size_t first = <size_t> ids.buf, last = first
    cdef Py_ssize_t axis, way
    for axis in range(2):
        way = (ids.shape[axis] - 1) * ids.strides[axis]
        if way < 0:
            first += way
        else:
            last += way
    return last < <size_t> buffer or first >= <size_t> (buffer + size)


cdef inline const int *row_of(const Py_buffer *ids, Py_ssize_t b) noexcept nogil:
    return <const int *> (<const char *> ids.buf + b * ids.strides[0])


cdef bint within(const Py_buffer *ids, int low, Py_ssize_t stop) noexcept nogil:
    """Whether low <= id < stop for all ids (B',T')."""
    cdef Py_ssize_t b, t, stride = ids.strides[1] // <Py_ssize_t> sizeof(int)
    cdef const int *row
    cdef bint bad = False
    for b in range(ids.shape[0]):
        row = row_of(ids, b)
        for t in range(ids.shape[1]):
            bad |= row[t * stride] < low or row[t * stride] >= stop
    return not bad


cdef Py_ssize_t copy_ids(int *out, const Py_buffer *ids) noexcept nogil:
    """Copy ids (B',T') into the leading elements of a buffer; returns how many are >= 0."""
    cdef Py_ssize_t b, t, counted = 0, stride = ids.strides[1] // <Py_ssize_t> sizeof(int)
    cdef const int *row
    for b in range(ids.shape[0]):
        row = row_of(ids, b)
        for t in range(ids.shape[1]):
            out[0] = row[t * stride]
            counted += out[0] >= 0
            out += 1
    return counted
