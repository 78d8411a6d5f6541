// Code that changes: what a translator must notice and an interpreter hardly does.
#include "gbench.h"

#include <string.h>
#include <sys/mman.h>

#define TURNS 2000
typedef uint32_t (*function)(void);

static uint8_t *code_pages(size_t pages) {
    return mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static uint32_t call(const uint8_t *code) {
    COMPILER_BARRIER();
    return ((function)(uintptr_t)code)();
}

static const uint8_t arithmetic[] = {
    0xB8, 0, 0, 0, 0,       // mov eax, operand
    0x05, 1, 0, 0, 0,       // add eax, 1
    0x35, 0x55, 0, 0, 0,    // xor eax, 55h
    0xC3,                   // ret
};

// --- smc: patch an instruction's operand and call it, every time: the worst case for a translator

static uint8_t *patched;

static void setup_smc(void) {
    if (patched) return;
    patched = code_pages(1);
    memcpy(patched, arithmetic, sizeof arithmetic);
}

static uint32_t run_smc(void) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < TURNS; i++) {
        memcpy(patched + 1, &i, sizeof i);
        sum += call(patched);
    }
    return sum;
}

// --- smcdata: data beside code in one page, as thunks and jump tables have them; the code itself never changes

static uint32_t run_smcdata(void) {
    volatile uint32_t *data = (volatile uint32_t *)(patched + 2048);
    uint32_t sum = 0;
    memset(patched + 1, 0, 4);
    for (uint32_t i = 0; i < TURNS; i++) {
        data[i % 64] = i;
        sum += call(patched) + data[(i + 1) % 64];
    }
    for (uint32_t i = 0; i < 64; i++) data[i] = 0;
    return sum;
}

// --- smcgen: a guest with a translator of its own: new code at ever other places, run a few times

#define SLOT 64
#define SLOTS 1024
static uint8_t *generated;

static void setup_smcgen(void) {
    if (!generated) generated = code_pages(SLOTS * SLOT / 4096);
}

static uint32_t run_smcgen(void) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < TURNS; i++) {
        uint8_t *slot = generated + i * 5 % SLOTS * SLOT;
        memcpy(slot, arithmetic, sizeof arithmetic);
        memcpy(slot + 1, &i, sizeof i);
        for (int calls = 0; calls < 8; calls++) sum += call(slot);
    }
    return sum;
}

// --- smcself: an instruction that changes the one behind it

static uint8_t *changing;

static void setup_smcself(void) {
    static const uint8_t code[] = { // the same bytes in both modes
        0xE8, 0, 0, 0, 0,       // call next
        0x58,                   // next: pop eax (rax)
        0xFF, 0x40, 0x05,       // inc dword [next + 5], the operand below
        0xB8, 0, 0, 0, 0,       // mov eax, operand
        0xC3,                   // ret
    };
    if (!changing) changing = code_pages(1);
    memcpy(changing, code, sizeof code);
}

static uint32_t run_smcself(void) {
    uint32_t sum = 0;
    memset(changing + 10, 0, 4);
    for (int i = 0; i < TURNS; i++) sum = sum * 3 + call(changing);
    return sum;
}

static const struct test tests[] = {
    { "smc", run_smc, setup_smc, 2, "k patches/s" },
    { "smcdata", run_smcdata, setup_smc, 2, "k stores/s" },
    { "smcgen", run_smcgen, setup_smcgen, 2, "k functions/s" },
    { "smcself", run_smcself, setup_smcself, 2, "k patches/s" },
};
const struct group smc_group = { "smc", tests, LENGTH(tests) };
