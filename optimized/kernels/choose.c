/* Chooses a level by what the processor can do. */
#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
extern const Kernels kernels_avx512, kernels_avx2, kernels_baseline;

const char kernels_names[] = "avx512 avx2 baseline";

static int runs(const Kernels *level)
{
    __builtin_cpu_init();
    if (level == &kernels_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    if (level == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    return 1;
}

static const Kernels *const levels[] = {&kernels_avx512, &kernels_avx2, &kernels_baseline};
#else
extern const Kernels kernels_baseline;

const char kernels_names[] = "baseline";

static int runs(const Kernels *level)
{
    return level != NULL;
}

static const Kernels *const levels[] = {&kernels_baseline};
#endif

const Kernels *kernels_choose(const char *name)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((name == NULL || strcmp(name, levels[i]->name) == 0) && runs(levels[i]))
            return levels[i];
    return NULL;
}
