// guest-bench: a small benchmark for PC emulators that runs as the only program of a Linux guest.
//
//   gbench [-c] [-g] [-t SECONDS] [-r ROUNDS] [-u UNITS] [-x WORD] [all | sys | smc | int | mem | fp | NAME...]
//
// Every test repeats its unit of work for SECONDS on the guest's monotonic clock, ROUNDS times, and prints
//
//   @begin NAME
//   NAME: RATE UNIT units=N secs=S check=HEX
//
// A host that stamps these two lines with its own clock need not trust the guest's. `check` is the result of
// one unit: two machines that print different ones compute differently, so a run is a correctness test too.
// `-u` runs exactly so many units, for tools that count instructions. `-c` measures with the process's CPU
// time, for a native baseline on a busy host (system tests keep the monotonic clock). `-x 27f` loads the x87
// control word, in hexadecimal: 37f is Linux's, 27f (53 bits of precision) Windows'.
//
// `-g` prints `@ready NAME` before a round and waits for a line on standard input, so that a host which measures
// several emulators at once can give them turns. An emulator that waits is a guest in its idle loop.
#include "gbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    double seconds;
    int rounds;
    long units;
    int cpu_time;
    int gate;
};

static const struct group *const groups[] = {
    &system_group, &smc_group, &integer_group, &memory_group, &float_group,
};

static clockid_t measuring_clock = CLOCK_MONOTONIC;
static uint32_t random_state = 1;
static volatile uint32_t result_sink;
uint8_t *random_bytes;

double clock_now(void) {
    struct timespec t;
    clock_gettime(measuring_clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

void seed_random(uint32_t seed) { random_state = seed; }

uint32_t next_random(void) { // xorshift32
    uint32_t x = random_state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return random_state = x;
}

void setup_random_bytes(void) {
    if (random_bytes) return;
    random_bytes = malloc(MIB);
    seed_random(0x12345678);
    for (uint32_t i = 0; i < MIB; i++) random_bytes[i] = next_random();
}

static void wait_for_turn(const struct test *test) {
    printf("@ready %s\n", test->name);
    for (int byte = 0; byte != EOF && byte != '\n';) byte = getchar();
}

static void load_control_word(uint16_t word) { __asm__ volatile("fldcw %0" : : "m"(word)); }

static void run_round(const struct test *test, const struct options *options) {
    uint32_t check = 0;
    long units = 0;
    printf("@begin %s\n", test->name);
    double begun = clock_now(), seconds = 0;
    do {
        check = test->run();
        units++;
        if (!options->units) seconds = clock_now() - begun;
    } while (options->units ? units < options->units : seconds < options->seconds);
    seconds = clock_now() - begun;
    result_sink += check;
    double rate = seconds > 0 ? units * test->work / seconds : 0;
    printf("%s: %.4g %s units=%ld secs=%.4f check=%08x\n",
           test->name, rate, test->rate, units, seconds, check);
}

static int wanted(const struct group *group, const struct test *test, char **names) {
    if (!*names) return 1;
    for (; *names; names++)
        if (!strcmp(*names, "all") || !strcmp(*names, group->name) || !strcmp(*names, test->name)) return 1;
    return 0;
}

static int run_group(const struct group *group, const struct options *options, char **names) {
    int ran = 0;
    int cpu_time = options->cpu_time && group != &system_group;
    measuring_clock = cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    for (size_t i = 0; i < group->count; i++) {
        const struct test *test = &group->tests[i];
        if (!wanted(group, test, names)) continue;
        for (int round = 0; round < options->rounds; round++) {
            if (options->gate) wait_for_turn(test);
            if (round == 0 && test->setup) {
                test->setup();
                if (options->gate) wait_for_turn(test); // preparing is a turn, but no part of a round
            }
            run_round(test, options);
        }
        ran++;
    }
    return ran;
}

// Returns the first argument that is not an option.
static char **parse_options(char **args, struct options *options) {
    for (; *args && **args == '-'; args++) {
        char option = (*args)[1];
        if (option == 'c') { options->cpu_time = 1; continue; }
        if (option == 'g') { options->gate = 1; continue; }
        if (!args[1]) break;
        const char *value = *++args;
        if (option == 't') options->seconds = atof(value);
        if (option == 'r') options->rounds = atoi(value);
        if (option == 'u') options->units = atol(value);
        if (option == 'x') load_control_word(strtoul(value, NULL, 16));
    }
    return args;
}

int main(int argc, char **argv) {
    struct options options = { .seconds = 1, .rounds = 3 };
    if (argc > 1 && !strcmp(argv[1], "nop")) return 0; // what the fork-and-exec test starts
    setvbuf(stdout, NULL, _IOLBF, 0);
    char **names = parse_options(argv + 1, &options);
    int ran = 0;
    for (size_t i = 0; i < LENGTH(groups); i++) {
        ran += run_group(groups[i], &options, names);
        if (groups[i] == &memory_group) release_memory();
    }
    end_system_helpers();
    return ran ? 0 : 2;
}
