// Integer work: loops, tables, hashing, sorting, indirect jumps, calls, wide multiplication, division, and a
// code footprint of a thousand functions.
#include "gbench.h"

#include <stdlib.h>
#include <string.h>

// --- sieve: the primes below a million, byte stores with growing strides

#define SIEVE_SIZE 1000000
static uint8_t *sieve;

static void setup_sieve(void) {
    if (!sieve) sieve = malloc(SIEVE_SIZE);
}

static uint32_t run_sieve(void) {
    uint32_t primes = 0;
    memset(sieve, 1, SIEVE_SIZE);
    for (uint32_t i = 2; i < SIEVE_SIZE; i++) {
        if (!sieve[i]) continue;
        primes++;
        for (uint32_t multiple = 2 * i; multiple < SIEVE_SIZE; multiple += i) sieve[multiple] = 0;
    }
    return primes;
}

// --- crc32: the reflected polynomial of IEEE 802.3, a table look-up per byte

static uint32_t crc_table[256];

static void setup_crc32(void) {
    setup_random_bytes();
    for (uint32_t i = 0; i < LENGTH(crc_table); i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xEDB88320u ^ crc >> 1 : crc >> 1;
        crc_table[i] = crc;
    }
}

static uint32_t run_crc32(void) {
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < MIB; i++) crc = crc_table[(crc ^ random_bytes[i]) & 255] ^ crc >> 8;
    return ~crc;
}

// --- sha256: FIPS 180-4 over 256 KiB, without padding; rotates and many live values

#define SHA_BYTES (256 * 1024)
static const uint32_t sha_start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
static const uint32_t sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate_right(uint32_t x, int n) { return x >> n | x << (32 - n); }
static inline uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void sha_schedule(uint32_t *w, const uint8_t *block) {
    for (int i = 0; i < 16; i++) w[i] = big_endian(block + 4 * i);
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        uint32_t small0 = rotate_right(a, 7) ^ rotate_right(a, 18) ^ a >> 3;
        uint32_t small1 = rotate_right(b, 17) ^ rotate_right(b, 19) ^ b >> 10;
        w[i] = w[i - 16] + small0 + w[i - 7] + small1;
    }
}

static NOINLINE void sha_block(uint32_t *hash, const uint8_t *block) {
    uint32_t w[64], s[8];
    sha_schedule(w, block);
    memcpy(s, hash, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[0], e = s[4];
        uint32_t big1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        uint32_t big0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        uint32_t choice = (e & s[5]) ^ (~e & s[6]);
        uint32_t majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
        uint32_t t = s[7] + big1 + choice + sha_constants[i] + w[i];
        s[7] = s[6]; s[6] = s[5]; s[5] = e; s[4] = s[3] + t;
        s[3] = s[2]; s[2] = s[1]; s[1] = a; s[0] = t + big0 + majority;
    }
    for (int i = 0; i < 8; i++) hash[i] += s[i];
}

static uint32_t run_sha256(void) {
    uint32_t hash[8];
    memcpy(hash, sha_start, sizeof hash);
    for (uint32_t at = 0; at < SHA_BYTES; at += 64) sha_block(hash, random_bytes + at);
    return hash[0];
}

// --- qsort: a million random words through the C library's sort, a call per comparison

#define SORT_COUNT 1000000
static uint32_t *sort_input, *sort_work;

static void setup_qsort(void) {
    if (sort_input) return;
    sort_input = malloc(SORT_COUNT * sizeof *sort_input);
    sort_work = malloc(SORT_COUNT * sizeof *sort_work);
    seed_random(0xC0FFEE);
    for (uint32_t i = 0; i < SORT_COUNT; i++) sort_input[i] = next_random();
}

static int compare_words(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static uint32_t run_qsort(void) {
    memcpy(sort_work, sort_input, SORT_COUNT * sizeof *sort_work);
    qsort(sort_work, SORT_COUNT, sizeof *sort_work, compare_words);
    return sort_work[0] ^ sort_work[SORT_COUNT / 2] ^ sort_work[SORT_COUNT - 1];
}

// --- interp: a stack machine with threaded dispatch, an indirect jump per bytecode, 17 bytecodes a turn

enum bytecode { PUSH, LOAD, STORE, ADD, SUB, MUL, XOR, SHR, JNZ, DUP, HALT };

static NOINLINE uint32_t interpret(const uint8_t *code, uint32_t turns) {
    static const void *const handlers[] = { &&push, &&load, &&store, &&add, &&sub, &&mul,
                                            &&xor_, &&shr, &&jnz, &&dup, &&halt };
    uint32_t stack[16], *top = stack, variables[4] = { turns, 1, 0, 0 };
    const uint8_t *pc = code;
#define NEXT goto *handlers[*pc++]
    NEXT;
push:  *top++ = *pc++; NEXT;
load:  *top++ = variables[*pc++]; NEXT;
store: variables[*pc++] = *--top; NEXT;
add:   top--; top[-1] += *top; NEXT;
sub:   top--; top[-1] -= *top; NEXT;
mul:   top--; top[-1] *= *top; NEXT;
xor_:  top--; top[-1] ^= *top; NEXT;
shr:   top--; top[-1] >>= *top & 31; NEXT;
jnz:   if (*--top) pc = code + *pc; else pc++; NEXT;
dup:   *top = top[-1]; top++; NEXT;
halt:  return variables[1];
#undef NEXT
}

static uint32_t run_interp(void) {
    static const uint8_t program[] = {
        LOAD, 1, PUSH, 13, MUL, LOAD, 0, ADD,   // v1 * 13 + v0
        LOAD, 1, PUSH, 3, SHR, XOR,             // ^ v1 >> 3
        DUP, STORE, 1,                          // to v1
        LOAD, 2, ADD, STORE, 2,                 // v2 += v1
        LOAD, 0, PUSH, 1, SUB, DUP, STORE, 0, JNZ, 0,
        HALT,
    };
    return interpret(program, 50000);
}

// --- fib: recursion; the barriers keep the compiler from making a loop of one of the two calls

static NOINLINE uint32_t fibonacci(uint32_t n) {
    if (n < 2) return n;
    uint32_t a = fibonacci(n - 1);
    __asm__ volatile("" : "+r"(a));
    uint32_t b = fibonacci(n - 2);
    __asm__ volatile("" : "+r"(b));
    return a + b;
}

static uint32_t run_fib(void) { return fibonacci(26); }

// --- mul64: xorshift64*; a 32-bit guest builds each step from pairs

static uint32_t run_mul64(void) {
    uint64_t x = 88172645463325252u, sum = 0;
    for (int i = 0; i < 500000; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        sum += x * 2685821657736338717u;
    }
    return (uint32_t)(sum ^ sum >> 32);
}

// --- div: a division and a remainder a turn

static uint32_t run_div(void) {
    uint32_t a = 0x9E3779B9, sum = 0;
    for (uint32_t i = 1; i < 500000; i++) {
        sum += a / ((i & 1023) | 1) + a % (i | 3);
        a = a * 1664525 + 1013904223;
    }
    return sum;
}

// --- bigcode: 1,024 different functions, called in a shuffled order through a table

#define FUNCTION(n) static NOINLINE uint32_t function_##n(uint32_t x) { \
    x += 0x##n##u * 2654435761u; \
    x ^= x >> 7; \
    if (x & 0x10) x = x * 5 + 0x##n##u; else x -= 0x##n##u ^ 0x55; \
    x ^= x << 3; \
    if ((x & 7) == 3) x += 17; \
    return x; }
#define ADDRESS(n) function_##n,
#define FOUR(each, n) each(n##0) each(n##1) each(n##2) each(n##3)
#define SIXTEEN(each, n) FOUR(each, n##0) FOUR(each, n##1) FOUR(each, n##2) FOUR(each, n##3)
#define SIXTY_FOUR(each, n) SIXTEEN(each, n##0) SIXTEEN(each, n##1) SIXTEEN(each, n##2) SIXTEEN(each, n##3)
#define QUARTER(each, n) \
    SIXTY_FOUR(each, n##0) SIXTY_FOUR(each, n##1) SIXTY_FOUR(each, n##2) SIXTY_FOUR(each, n##3)
#define ALL(each) QUARTER(each, 1) QUARTER(each, 2) QUARTER(each, 3) QUARTER(each, 4)

ALL(FUNCTION)
static uint32_t (*const functions[1024])(uint32_t) = { ALL(ADDRESS) };

static uint32_t run_bigcode(void) {
    uint32_t x = 1, at = 0;
    for (int calls = 0; calls < 262144; calls++) {
        at = (at * 5 + 331) & 1023;
        x = functions[at](x);
    }
    return x;
}

static const struct test tests[] = {
    { "sieve", run_sieve, setup_sieve, 1, "sieves/s" },
    { "crc32", run_crc32, setup_crc32, 1.048576, "MB/s" },
    { "sha256", run_sha256, setup_random_bytes, 0.262144, "MB/s" },
    { "qsort", run_qsort, setup_qsort, 1, "Melem/s" },
    { "interp", run_interp, NULL, 0.85, "Mbytecode/s" },
    { "fib", run_fib, NULL, 0.392835, "Mcall/s" },
    { "mul64", run_mul64, NULL, 0.5, "Mop/s" },
    { "div", run_div, NULL, 1, "Mdiv/s" },
    { "bigcode", run_bigcode, NULL, 0.262144, "Mcall/s" },
};
const struct group integer_group = { "int", tests, LENGTH(tests) };
