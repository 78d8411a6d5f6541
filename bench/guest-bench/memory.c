// Memory: block copies by the C library, by a string instruction and by a plain loop, and dependent loads
// over working sets of 16 KiB, 1 MiB and 64 MiB.
#include "gbench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_SIZE (4 * MIB)
static uint8_t *from_block, *to_block;

static void setup_blocks(void) {
    if (from_block) return;
    from_block = malloc(BLOCK_SIZE);
    to_block = malloc(BLOCK_SIZE);
    memset(from_block, 0x5A, BLOCK_SIZE);
    memset(to_block, 0xA5, BLOCK_SIZE);
}

// A volatile pointer, so that the library's routine runs and not an inlined string instruction.
static void *(*volatile library_memcpy)(void *, const void *, size_t) = memcpy;

static uint32_t run_memcpy(void) {
    for (int i = 0; i < 4; i++) {
        library_memcpy(to_block, from_block, BLOCK_SIZE);
        COMPILER_BARRIER();
    }
    return to_block[12345];
}

static uint32_t run_memset(void) {
    for (int i = 0; i < 4; i++) {
        memset(to_block, 0x30 + i, BLOCK_SIZE);
        COMPILER_BARRIER();
    }
    return to_block[12345];
}

static uint32_t run_repmovs(void) {
    for (int i = 0; i < 4; i++) {
        void *to = to_block;
        const void *from = from_block;
        size_t words = BLOCK_SIZE / 4;
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) :: "memory");
    }
    return to_block[12345];
}

static uint32_t run_bytecopy(void) {
    for (uint32_t i = 0; i < MIB; i++) {
        to_block[i] = from_block[i] + 1;
        COMPILER_BARRIER();
    }
    return to_block[12345];
}

// --- chase: a ring through all nodes in random order; each load's address is the last one's result

#define HOPS 500000
struct node {
    struct node *next;
    char rest_of_line[64 - sizeof(void *)];
};
struct ring {
    struct node *nodes;
    uint32_t count;
};
static struct ring ring_16k = { NULL, 256 }, ring_1m = { NULL, MIB / 64 }, ring_64m = { NULL, MIB };

static void setup_ring(struct ring *ring) {
    if (ring->nodes) return;
    uint32_t count = ring->count;
    ring->nodes = mmap(NULL, (size_t)count * sizeof(struct node), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *order = malloc(count * sizeof *order);
    seed_random(0xBEEF);
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) { // Sattolo's shuffle: one cycle through everything
        uint32_t other = next_random() % i, kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < count; i++) ring->nodes[i].next = &ring->nodes[order[i]];
    free(order);
}

static NOINLINE uint32_t chase(const struct ring *ring) {
    struct node *node = ring->nodes;
    for (int hops = HOPS; hops; hops--) node = node->next;
    return (uint32_t)(node - ring->nodes);
}

static void setup_16k(void) { setup_ring(&ring_16k); }
static void setup_1m(void) { setup_ring(&ring_1m); }
static void setup_64m(void) { setup_ring(&ring_64m); }
static uint32_t run_16k(void) { return chase(&ring_16k); }
static uint32_t run_1m(void) { return chase(&ring_1m); }
static uint32_t run_64m(void) { return chase(&ring_64m); }

void release_memory(void) {
    if (ring_64m.nodes) munmap(ring_64m.nodes, (size_t)ring_64m.count * sizeof(struct node));
    ring_64m.nodes = NULL;
}

static const struct test tests[] = {
    { "memcpy", run_memcpy, setup_blocks, 16.777216, "MB/s" },
    { "memset", run_memset, setup_blocks, 16.777216, "MB/s" },
    { "repmovs", run_repmovs, setup_blocks, 16.777216, "MB/s" },
    { "bytecopy", run_bytecopy, setup_blocks, 1.048576, "MB/s" },
    { "chase16k", run_16k, setup_16k, 0.5, "Mhop/s" },
    { "chase1m", run_1m, setup_1m, 0.5, "Mhop/s" },
    { "chase64m", run_64m, setup_64m, 0.5, "Mhop/s" },
};
const struct group memory_group = { "mem", tests, LENGTH(tests) };
