// The shape of a test, and what the groups of tests share.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NOINLINE __attribute__((noinline))
// Keeps the compiler from moving, merging or vectorising memory accesses across this point.
#define COMPILER_BARRIER() __asm__ volatile("" ::: "memory")
#define MIB (1u << 20)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

// One test repeats `run`, a fixed unit of work. Its result depends only on the work, never on speed.
struct test {
    const char *name;
    uint32_t (*run)(void);
    void (*setup)(void);    // makes the inputs; may be called several times
    double work;            // how much of `rate` one unit is worth
    const char *rate;       // the name of a rate of one
};

struct group {
    const char *name;
    const struct test *tests;
    size_t count;
};

extern const struct group system_group, smc_group, integer_group, memory_group, float_group;

uint32_t next_random(void);
void seed_random(uint32_t seed);

// 1 MiB of random bytes, for the tests that digest data.
extern uint8_t *random_bytes;
void setup_random_bytes(void);

// Seconds on the clock that the run is measured with.
double clock_now(void);

// Frees what is too large to keep while other tests run, and ends helper processes.
void release_memory(void);
void end_system_helpers(void);
