/* The team of threads: its barrier, its size, and a fair share of the work; right without OpenMP
 * too. */
#ifndef CLLM_TEAM_H
#define CLLM_TEAM_H

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* A barrier that all threads of a team pass together; zeroed memory is a fresh one. A thread spins
 * for some microseconds, as long as a barrier takes where every thread has a core, and then sleeps:
 * on a busy machine a spinning thread would keep the core from the one that it waits for. */
typedef struct {
    char before[64];  /* nothing else in its cache line: it lies in an object of Python's, which */
    _Alignas(16) atomic_int arrived;  /* is aligned to 16 bytes */
    atomic_int passed;
    atomic_int sleeping;
    char after[64];
} Barrier;

enum { SPINS = 2000 };

static inline void team_sleep(Barrier *barrier, int passed)
{
    atomic_fetch_add(&barrier->sleeping, 1);
    while (atomic_load(&barrier->passed) == passed)
#ifdef __linux__
        syscall(SYS_futex, &barrier->passed, FUTEX_WAIT_PRIVATE, passed, NULL, NULL, 0);
#else
        sched_yield();
#endif
    atomic_fetch_sub(&barrier->sleeping, 1);
}

static inline void team_barrier(Barrier *barrier, int threads)
{
    if (threads == 1)
        return;
    const int passed = atomic_load(&barrier->passed);
    if (atomic_fetch_add(&barrier->arrived, 1) == threads - 1) {
        atomic_store(&barrier->arrived, 0);
        atomic_store(&barrier->passed, (int)((unsigned)passed + 1));
#ifdef __linux__
        /* Who goes to sleep after this look finds that the barrier is passed. */
        if (atomic_load(&barrier->sleeping) > 0)
            syscall(SYS_futex, &barrier->passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#endif
        return;
    }
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&barrier->passed, memory_order_acquire) != passed)
            return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    team_sleep(barrier, passed);
}

#ifdef _OPENMP
#include <omp.h>

enum { TEAM_PARALLEL = 1 };
static inline int team_size(void) { return omp_get_num_threads(); }

/* GNU's OpenMP keeps worker threads that a fork does not copy: the child would wait for them for
 * ever. Letting them go before the fork makes both sides start new ones. LLVM's looks after forks
 * itself, and holds the lock that this call waits for. */
static void team_release(void)
{
#if !defined(__clang__) && (_OPENMP >= 201811 || __GNUC__ >= 9)
    omp_pause_resource_all(omp_pause_hard);  /* GCC 9 had it before it claimed OpenMP 5.0 */
#endif
}

static inline int team_survives_fork(void) { return pthread_atfork(team_release, NULL, NULL); }
#else
enum { TEAM_PARALLEL = 0 };
static inline int team_size(void) { return 1; }
static inline int team_survives_fork(void) { return 0; }
#endif

/* Where the share of a thread starts, a multiple of grain; it ends where the next one's starts. */
static inline ptrdiff_t share_start(ptrdiff_t n, ptrdiff_t grain, int thread, int threads)
{
    const ptrdiff_t grains = (n + grain - 1) / grain;
    const ptrdiff_t each = grains / threads, more = grains % threads;
    const ptrdiff_t start = (thread * each + (thread < more ? thread : more)) * grain;
    return start < n ? start : n;
}

/* Denormal numbers count as 0 between these two, in the calling thread: where the processor is
 * slow with them, weights that fade away would slow a step down by much. */
#if defined(__x86_64__)
static inline unsigned flush_denormals(void)
{
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);  /* flush to zero, denormals are zero */
    return before;
}
static inline void restore_denormals(unsigned before) { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
static inline unsigned flush_denormals(void)
{
    const unsigned before = (unsigned)__builtin_aarch64_get_fpcr();
    __builtin_aarch64_set_fpcr(before | 1u << 24);
    return before;
}
static inline void restore_denormals(unsigned before) { __builtin_aarch64_set_fpcr(before); }
#else
static inline unsigned flush_denormals(void) { return 0; }
static inline void restore_denormals(unsigned before) { (void)before; }
#endif

#endif
