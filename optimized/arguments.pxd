cdef float *floats(str name, object array, tuple shape, bint writable=*) except NULL
cdef const int *ids(
    str name, object array, tuple shape, Py_ssize_t low, Py_ssize_t stop
) except NULL
cdef int disjoint(dict outputs, dict inputs) except -1
cdef tuple shape_of(str name, object array, str axes)
cdef object panels(int threads)
