"""From checked NumPy arrays to pointers.

Promises: a pointer is handed out only to an aligned, C-contiguous array of exactly the shape and
dtype asked for, its ids in range; anything else is a `CllmError` that names the array.
"""

import numpy as np

from cllm.check import check_array, check_disjoint
from cllm.errors import CllmError

from .kernels cimport panel_floats


cdef float *floats(str name, object array, tuple shape, bint writable=False) except NULL:
    check_array(name, array, shape, np.float32, writable)
    return <float *> <size_t> array.ctypes.data


cdef const int *ids(
    str name, object array, tuple shape, Py_ssize_t low, Py_ssize_t stop
) except NULL:
    check_array(name, array, shape, np.int32)
    if array.size and (array.min() < low or array.max() >= stop):
        raise CllmError(
            f"{name} must lie in {low}..{stop - 1}: got {array.min()}..{array.max()}"
        )
    return <const int *> <size_t> array.ctypes.data


cdef int disjoint(dict outputs, dict inputs) except -1:
    """No output shares a byte with another array; inputs may share with each other."""
    check_disjoint(outputs)
    for name, array in inputs.items():
        check_disjoint({**outputs, name: array})
    return 0


cdef tuple shape_of(str name, object array, str axes):
    """The shape of an array that the others are held against."""
    if not isinstance(array, np.ndarray) or array.ndim != len(axes):
        raise CllmError(f"{name} must be an array ({','.join(axes)})")
    if 0 in array.shape:
        raise CllmError(f"{name} must not be empty: got shape {array.shape}")
    return array.shape


cdef object panels(int threads):
    """Scratch for the matrix products of each thread."""
    return np.empty((threads, panel_floats(0)), np.float32)
