cdef extern from "kernels/kernels.h":
    ctypedef struct Kernels:
        const char *name
        void gemm(
            Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth,
            const float *a, Py_ssize_t a_row, Py_ssize_t a_col,
            const float *b, Py_ssize_t b_row, Py_ssize_t b_col,
            float *c, Py_ssize_t c_row, int accumulate,
        ) noexcept nogil
        float dot(const float *x, const float *y, Py_ssize_t n) noexcept nogil
        void axpy(float *y, float a, const float *x, Py_ssize_t n) noexcept nogil
        void add(float *out, const float *x, const float *y, Py_ssize_t n) noexcept nogil
        float max(const float *x, Py_ssize_t n) noexcept nogil
        float sum(const float *x, Py_ssize_t n) noexcept nogil
        double sum_squares(const float *x, Py_ssize_t n) noexcept nogil
        void exp_shifted(
            float *out, const float *x, float a, float shift, Py_ssize_t n
        ) noexcept nogil
        void gelu_forward(float *out, const float *x, Py_ssize_t n) noexcept nogil
        void gelu_backward(
            float *dx, const float *dout, const float *x, Py_ssize_t n
        ) noexcept nogil
        void layernorm_forward(
            float *out, float *mean, float *rstd, const float *x, const float *gain,
            const float *shift, Py_ssize_t n,
        ) noexcept nogil
        void layernorm_backward(
            float *dx, const float *dout, const float *x, float mean, float rstd,
            const float *gain, Py_ssize_t n,
        ) noexcept nogil
        void adam(
            float *parameters, float *first, float *second, const float *gradients, Py_ssize_t n,
            float beta1, float rest1, float beta2, float rest2, float scale, float decay,
            float rate, float second_correction, float epsilon,
        ) noexcept nogil

cdef extern from "kernels/team.h":
    ctypedef struct Barrier:
        pass
    int team_size() noexcept nogil
    void team_barrier(Barrier *barrier, int threads) noexcept nogil
    Py_ssize_t share_start(Py_ssize_t n, int thread, int threads) noexcept nogil

# The level in use, the same for every module; chosen once, when this one is imported.
cdef const Kernels *kernels
