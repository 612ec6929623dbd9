/* The handler calls nothing that is not safe in a signal handler: it formats by itself, into its own
   stack. The table changes under Python's lock alone; a region is published by its access. */
#define _GNU_SOURCE
#include "regions.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { REGIONS = 4096, NAME = 100, LINE = 400, STACK = 1 << 16, WRITES = 1 << 16 };

static const size_t LEAST_GUARD = (size_t) 1 << 20;
static const size_t MOST_BYTES = (size_t) 1 << 44;
static const uint32_t PATTERN = 0xFFF4A5A5u; /* not a number in float32 and float64 */

typedef struct {
    char name[NAME];
    uintptr_t first, last;  /* reserved: all of it belongs to this region */
    uintptr_t open, shut;   /* pages that may be touched */
    uintptr_t start, stop;  /* the buffer */
    size_t itemsize;
    unsigned long released; /* counts up; the oldest place is used again first */
    atomic_int access;
} Region;

static Region regions[REGIONS];
static int used;
static unsigned long releases;

static Write writes[WRITES];
static atomic_int written;

static struct sigaction before[2]; /* of SIGSEGV, of SIGBUS */
static atomic_int told, passed;
static char stack[STACK];

static size_t page_size(void) { return (size_t) sysconf(_SC_PAGESIZE); }

static size_t whole_pages(size_t nbytes)
{
    const size_t page = page_size();
    return (nbytes + page - 1) / page * page;
}

static size_t whole_elements(const Region *region, size_t nbytes)
{
    const size_t size = region->itemsize;
    return (nbytes + size - 1) / size * size;
}

/* ---- the handler -------------------------------------------------------------------------- */

typedef struct {
    char text[LINE];
    size_t length;
} Line;

static void add(Line *line, const char *text)
{
    while (*text && line->length < LINE - 1)
        line->text[line->length++] = *text++;
}

/* 97536 as 97,536 */
static void add_number(Line *line, size_t number)
{
    char digits[40];
    size_t at = sizeof digits - 1, count = 0;
    digits[at] = 0;
    do {
        if (count && count % 3 == 0)
            digits[--at] = ',';
        digits[--at] = (char) ('0' + number % 10);
        count++;
    } while (number /= 10);
    add(line, digits + at);
}

/* 1 for a write, 0 for a read, -1 where the machine does not say */
static int is_write(const void *context)
{
    const ucontext_t *state = context;
#if defined(__x86_64__)
    return (state->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#elif defined(__aarch64__)
    const unsigned char *at = (const unsigned char *) state->uc_mcontext.__reserved;
    const unsigned char *end = at + sizeof state->uc_mcontext.__reserved;
    struct { uint32_t magic, size; } head;
    while (at + sizeof head <= end) {
        memcpy(&head, at, sizeof head);
        if (head.magic == 0x45535201u) { /* ESR_MAGIC: the syndrome, of which bit 6 is WnR */
            uint64_t syndrome;
            memcpy(&syndrome, at + sizeof head, sizeof syndrome);
            return (int) (syndrome >> 6 & 1);
        }
        if (head.magic == 0 || head.size == 0)
            break;
        at += head.size;
    }
    return -1;
#else
    (void) state;
    return -1;
#endif
}

static Region *region_of(uintptr_t address)
{
    for (int i = 0; i < used; i++)
        if (atomic_load(&regions[i].access) != GUARD_FREE && regions[i].first <= address &&
            address < regions[i].last)
            return &regions[i];
    return NULL;
}

static void tell(const Region *region, uintptr_t address, int write_access)
{
    static const char *const kinds[] = {"access to ", "read of ", "write to "};
    Line line = {.length = 0};
    add(&line, "out of bounds: ");
    add(&line, kinds[write_access + 1]);
    add(&line, region->name);
    if (address < region->start) {
        add(&line, ", ");
        add_number(&line, whole_elements(region, region->start - address));
        add(&line, " bytes before its start (buffer of ");
        add_number(&line, region->stop - region->start);
        add(&line, " bytes)");
    } else if (address >= region->stop) {
        add(&line, ", ");
        add_number(&line, whole_elements(region, address - region->stop + 1));
        add(&line, " bytes past its end (buffer of ");
        add_number(&line, region->stop - region->start);
        add(&line, " bytes)");
    } else {
        const int access = atomic_load(&region->access);
        add(&line, access == GUARD_READ_ONLY  ? ", which may only be read, at byte "
                   : access == GUARD_RELEASED ? ", which has been released, at byte "
                                              : ", which is no longer mapped, at byte ");
        add_number(&line, address - region->start);
    }
    line.text[line.length++] = '\n';
    ssize_t ignored = write(2, line.text, line.length);
    (void) ignored;
}

/* The write goes on once the page is open; who else wrote to it in the meantime is noted too. */
static int let_pass(Region *region, uintptr_t address, int write_access)
{
    const int access = atomic_load(&region->access);
    const uintptr_t page = page_size();
    if (address < region->open || address >= region->shut || write_access == 0)
        return 0;
    /* an open region: watched until a moment ago */
    if (access != GUARD_WATCHED && access != GUARD_OPEN)
        return 0;
    if (mprotect((void *) (address / page * page), page, PROT_READ | PROT_WRITE) != 0)
        return 0;
    if (access == GUARD_WATCHED) {
        const int i = atomic_fetch_add(&written, 1);
        if (i < WRITES)
            writes[i] = (Write) {(int) (region - regions), (int) syscall(SYS_gettid)};
    }
    return 1;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const int error = errno;
    const uintptr_t address = (uintptr_t) info->si_addr;
    Region *region = info->si_code > 0 ? region_of(address) : NULL;
    if (region != NULL) {
        const int write_access = is_write(context);
        if (let_pass(region, address, write_access)) {
            errno = error;
            return;
        }
        if (atomic_exchange(&told, 1) == 0)
            tell(region, address, write_access);
    }
    /* The instruction faults again, into the hands of whoever came before. */
    if (atomic_fetch_add(&passed, 1) < 2)
        sigaction(number, &before[number == SIGBUS], NULL);
    else
        signal(number, SIG_DFL);
    if (info->si_code <= 0)
        raise(number);
    errno = error;
}

int guard_install(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS};
    stack_t alternate;
    if (sigaltstack(NULL, &alternate) == 0 && alternate.ss_flags & SS_DISABLE) {
        alternate = (stack_t) {.ss_sp = stack, .ss_size = sizeof stack};
        if (sigaltstack(&alternate, NULL) != 0)
            return -1;
    }
    for (int i = 0; i < 2; i++) {
        struct sigaction now, mine = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
        mine.sa_sigaction = on_fault;
        sigemptyset(&mine.sa_mask);
        if (sigaction(numbers[i], NULL, &now) != 0)
            return -1;
        if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_fault)
            continue;
        before[i] = now;
        if (sigaction(numbers[i], &mine, NULL) != 0)
            return -1;
    }
    return 0;
}

/* ---- the table ---------------------------------------------------------------------------- */

static int free_place(void)
{
    int oldest = -1;
    if (used < REGIONS)
        return used;
    for (int i = 0; i < REGIONS; i++) {
        const int access = atomic_load(&regions[i].access);
        if (access == GUARD_FREE)
            return i;
        if (access == GUARD_RELEASED && (oldest < 0 || regions[i].released < regions[oldest].released))
            oldest = i;
    }
    if (oldest >= 0) {
        atomic_store(&regions[oldest].access, GUARD_FREE);
        munmap((void *) regions[oldest].first, regions[oldest].last - regions[oldest].first);
    }
    return oldest;
}

static uint8_t pattern_at(uintptr_t address)
{
    return (uint8_t) (PATTERN >> 8 * (address % 4));
}

static void fill(uintptr_t from, uintptr_t to)
{
    for (uintptr_t at = from; at < to; at++)
        *(uint8_t *) at = pattern_at(at);
}

int guard_map(const char *name, size_t nbytes, size_t itemsize, size_t alignment, int at_end)
{
    const size_t step = alignment > 1 ? alignment : 1, page = page_size();
    if (nbytes > MOST_BYTES || step > MOST_BYTES) {
        errno = ENOMEM;
        return -1;
    }
    const size_t slack = page % step ? step : 0; /* pages may lie at no multiple of it */
    const size_t inner = whole_pages(nbytes + slack + (nbytes == 0));
    const size_t guard = inner > LEAST_GUARD ? inner : LEAST_GUARD;
    const size_t all = inner + 2 * guard;
    const int place = free_place();
    if (place < 0) {
        errno = ENFILE;
        return -1;
    }
    char *at = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return -1;
    if (mprotect(at + guard, inner, PROT_READ | PROT_WRITE) != 0) {
        const int error = errno;
        munmap(at, all);
        errno = error;
        return -1;
    }
    Region *region = &regions[place];
    strncpy(region->name, name, NAME - 1);
    region->first = (uintptr_t) at;
    region->last = region->first + all;
    region->open = region->first + guard;
    region->shut = region->open + inner;
    region->itemsize = itemsize > 0 ? itemsize : 1;
    if (at_end)
        region->start = (region->shut - nbytes) / step * step;
    else
        region->start = (region->open + step - 1) / step * step;
    region->stop = region->start + nbytes;
    fill(region->open, region->start);
    fill(region->stop, region->shut);
    atomic_store(&region->access, GUARD_OPEN);
    if (place == used)
        used++;
    return place;
}

void *guard_start(int region) { return (void *) regions[region].start; }

int guard_protect(int number, int access)
{
    Region *region = &regions[number];
    const int rights = access == GUARD_OPEN ? PROT_READ | PROT_WRITE : PROT_READ;
    atomic_store(&region->access, access);
    return mprotect((void *) region->open, region->shut - region->open, rights);
}

ptrdiff_t guard_changed(int number)
{
    const Region *region = &regions[number];
    for (uintptr_t at = region->shut; at > region->stop; at--)
        if (*(uint8_t *) (at - 1) != pattern_at(at - 1))
            return (ptrdiff_t) whole_elements(region, at - region->stop);
    for (uintptr_t at = region->open; at < region->start; at++)
        if (*(uint8_t *) at != pattern_at(at))
            return -(ptrdiff_t) whole_elements(region, region->start - at);
    return 0;
}

void guard_release(int number)
{
    Region *region = &regions[number];
    region->released = ++releases;
    atomic_store(&region->access, GUARD_RELEASED);
    /* mapping it afresh gives the memory back and keeps the addresses */
    mmap((void *) region->open, region->shut - region->open, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

void guard_forget(void) { atomic_store(&written, 0); }

int guard_writes(Write *out, int most)
{
    int count = atomic_load(&written);
    if (count > WRITES)
        count = WRITES;
    for (int i = 0; i < count && i < most; i++)
        out[i] = writes[i];
    return count;
}
