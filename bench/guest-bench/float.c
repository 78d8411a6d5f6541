// Floating point: x87, scalar SSE or packed SSE, as the kit was built.
#include "gbench.h"

#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

// --- nbody: five bodies, 5,000 steps, softened so that no pair comes too near

#define BODIES 5
struct body { double x, y, z, vx, vy, vz, mass; };

static void place_bodies(struct body *bodies) {
    for (int i = 0; i < BODIES; i++)
        bodies[i] = (struct body){ .x = i * 1.7 + 0.3, .y = 4.0 - i, .z = i * 0.25 - 0.5,
                                   .vx = 0.1 * i, .vy = 0.2 - 0.05 * i, .vz = 0.01 * i,
                                   .mass = i ? 0.01 * i : 39.0 };
}

static void attract(struct body *a, struct body *b) {
    double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
    double distance2 = dx * dx + dy * dy + dz * dz + 0.01;
    double pull = 0.001 / (distance2 * sqrt(distance2));
    a->vx -= dx * b->mass * pull; a->vy -= dy * b->mass * pull; a->vz -= dz * b->mass * pull;
    b->vx += dx * a->mass * pull; b->vy += dy * a->mass * pull; b->vz += dz * a->mass * pull;
}

static uint32_t run_nbody(void) {
    struct body bodies[BODIES];
    place_bodies(bodies);
    for (int step = 0; step < 5000; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) attract(&bodies[i], &bodies[j]);
        for (int i = 0; i < BODIES; i++) {
            bodies[i].x += 0.001 * bodies[i].vx;
            bodies[i].y += 0.001 * bodies[i].vy;
            bodies[i].z += 0.001 * bodies[i].vz;
        }
    }
    return (uint32_t)(int32_t)(bodies[1].x * 1e6);
}

// --- mandel: a 64 x 64 picture of the Mandelbrot set, compares and branches on doubles

static int escape_time(double cx, double cy) {
    double x = 0, y = 0;
    int i = 0;
    for (; i < 200; i++) {
        double x2 = x * x, y2 = y * y;
        if (x2 + y2 > 4.0) break;
        y = 2 * x * y + cy;
        x = x2 - y2 + cx;
    }
    return i;
}

static uint32_t run_mandel(void) {
    uint32_t total = 0;
    for (int row = 0; row < 64; row++)
        for (int column = 0; column < 64; column++)
            total += escape_time(column * (3.0 / 64) - 2.25, row * (2.5 / 64) - 1.25);
    return total;
}

// --- matmul: 96 x 96 in single precision; the values are small whole numbers, so every order of sums agrees

#define SIZE 96
#define MFLOP (SIZE * SIZE * SIZE * 2e-6)
typedef float matrix[SIZE][SIZE] __attribute__((aligned(16)));
static matrix left, right, product;

static void setup_matrices(void) {
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            left[i][j] = (i * 7 + j) % 13 - 6;
            right[i][j] = (i + j * 5) % 11 - 5;
        }
}

static uint32_t run_matmul(void) {
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) product[i][j] = 0;
    for (int i = 0; i < SIZE; i++)
        for (int k = 0; k < SIZE; k++) {
            float factor = left[i][k];
            for (int j = 0; j < SIZE; j++) {
                product[i][j] += factor * right[k][j];
                COMPILER_BARRIER();
            }
        }
    return (uint32_t)(int32_t)product[3][5];
}

#ifdef __SSE2__
static uint32_t run_matmul4(void) { // four columns at a time
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j += 4) {
            __m128 sum = _mm_setzero_ps();
            for (int k = 0; k < SIZE; k++)
                sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(left[i][k]), _mm_load_ps(&right[k][j])));
            _mm_store_ps(&product[i][j], sum);
        }
    return (uint32_t)(int32_t)product[3][5];
}

static uint32_t run_simdint(void) { // unpack, compare, multiply, add, shuffle
    __m128i sum = _mm_setzero_si128();
    const __m128i zero = _mm_setzero_si128(), factor = _mm_set1_epi16(77);
    for (int pass = 0; pass < 4; pass++)
        for (uint32_t at = 0; at < MIB / 4; at += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(random_bytes + at));
            __m128i positive = _mm_cmpgt_epi8(bytes, zero);
            sum = _mm_add_epi16(sum, _mm_mullo_epi16(_mm_unpacklo_epi8(bytes, positive), factor));
            sum = _mm_xor_si128(sum, _mm_shuffle_epi32(bytes, 0x1B));
        }
    uint32_t words[4];
    _mm_storeu_si128((__m128i *)words, sum);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}
#endif

static const struct test tests[] = {
    { "nbody", run_nbody, NULL, 5, "kstep/s" },
    { "mandel", run_mandel, NULL, 1, "frames/s" },
    { "matmul", run_matmul, setup_matrices, MFLOP, "Mflop/s" },
#ifdef __SSE2__
    { "matmul4", run_matmul4, setup_matrices, MFLOP, "Mflop/s" },
    { "simdint", run_simdint, setup_random_bytes, 1.048576, "MB/s" },
#endif
};
const struct group float_group = { "fp", tests, LENGTH(tests) };
