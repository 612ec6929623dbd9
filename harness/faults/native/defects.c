/* Races that have one outcome, so that they are seen without a sanitizer too: their threads take
 * turns by a relaxed counter, which orders nothing else in the eyes of the language or of a
 * sanitizer. And defects of memory and arithmetic that only a sanitizer sees. */
#include "defects.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
static int team_size(void) { return omp_get_num_threads(); }
static int thread_id(void) { return omp_get_thread_num(); }
#else
static int team_size(void) { return 1; }
static int thread_id(void) { return 0; }
#endif

static void wait_until(atomic_long *turns, long taken)
{
    while (atomic_load_explicit(turns, memory_order_relaxed) < taken)
        sched_yield();
}

static void take(atomic_long *turns) { atomic_fetch_add_explicit(turns, 1, memory_order_relaxed); }

/* total (n,) plus the parts (threads,n), each thread its own: all read what was there at first. */
void sum_unsynchronized(float *total, float *parts, ptrdiff_t n, int threads)
{
    atomic_long turns = 0;
#pragma omp parallel num_threads(threads)
    {
        const int thread = thread_id(), team = team_size();
        float *part = parts + thread * n;
        for (ptrdiff_t i = 0; i < n; i++)
            part[i] += total[i];
        take(&turns);
        wait_until(&turns, team + thread);
        for (ptrdiff_t i = 0; i < n; i++)
            total[i] = part[i];
        take(&turns);
    }
}

/* Copy rows (count,n), one a thread at a time, to where all threads keep theirs, and back. */
void share_activations(float *rows, float *shared, ptrdiff_t count, ptrdiff_t n, int threads)
{
    atomic_long turns = 0;
#pragma omp parallel num_threads(threads)
    {
        const int thread = thread_id(), team = team_size();
        long before = 0;
        for (ptrdiff_t first = 0; first < count; first += team, before += 2 * team) {
            float *row = first + thread < count ? rows + (first + thread) * n : NULL;
            wait_until(&turns, before + thread);
            for (ptrdiff_t i = 0; row != NULL && i < n; i++)
                shared[i] = row[i];
            take(&turns);
            wait_until(&turns, before + team);
            for (ptrdiff_t i = 0; row != NULL && i < n; i++)
                row[i] = shared[i];
            take(&turns);
            wait_until(&turns, before + 2 * team);
        }
    }
}

/* Threads write what they have computed (n,) into gradients (n,); the first reads all of them,
 * as an optimizer would behind a barrier, before the others have written. */
void read_early(float *read, float *gradients, const float *computed, ptrdiff_t n, int threads)
{
    atomic_long turns = 0;
#pragma omp parallel num_threads(threads)
    {
        const int thread = thread_id(), team = team_size();
        const ptrdiff_t start = n * thread / team, stop = n * (thread + 1) / team;
        if (thread > 0)
            wait_until(&turns, 1);
        for (ptrdiff_t i = start; i < stop; i++)
            gradients[i] = computed[i];
        if (thread == 0) {
            for (ptrdiff_t i = 0; i < n; i++)
                read[i] = gradients[i];
            take(&turns);
        }
    }
}

/* The compiler must not see through what follows. */
static float *volatile kept;

void write_past_the_end(ptrdiff_t n)
{
    kept = malloc(n * sizeof(float));
    for (ptrdiff_t i = 0; i <= n; i++)
        kept[i] = 0.0f;
    free(kept);
}

float read_after_free(ptrdiff_t n)
{
    kept = calloc(n, sizeof(float));
    free(kept);
    return kept[n - 1];
}

void free_twice(ptrdiff_t n)
{
    kept = malloc(n * sizeof(float));
    free(kept);
    free(kept);
}

int wrap_index(int row, int width) { return row * width; }

int shift_too_far(int bits) { return 1 << bits; }

void forget(ptrdiff_t bytes) { kept = malloc(bytes); }
