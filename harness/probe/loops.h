/* Loops that find out what a machine can do; the rates are of all threads together. */
#pragma once
#include <stddef.h>

/* The widest instruction-set level that this processor runs, or `wanted` if it runs that one:
   avx512, avx2, baseline; NULL otherwise. */
const char *probe_level(const char *wanted);

/* FLOP/s of multiply-adds on registers alone; 0 where the threads cannot be had. */
double probe_fma(const char *level, int threads, double seconds);

/* Bytes/s read from floats[count], of which each thread reads its own part again and again. */
double probe_read(const char *level, int threads, double seconds, const float *floats, size_t count);

/* So many multiply-adds, each of which waits for the one before: a known amount of work. */
float probe_chain(ptrdiff_t count);

/* Seconds from one core's write to a cache line until another has read it; 0 where a thread cannot
   be had or tied to its core. */
double probe_hand_over(int one, int other, int rounds);
