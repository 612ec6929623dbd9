/* One body for each loop, compiled for each instruction-set level. */
#define _GNU_SOURCE
#include "loops.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { SUMS = 12, CHUNK = 4096, MOST_THREADS = 1024 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static volatile float half = 0.5f, one = 1.0f, sink;

/* SUMS independent chains hide the latency of a multiply-add, and with the two factors they fit
   into 16 registers; x = x/2 + 1 neither grows nor becomes denormal. */
#define LOOPS(LEVEL, TARGET, WIDTH)                                                                \
    typedef float vector_##LEVEL __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));  \
    TARGET static double fma_##LEVEL(void)                                                         \
    {                                                                                              \
        vector_##LEVEL sum[SUMS], a, b;                                                            \
        for (int i = 0; i < WIDTH; i++)                                                            \
            a[i] = half, b[i] = one;                                                               \
        for (int s = 0; s < SUMS; s++)                                                             \
            sum[s] = b;                                                                            \
        for (int n = 0; n < CHUNK; n++)                                                            \
            _Pragma("GCC unroll 12") for (int s = 0; s < SUMS; s++) sum[s] = sum[s] * a + b;       \
        for (int s = 1; s < SUMS; s++)                                                             \
            sum[0] += sum[s];                                                                      \
        sink = sum[0][0];                                                                          \
        return 2.0 * WIDTH * SUMS * CHUNK;                                                         \
    }                                                                                              \
    TARGET static double read_##LEVEL(const float *floats, size_t count)                           \
    {                                                                                              \
        vector_##LEVEL sum[8] = {{0}};                                                             \
        for (size_t i = 0; i + 8 * WIDTH <= count; i += 8 * WIDTH)                                 \
            _Pragma("GCC unroll 8") for (int s = 0; s < 8; s++)                                    \
                sum[s] += *(const vector_##LEVEL *) (floats + i + s * WIDTH);                      \
        for (int s = 1; s < 8; s++)                                                                \
            sum[0] += sum[s];                                                                      \
        sink = sum[0][0];                                                                          \
        return (double) (count / (8 * WIDTH) * (8 * WIDTH) * sizeof(float));                       \
    }

LOOPS(baseline, , 4)
#ifdef __x86_64__
LOOPS(avx2, __attribute__((target("avx2,fma"))), 8)
LOOPS(avx512, __attribute__((target("avx512f,prefer-vector-width=512"))), 16)
#endif

float probe_chain(ptrdiff_t count)
{
    float x = one;
    const float a = half, b = one;
    for (ptrdiff_t i = 0; i < count; i++)
        x = x * a + b;
    return x;
}

typedef struct {
    const char *name;
    double (*fma)(void);
    double (*read)(const float *, size_t);
} Level;

static const Level levels[] = {
#ifdef __x86_64__
    {"avx512", fma_avx512, read_avx512},
    {"avx2", fma_avx2, read_avx2},
#endif
    {"baseline", fma_baseline, read_baseline},
};

static int runs(const char *name)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return strcmp(name, "baseline") == 0;
}

const char *probe_level(const char *wanted)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((wanted == NULL || strcmp(wanted, levels[i].name) == 0) && runs(levels[i].name))
            return levels[i].name;
    return NULL;
}

typedef struct {
    const Level *level;
    const float *floats; /* NULL: multiply-adds */
    size_t count;
    double seconds, rate;
    _Atomic int *go; /* 0 not yet, 1 go, -1 go home */
} Work;

static void *work(void *argument)
{
    Work *w = argument;
    double made = 0.0, from, passed;
    int go;
    if (w->floats != NULL)
        w->level->read(w->floats, w->count); /* into the caches that it fits into */
    while ((go = atomic_load(w->go)) == 0)
        sched_yield();
    if (go < 0)
        return NULL;
    from = now();
    do {
        made += w->floats == NULL ? w->level->fma() : w->level->read(w->floats, w->count);
        passed = now() - from;
    } while (passed < w->seconds);
    w->rate = made / passed;
    return NULL;
}

/* The sum of the rates of threads that work at the same time. */
static double together(const char *name, int threads, double seconds, const float *floats, size_t count)
{
    const Level *level = levels;
    pthread_t ids[MOST_THREADS];
    Work works[MOST_THREADS];
    _Atomic int go = 0;
    double rate = 0.0;
    int started = 0;
    if (threads < 1 || threads > MOST_THREADS)
        return 0.0;
    while (strcmp(level->name, name) != 0)
        level++;
    for (int i = 0; i < threads; i++)
        works[i] = (Work) {
            level, floats == NULL ? NULL : floats + i * (count / threads), count / threads,
            seconds, 0.0, &go,
        };
    while (started < threads && pthread_create(&ids[started], NULL, work, &works[started]) == 0)
        started++;
    atomic_store(&go, started == threads ? 1 : -1);
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        rate += works[i].rate;
    }
    return started == threads ? rate : 0.0;
}

double probe_fma(const char *level, int threads, double seconds)
{
    return together(level, threads, seconds, NULL, 0);
}

double probe_read(const char *level, int threads, double seconds, const float *floats, size_t count)
{
    return together(level, threads, seconds, floats, count);
}

typedef struct {
    _Alignas(128) _Atomic int line;
    _Alignas(128) int cores[2], rounds;
    int tied[2];
    double seconds;
    pthread_barrier_t start;
} Table;

static int tie(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    return pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) == 0;
}

/* Player 0 makes the line odd, player 1 makes it even again. */
static void play(Table *table, int player)
{
    double from;
    table->tied[player] = tie(table->cores[player]);
    pthread_barrier_wait(&table->start);
    if (!table->tied[0] || !table->tied[1])
        return;
    from = now();
    for (int round = 0; round < table->rounds; round++) {
        int mine = 2 * round + player;
        while (atomic_load_explicit(&table->line, memory_order_acquire) != mine) {
#ifdef __x86_64__
            __builtin_ia32_pause();
#endif
        }
        atomic_store_explicit(&table->line, mine + 1, memory_order_release);
    }
    if (player == 0)
        table->seconds = now() - from;
}

static void *player0(void *table)
{
    play(table, 0);
    return NULL;
}

static void *player1(void *table)
{
    play(table, 1);
    return NULL;
}

double probe_hand_over(int one, int other, int rounds)
{
    Table table = {.cores = {one, other}, .rounds = rounds};
    pthread_t ids[2];
    if (pthread_barrier_init(&table.start, NULL, 2) != 0)
        return 0.0;
    if (pthread_create(&ids[0], NULL, player0, &table) == 0) {
        if (pthread_create(&ids[1], NULL, player1, &table) == 0)
            pthread_join(ids[1], NULL);
        else
            pthread_barrier_wait(&table.start); /* tied[1] is 0: the other returns at once */
        pthread_join(ids[0], NULL);
    }
    pthread_barrier_destroy(&table.start);
    return table.seconds / (2.0 * rounds);
}
