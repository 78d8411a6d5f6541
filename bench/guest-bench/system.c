// The kernel's work: system calls, page faults, processes and context switches.
#include "gbench.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS 2000
static volatile uint32_t sink;

static uint32_t run_getpid(void) {
    for (int i = 0; i < CALLS; i++) syscall(SYS_getpid);
    return 0;
}

#ifdef __i386__
static uint32_t run_int80(void) {
    for (int i = 0; i < CALLS; i++) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(SYS_getpid) : "memory");
    }
    return 0;
}
#endif

static uint32_t run_clock(void) {
    for (int i = 0; i < CALLS; i++) sink += (uint32_t)clock_now();
    return 0;
}

#define PAGES 512
static uint32_t run_pagefault(void) {
    uint8_t *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < PAGES; i++) pages[i * 4096] = 1;
    munmap(pages, PAGES * 4096);
    return 0;
}

static uint32_t status_of(pid_t child) {
    int status = 1;
    waitpid(child, &status, 0);
    return status;
}

static uint32_t run_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    return status_of(child);
}

static uint32_t run_forkexec(void) {
    static const char self[] = "/proc/self/exe";
    pid_t child = fork();
    if (child == 0) {
        execl(self, self, "nop", (char *)NULL);
        _exit(127);
    }
    return status_of(child);
}

// --- pipe: a byte to another process and back, two context switches a turn

static int to_echo[2], from_echo[2];
static pid_t echo_process;

static void echo_bytes(void) {
    char byte;
    close(to_echo[1]);
    close(from_echo[0]);
    while (read(to_echo[0], &byte, 1) == 1 && write(from_echo[1], &byte, 1) == 1) {}
    _exit(0);
}

static void setup_pipe(void) {
    if (echo_process) return;
    if (pipe(to_echo) || pipe(from_echo)) exit(1);
    fflush(stdout);
    echo_process = fork();
    if (echo_process == 0) echo_bytes();
    close(to_echo[0]);
    close(from_echo[1]);
}

static uint32_t run_pipe(void) {
    char byte = 7;
    for (int i = 0; i < 200; i++)
        if (write(to_echo[1], &byte, 1) != 1 || read(from_echo[0], &byte, 1) != 1) return 1;
    return byte;
}

void end_system_helpers(void) {
    if (!echo_process) return;
    close(to_echo[1]);
    status_of(echo_process);
}

static const struct test tests[] = {
    { "getpid", run_getpid, NULL, 2, "k/s" },
#ifdef __i386__
    { "int80", run_int80, NULL, 2, "k/s" },
#endif
    { "clock", run_clock, NULL, 2, "k/s" },
    { "pagefault", run_pagefault, NULL, 0.512, "k/s" },
    { "fork", run_fork, NULL, 1, "/s" },
    { "forkexec", run_forkexec, NULL, 1, "/s" },
    { "pipe", run_pipe, setup_pipe, 0.2, "k roundtrips/s" },
};
const struct group system_group = { "sys", tests, LENGTH(tests) };
