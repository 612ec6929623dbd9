"""Matrix product with an optional bias; the mirror of `cllm.reference.linear`."""

from cllm.plan import check_threads

from cython.parallel cimport parallel, threadid

from .arguments cimport disjoint, floats, shape_of
from .kernels cimport kernels, share_start, team_size


cdef void linear_forward_body(
    float *out, const float *x, const float *weight, const float *bias,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil:
    """Rows of out by thread; bias may be NULL."""
    cdef Py_ssize_t n
    cdef Py_ssize_t start = share_start(N, thread, threads)
    cdef Py_ssize_t stop = share_start(N, thread + 1, threads)
    kernels.gemm(stop - start, M, K, x + start * K, K, 1, weight, M, 1, out + start * M, M, 0)
    if bias != NULL:
        for n in range(start, stop):
            kernels.add(out + n * M, out + n * M, bias, M)


def linear_forward(out, x, weight, bias, *, int threads=1):
    """Out (B,T,M) = x W + b, of x (B,T,K), W (K,M) and b (M,) or None, float32."""
    cdef Py_ssize_t B, T, K, M
    B, T, K = shape_of("x", x, "BTK")
    M = shape_of("weight", weight, "KM")[1]
    cdef float *out_ = floats("out", out, (B, T, M), True)
    cdef const float *x_ = floats("x", x, (B, T, K))
    cdef const float *weight_ = floats("weight", weight, (K, M))
    cdef const float *bias_ = NULL
    inputs = {"x": x, "weight": weight}
    if bias is not None:
        bias_ = floats("bias", bias, (M,))
        inputs["bias"] = bias
    disjoint({"out": out}, inputs)
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        linear_forward_body(out_, x_, weight_, bias_, B * T, K, M, threadid(), team_size())


cdef void linear_backward_input_body(
    float *dx, const float *dout, const float *weight,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil:
    """Rows of dx by thread."""
    cdef Py_ssize_t start = share_start(N, thread, threads)
    cdef Py_ssize_t stop = share_start(N, thread + 1, threads)
    # out = x @ weight + bias
    kernels.gemm(stop - start, K, M, dout + start * M, M, 1, weight, 1, M, dx + start * K, K, 0)


cdef void linear_backward_weight_body(
    float *dweight, float *dbias, const float *dout, const float *x,
    Py_ssize_t N, Py_ssize_t K, Py_ssize_t M, int thread, int threads,
) noexcept nogil:
    """Rows of dweight and elements of dbias by thread; dbias may be NULL."""
    cdef Py_ssize_t n
    cdef Py_ssize_t start = share_start(K, thread, threads)
    cdef Py_ssize_t stop = share_start(K, thread + 1, threads)
    # out = x @ weight + bias
    kernels.gemm(stop - start, M, N, x + start, 1, K, dout, M, 1, dweight + start * M, M, 1)
    if dbias != NULL:
        start = share_start(M, thread, threads)
        stop = share_start(M, thread + 1, threads)
        for n in range(N):
            kernels.add(dbias + start, dbias + start, dout + n * M + start, stop - start)


def linear_backward(dx, dweight, dbias, dout, x, weight, *, int threads=1):
    """Write dx (B,T,K), add to dweight (K,M) and dbias (M,) or None, float32."""
    cdef Py_ssize_t B, T, K, M
    B, T, K = shape_of("x", x, "BTK")
    M = shape_of("weight", weight, "KM")[1]
    cdef float *dx_ = floats("dx", dx, (B, T, K), True)
    cdef float *dweight_ = floats("dweight", dweight, (K, M), True)
    cdef float *dbias_ = NULL
    cdef const float *dout_ = floats("dout", dout, (B, T, M))
    cdef const float *x_ = floats("x", x, (B, T, K))
    cdef const float *weight_ = floats("weight", weight, (K, M))
    outputs = {"dx": dx, "dweight": dweight}
    if dbias is not None:
        dbias_ = floats("dbias", dbias, (M,), True)
        outputs["dbias"] = dbias
    disjoint(outputs, {"dout": dout, "x": x, "weight": weight})
    threads = check_threads(threads)
    with nogil, parallel(num_threads=threads):
        linear_backward_input_body(dx_, dout_, weight_, B * T, K, M, threadid(), team_size())
        linear_backward_weight_body(
            dweight_, dbias_, dout_, x_, B * T, K, M, threadid(), team_size()
        )
