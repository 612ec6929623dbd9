from libc.stdint cimport int64_t

cdef extern from "kernels/lattice.h":
    enum:
        LATTICE_COLUMNS
        LATTICE_FIELDS
    ctypedef struct LatticeTables:
        const float *tokens
        const int64_t *start
        const int *inverse
        const int *bound
        const float *log
        float turn
    ctypedef struct LatticeTokens:
        const int *ids
        const float *fields
        Py_ssize_t apart
    ctypedef struct LatticeHead:
        pass
    ctypedef struct LatticeBatch:
        const LatticeTables *tables
        const int *tokens
        const float *fields
        const float *weights
        double *sums
    ctypedef struct LatticeGraph:
        Py_ssize_t tokens
        Py_ssize_t near
        Py_ssize_t composites
        const int *neighbour
        const float *nearness
        const int *composite
        const int64_t *start
        const int *prime
        const float *exponent
    Py_ssize_t lattice_scratch(Py_ssize_t T, Py_ssize_t queries) noexcept nogil
    void lattice_weights(float *out, const float *w, Py_ssize_t width) noexcept nogil
    LatticeHead lattice_head(
        const LatticeBatch *batch, Py_ssize_t pair, Py_ssize_t T, Py_ssize_t H, Py_ssize_t width,
        float *distances,
    ) noexcept nogil

cdef extern from "kernels/kernels.h":
    enum:
        ATTENTION_QUERIES
    ctypedef struct Kernels:
        const char *name
        void gemm(
            Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth,
            const float *a, Py_ssize_t a_row, Py_ssize_t a_col,
            const float *b, Py_ssize_t b_row, Py_ssize_t b_col,
            float *c, Py_ssize_t c_row, const float *start, Py_ssize_t start_row, float *panel,
        ) noexcept nogil
        void gemm_times(
            Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth,
            const float *a, Py_ssize_t a_row, Py_ssize_t a_col,
            const float *b, Py_ssize_t b_row, Py_ssize_t b_col,
            float *c, Py_ssize_t c_row, float *panel,
        ) noexcept nogil
        void gemv(
            Py_ssize_t cols, Py_ssize_t depth, const float *x, const float *w,
            Py_ssize_t w_row, float *out, const float *start,
        ) noexcept nogil
        void dots(
            Py_ssize_t rows, Py_ssize_t depth, const float *m, Py_ssize_t m_row,
            const float *x, float *out,
        ) noexcept nogil
        void axpy(float *y, float a, const float *x, Py_ssize_t n) noexcept nogil
        void add(float *out, const float *x, const float *y, Py_ssize_t n) noexcept nogil
        void scale(float *x, float a, Py_ssize_t n) noexcept nogil
        float max(const float *x, Py_ssize_t n) noexcept nogil
        double sum_squares(const float *x, Py_ssize_t n) noexcept nogil
        double sum_double(const double *x, Py_ssize_t n) noexcept nogil
        float exp_sum(
            float *out, const float *x, float a, float shift, Py_ssize_t n
        ) noexcept nogil
        void exp_double(
            double *out, const float *x, double a, double top, Py_ssize_t n
        ) noexcept nogil
        void gelu(float *out, float *slope, const float *x, Py_ssize_t n) noexcept nogil
        void layernorm_forward(
            float *out, float *mean, float *rstd, const float *x, const float *gain,
            const float *shift, Py_ssize_t n,
        ) noexcept nogil
        void layernorm_backward(
            float *dx, float *dgain, float *dshift, const float *dout, const float *dskip,
            const float *x, float mean, float rstd, const float *gain, Py_ssize_t n,
        ) noexcept nogil
        void attention_forward(
            float *out, const float *start, Py_ssize_t out_row, float *lse, const float *q,
            const float *k, const float *v, Py_ssize_t row, Py_ssize_t T, Py_ssize_t width,
            float *scratch, float *panel, const LatticeHead *lattice,
        ) noexcept nogil
        void attention_backward(
            float *dq, float *dk, float *dv, const float *dout, Py_ssize_t out_row,
            const float *lse, const float *q, const float *k, const float *v, Py_ssize_t row,
            Py_ssize_t T, Py_ssize_t width, float *scratch, float *panel,
            const LatticeHead *lattice,
        ) noexcept nogil
        void lattice_distances(
            float *out, Py_ssize_t apart, const LatticeTokens *tokens, Py_ssize_t one,
            Py_ssize_t first, Py_ssize_t n, const LatticeTables *tables,
        ) noexcept nogil
        void lattice_lower(
            float *scores, const float *distances, Py_ssize_t apart, const float *weights,
            Py_ssize_t n,
        ) noexcept nogil
        void lattice_loss_sums(
            double *sums, const float *e, Py_ssize_t row, Py_ssize_t n, const LatticeGraph *graph
        ) noexcept nogil
        void lattice_loss_gradient(
            float *d, const float *e, Py_ssize_t row, Py_ssize_t n, const LatticeGraph *graph,
            const float *factors,
        ) noexcept nogil
        void adam(
            float *parameters, float *first, float *second, const float *gradients, Py_ssize_t n,
            float beta1, float rest1, float beta2, float rest2, float scale, float decay,
            float rate, float second_correction, float epsilon, int shared,
        ) noexcept nogil
    Py_ssize_t attention_scratch(Py_ssize_t T, Py_ssize_t width) noexcept nogil
    Py_ssize_t panel_floats(Py_ssize_t depth) noexcept nogil

cdef extern from "kernels/team.h":
    ctypedef struct Barrier:
        pass
    int team_size() noexcept nogil
    void team_barrier(Barrier *barrier, int threads) noexcept nogil
    Py_ssize_t share_start(
        Py_ssize_t n, Py_ssize_t grain, int thread, int threads
    ) noexcept nogil
    unsigned flush_denormals() noexcept nogil
    void restore_denormals(unsigned before) noexcept nogil

cdef enum:
    # Rows of a weight's gradient come to a thread in multiples of this: whole register tiles.
    TILE_ROWS = 8

# The level in use, the same for every module; chosen once, when this one is imported.
cdef const Kernels *kernels

cdef struct Rows:
    # From start to stop.
    Py_ssize_t start
    Py_ssize_t stop

cdef inline Rows share(
    Py_ssize_t n, Py_ssize_t grain, int thread, int threads
) noexcept nogil:
    cdef Rows rows
    rows.start = share_start(n, grain, thread, threads)
    rows.stop = share_start(n, grain, thread + 1, threads)
    return rows
