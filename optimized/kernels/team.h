/* The team of threads: its size, its barrier, and a fair share of the work; right without OpenMP
 * too. */
#ifndef CLLM_TEAM_H
#define CLLM_TEAM_H

#include <pthread.h>
#include <stddef.h>

#ifdef _OPENMP
#include <omp.h>

static inline int team_size(void) { return omp_get_num_threads(); }

static inline void team_barrier(void)
{
#pragma omp barrier
}

/* GNU's OpenMP keeps worker threads that a fork does not copy: the child would wait for them for
 * ever. Letting them go before the fork makes both sides start new ones. */
static void team_release(void)
{
#if _OPENMP >= 201811 || __GNUC__ >= 9  /* GCC had the call before it claimed OpenMP 5.0 */
    omp_pause_resource_all(omp_pause_hard);
#endif
}

static inline int team_survives_fork(void) { return pthread_atfork(team_release, NULL, NULL); }
#else
static inline int team_size(void) { return 1; }
static inline void team_barrier(void) {}
static inline int team_survives_fork(void) { return 0; }
#endif

/* Where the share of a thread starts; it ends where the next one's starts. */
static inline ptrdiff_t share_start(ptrdiff_t n, int thread, int threads)
{
    const ptrdiff_t each = n / threads, more = n % threads;
    return thread * each + (thread < more ? thread : more);
}

#endif
