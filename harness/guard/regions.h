/* Buffers between unreadable pages, and a signal handler that knows them by name. */
#pragma once
#include <stddef.h>

/* What the pages of a region may be used for. */
enum { GUARD_FREE, GUARD_OPEN, GUARD_READ_ONLY, GUARD_WATCHED, GUARD_RELEASED };

/* Handle faults from here on, before whoever handles them now; 0, or -1 with errno. */
int guard_install(void);

/* A zeroed region of nbytes, its end or else its start flush against an unreadable page as far as
   the alignment allows; what is left of its pages holds a pattern. Its number, or -1 with errno. */
int guard_map(const char *name, size_t nbytes, size_t itemsize, size_t alignment, int at_end);

/* The first byte of a region. */
void *guard_start(int region);

/* GUARD_OPEN, GUARD_READ_ONLY or GUARD_WATCHED: the first write to each page is noted and let pass.
   0, or -1 with errno. */
int guard_protect(int region, int access);

/* How far the pattern beside a region has been changed: so many bytes past its end, or, negative,
   before its start, in whole elements; 0 where it has not. */
ptrdiff_t guard_changed(int region);

/* Make a region unreadable for good; its place is used again when no other is free. */
void guard_release(int region);

/* Forget the writes noted. */
void guard_forget(void);

typedef struct {
    int region;
    int thread;
} Write;

/* How many writes are noted, of which the first `most` are copied. */
int guard_writes(Write *out, int most);
