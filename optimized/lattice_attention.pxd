from .kernels cimport LatticeBatch, LatticeTables, Rows

cdef LatticeTables tables_from(object arrays, double turn)

cdef void lattice_fields_body(
    float *fields, const int *tokens, const LatticeTables *tables, Py_ssize_t T, Rows rows
) noexcept nogil

cdef void lattice_weight_body(
    float *dweight, bint fresh, const LatticeBatch *lattice, Py_ssize_t B, Py_ssize_t H,
    Py_ssize_t width,
) noexcept nogil
