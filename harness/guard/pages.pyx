"""The regions of `regions.c` as Python objects: see `cllm.harness.guard`."""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.stdlib cimport free, malloc

import os

cdef extern from "regions.h" nogil:
    int GUARD_OPEN, GUARD_READ_ONLY, GUARD_WATCHED
    ctypedef struct Write:
        int region
        int thread
    int guard_install()
    int guard_map(
        const char *name, size_t nbytes, size_t itemsize, size_t alignment, int at_end
    )
    void *guard_start(int region)
    int guard_protect(int region, int access)
    ptrdiff_t guard_changed(int region)
    void guard_release(int region)
    void guard_forget()
    int guard_writes(Write *out, int most)


cdef class Pages:
    """One buffer between unreadable pages, as writable bytes (n,).

    Once nobody holds it any more, nor an array over it, its memory is unreadable too.
    """

    cdef readonly int region
    cdef readonly Py_ssize_t nbytes

    def __cinit__(
        self, str name, Py_ssize_t nbytes, Py_ssize_t itemsize, Py_ssize_t alignment, bint at_end
    ):
        self.region = -1
        if guard_install() != 0:
            raise OSError(errno, os.strerror(errno))
        text = name.encode()
        self.region = guard_map(text, nbytes, itemsize, alignment, at_end)
        if self.region < 0:
            raise OSError(errno, f"no guarded pages for {name}: {os.strerror(errno)}")
        self.nbytes = nbytes

    def __dealloc__(self):
        if self.region >= 0:
            guard_release(self.region)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, guard_start(self.region), self.nbytes, 0, flags)

    def open(self):
        """The pages may be read and written."""
        self.protect(GUARD_OPEN)

    def read_only(self):
        """A write ends the process."""
        self.protect(GUARD_READ_ONLY)

    def watch(self):
        """The first write to each page is noted."""
        self.protect(GUARD_WATCHED)

    def changed(self):
        """Bytes past the end, or, negative, before the start, up to which others have written."""
        return guard_changed(self.region)

    cdef int protect(self, int access) except -1:
        if guard_protect(self.region, access) != 0:
            raise OSError(errno, os.strerror(errno))
        return 0


def forget():
    """Forget the writes noted."""
    guard_forget()


def writes():
    """Region and thread of each write noted, in order."""
    cdef int count = guard_writes(NULL, 0), i
    cdef Write *found = <Write *> malloc((count + 1) * sizeof(Write))
    if found == NULL:
        raise MemoryError
    try:
        guard_writes(found, count)
        return [(found[i].region, found[i].thread) for i in range(count)]
    finally:
        free(found)
