"""Native defects, one a function, for planted faults: see `cllm.harness.faults.native`.

The first three are races with a certain outcome, harmless outside their arguments. The others
corrupt the process that calls them: they are for sanitizers alone.
"""

cdef extern from "defects.h" nogil:
    void c_sum_unsynchronized "sum_unsynchronized"(
        float *total, float *parts, Py_ssize_t n, int threads
    )
    void c_share_activations "share_activations"(
        float *rows, float *shared, Py_ssize_t count, Py_ssize_t n, int threads
    )
    void c_read_early "read_early"(
        float *read, float *gradients, const float *computed, Py_ssize_t n, int threads
    )
    void c_write_past_the_end "write_past_the_end"(Py_ssize_t n)
    float c_read_after_free "read_after_free"(Py_ssize_t n)
    void c_free_twice "free_twice"(Py_ssize_t n)
    int c_wrap_index "wrap_index"(int row, int width)
    int c_shift_too_far "shift_too_far"(int bits)
    void c_forget "forget"(Py_ssize_t bytes)


def sum_unsynchronized(float[::1] total, float[:, ::1] parts):
    """Add parts (threads,n) to total (n,), each thread its own; the last alone arrives.

    The parts are overwritten.
    """
    with nogil:
        c_sum_unsynchronized(&total[0], &parts[0, 0], parts.shape[1], <int> parts.shape[0])


def share_activations(float[:, ::1] rows, float[::1] shared, int threads):
    """Leave in rows (count,n), of as many as there are threads, the last one's in all."""
    with nogil:
        c_share_activations(&rows[0, 0], &shared[0], rows.shape[0], rows.shape[1], threads)


def read_early(float[::1] read, float[::1] gradients, const float[::1] computed, int threads):
    """Let threads make gradients (n,) the computed ones; read (n,) is what the first saw of it."""
    with nogil:
        c_read_early(&read[0], &gradients[0], &computed[0], read.shape[0], threads)


def write_past_the_end(Py_ssize_t n):
    """Write n + 1 floats into a block of n."""
    c_write_past_the_end(n)


def read_after_free(Py_ssize_t n):
    """Read the last float of a block of n that has been freed."""
    return c_read_after_free(n)


def free_twice(Py_ssize_t n):
    """Free a block of n floats twice."""
    c_free_twice(n)


def wrap_index(int row, int width):
    """The index of a row's first element, in 32 bits."""
    return c_wrap_index(row, width)


def shift_too_far(int bits):
    """2 to the power of bits, in 32 bits."""
    return c_shift_too_far(bits)


def forget(Py_ssize_t bytes):
    """Allocate a block, and lose the one before it."""
    c_forget(bytes)
