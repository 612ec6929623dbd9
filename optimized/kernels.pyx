"""The choice of the instruction-set level, once at import.

Promises: the best level that this processor runs, or the one that the environment variable
CLLM_ISA names; a name that is unknown or cannot run here is an ImportError that says so.
"""

import os

cdef extern from "kernels/kernels.h":
    const Kernels *kernels_choose(const char *name) noexcept
    const char *kernels_names

cdef extern from "kernels/team.h":
    const int TEAM_PARALLEL
    int team_survives_fork() noexcept


def exp(float[::1] out, const float[::1] x):
    """Write out (n,) = exp(x) of x (n,), float32, as the kernels compute it.

    Within 2 units in the last place on [-87.3, 88.3]; 0 from -88 down, infinity from 88.4 up.
    """
    if out.shape[0] != x.shape[0]:
        raise ValueError(f"out must have {x.shape[0]} elements like x: got {out.shape[0]}")
    if x.shape[0]:
        kernels.exp_sum(&out[0], &x[0], 1.0, 0.0, x.shape[0])


def available():
    """Names of the instruction-set levels that this processor runs, best first."""
    return [
        name.decode()
        for name in (<bytes> kernels_names).split()
        if kernels_choose(name) != NULL
    ]


cdef const Kernels *choose() except NULL:
    wanted = os.environ.get("CLLM_ISA", "")
    name = wanted.encode()
    cdef const Kernels *level = kernels_choose(<const char *> name if wanted else NULL)
    if level == NULL:
        raise ImportError(f"CLLM_ISA must be one of {available()} on this machine: got {wanted!r}")
    return level


if team_survives_fork() != 0:
    raise ImportError("pthread_atfork failed: out of memory")
kernels = choose()
isa = kernels.name.decode()
parallel = TEAM_PARALLEL == 1
