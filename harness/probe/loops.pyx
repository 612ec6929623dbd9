"""The loops of `loops.c`: see `cllm.harness.probe`."""

from libc.stddef cimport size_t

cdef extern from "loops.h" nogil:
    const char *probe_level(const char *wanted)
    double probe_fma(const char *level, int threads, double seconds)
    double probe_read(
        const char *level, int threads, double seconds, const float *floats, size_t count
    )
    float probe_chain(Py_ssize_t count)
    double probe_hand_over(int one, int other, int rounds)


def widest_level(str wanted=None):
    """The widest instruction-set level here, or the one wanted; ValueError where it cannot run."""
    name = b"" if wanted is None else wanted.encode()
    cdef const char *level = probe_level(NULL if wanted is None else <const char *> name)
    if level == NULL:
        raise ValueError(f"the instruction-set level {wanted!r} does not run here")
    return level.decode()


def fma_rate(str level, int threads, double seconds):
    """FLOP/s of all threads together."""
    name = widest_level(level).encode()
    cdef const char *at = name
    cdef double rate
    with nogil:
        rate = probe_fma(at, threads, seconds)
    return measured(rate, threads)


def read_rate(str level, int threads, double seconds, const float[::1] floats):
    """Bytes/s of all threads together, each reading its part of the floats."""
    if floats.shape[0] < 128 * threads:
        raise ValueError(f"at least {128 * threads} floats are needed: got {floats.shape[0]}")
    name = widest_level(level).encode()
    cdef const char *at = name
    cdef double rate
    with nogil:
        rate = probe_read(at, threads, seconds, &floats[0], <size_t> floats.shape[0])
    return measured(rate, threads)


def chain(Py_ssize_t count):
    """Take so many multiply-adds x/2 + 1, each of which waits for the one before; the last x."""
    cdef float last
    with nogil:
        last = probe_chain(count)
    return last


def hand_over_seconds(int one, int other, int rounds):
    """Seconds until a cache line that one core has written is read by the other."""
    cdef double seconds
    with nogil:
        seconds = probe_hand_over(one, other, rounds)
    if seconds == 0.0:
        raise OSError(f"threads cannot be tied to the cores {one} and {other}")
    return seconds


cdef double measured(double rate, int threads) except -1.0:
    if rate == 0.0:
        raise OSError(f"{threads} threads cannot be had")
    return rate
