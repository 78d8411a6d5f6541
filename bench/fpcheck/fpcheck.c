// Floating-point arithmetic checked against itself and printed bit by bit.
//
// The same binary prints the same bytes on every processor that follows IEEE 754 and, for the x87, Intel's manual: run it
// on a host and in a guest and compare. Three parts: what arithmetic in plain C does (the radix, the digits, gradual
// underflow, rounding, conversions; in x87 registers or in SSE's, as compiled), every x87 instruction that is exactly
// defined, under each precision and rounding control and with exceptions masked and unmasked, and SSE2 under each rounding
// mode with flags. Transcendental instructions are left out, for their last bit is the processor's own affair.
//
//   gcc -O2 -static -m32 -march=i686 -mfpmath=387 -o fpcheck-i686 fpcheck.c
//   gcc -O2 -static -m64 -o fpcheck-x64 fpcheck.c
//
// A line is `what case value`, where a value is bits in hexadecimal or a digest (FNV-1a) of many of them. A check that
// fails says BAD; the exit status is the number of those.
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LENGTH(array) (sizeof(array) / sizeof *(array))

// --- output

static char line[256];
static size_t used;
static int failures;

static void text(const char *s) {
    while (*s && used < sizeof line - 1) line[used++] = *s++;
}

static void hex(uint64_t value, int digits) {
    while (digits--) {
        char digit[2] = { "0123456789abcdef"[value >> (4 * digits) & 15], 0 };
        text(digit);
    }
}

static void end_line(void) {
    line[used++] = '\n';
    size_t done = 0;
    while (done < used) {
        ssize_t n = write(1, line + done, used - done);
        if (n <= 0) _exit(255);
        done += (size_t)n;
    }
    used = 0;
}

static void show(const char *what, uint64_t value, int digits) {
    text(what);
    text(" ");
    hex(value, digits);
    end_line();
}

static void check(const char *what, int holds) {
    text(what);
    text(holds ? " ok" : " BAD");
    end_line();
    failures += !holds;
}

// --- digests and random numbers

static uint64_t digest;

static void begin(void) { digest = 0xcbf29ce484222325u; }

static void add_bits(uint64_t value) {
    for (int i = 0; i < 8; i++) digest = (digest ^ (value >> (8 * i) & 255)) * 0x100000001b3u;
}

static uint64_t random_state;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// --- plain C

// The arithmetic under test goes through memory, so that each result is rounded to its type.
static volatile double v1, v2, v3;
static volatile float f1, f2;

static void radix_and_digits(void) {
    double grown = 1;
    do { grown = grown + grown; v1 = grown + 1; v2 = v1 - grown; } while (v2 == 1);
    double step = 1;
    do { step = step + step; v1 = grown + step; v2 = v1 - grown; } while (v2 == 0);
    check("radix is 2", v2 == 2);
    int digits = 0;
    v1 = 1;
    do { digits++; v1 = v1 * 2; v2 = v1 + 1; v3 = v2 - v1; } while (v3 == 1);
    show("digits", (uint64_t)digits, 2);
    double epsilon = 1;
    do { epsilon = epsilon / 2; v1 = 1 + epsilon / 2; } while (v1 != 1);
    show("epsilon", bits_of(epsilon), 16);
    v1 = 1 - epsilon / 2;
    show("below one", bits_of(v1), 16);
    check("guard digit in subtraction", (v2 = 1 - v1, v2 == epsilon / 2));
    v1 = 9; v2 = v1 / 27; v3 = v2 * 3;
    check("9 / 27 * 3 is 1", v3 == 1);
}

static void gradual_underflow(void) {
    v1 = 1;
    double least = 1;
    int halvings = 0;
    do { least = v1; v1 = v1 / 2; halvings++; } while (v1 != 0);
    show("least", bits_of(least), 16);
    show("halvings", (uint64_t)halvings, 4);
    v1 = double_of(0x0010000000000000); v2 = double_of(0x0010000000000001);
    v3 = v2 - v1;
    check("differing numbers have a difference", v3 != 0 && v1 != v2);
    v1 = least * 3; v2 = v1 / 2;
    show("3 least / 2", bits_of(v2), 16);
    v1 = least * 5; v2 = v1 / 2;
    show("5 least / 2", bits_of(v2), 16);
    v1 = double_of(0x0008000000000001); v2 = v1 * 1.5;
    show("denormal * 1.5", bits_of(v2), 16);
    f1 = float_of(0x00800000); f2 = f1 * 0.75f;
    show("single denormal", bits_of_float(f2), 8);
}

static void overflow_and_specials(void) {
    double top = double_of(0x7fefffffffffffff);
    v1 = top; v2 = v1 * 2;
    show("top * 2", bits_of(v2), 16);
    v3 = v2 - v2;
    show("inf - inf", bits_of(v3), 16);
    check("NaN differs from itself", !(v3 == v3) && v3 != v3 && !(v3 < 0) && !(v3 > 0));
    v1 = 0; v2 = -v1; v3 = 1 / v2;
    show("1 / -0", bits_of(v3), 16);
    v3 = v1 / v2;
    show("0 / -0", bits_of(v3), 16);
    v1 = double_of(0xfff4000000000123); v2 = v1 + 1;
    show("signalling NaN + 1", bits_of(v2), 16);
    v1 = double_of(0x7ff8000000000005); v2 = double_of(0xfff8000000000003); v3 = v1 + v2;
    show("NaN + NaN", bits_of(v3), 16);
}

static void random_arithmetic(void) {
    random_state = 88172645463325252u;
    begin();
    for (int i = 0; i < 20000; i++) {
        v1 = double_of(next_random()); v2 = double_of(next_random());
        v3 = v1 + v2; add_bits(bits_of(v3));
        v3 = v1 * v2; add_bits(bits_of(v3));
        v3 = v1 / v2; add_bits(bits_of(v3));
        v3 = v1 - v2; add_bits(bits_of(v3));
        add_bits((uint64_t)((v1 < v2) | (v1 <= v2) << 1 | (v1 == v2) << 2));
    }
    show("double arithmetic", digest, 16);
    begin();
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = next_random();
        f1 = float_of((uint32_t)bits); f2 = float_of((uint32_t)(bits >> 32));
        volatile float sum = f1 + f2, product = f1 * f2, quotient = f1 / f2;
        add_bits(bits_of_float(sum)); add_bits(bits_of_float(product)); add_bits(bits_of_float(quotient));
        v1 = f1; add_bits(bits_of(v1));
    }
    show("single arithmetic", digest, 16);
}

static void conversions(void) {
    random_state = 1234567890123456789u;
    begin();
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = next_random();
        // An exponent that leaves the values within reach of integers and of single precision.
        v1 = double_of((bits & 0x800fffffffffffff) | (1023 - 30 + (bits >> 52 & 63)) << 52);
        f1 = (float)v1; add_bits(bits_of_float(f1));
        if (v1 > -2147483648.0 && v1 < 2147483647.0) add_bits((uint64_t)(int64_t)(int32_t)v1);
        add_bits((uint64_t)(int64_t)v1);
        v2 = (double)(int64_t)bits; add_bits(bits_of(v2));
        v2 = (double)(int32_t)bits; add_bits(bits_of(v2));
        f1 = (float)(int64_t)bits; add_bits(bits_of_float(f1));
        f1 = (float)(uint32_t)bits; add_bits(bits_of_float(f1));
    }
    show("conversions", digest, 16);
}

// The instruction itself: the C library's function is not part of this.
static double root(double x) {
#ifdef __SSE2_MATH__
    __asm__("sqrtsd %0, %0" : "+x"(x));
#else
    __asm__("fsqrt" : "+t"(x));
#endif
    return x;
}

static void square_roots(void) {
    int exact = 1;
    for (int i = 1; i <= 3000; i++) {
        v1 = (double)i * i; v2 = root(v1);
        exact &= v2 == i;
    }
    check("roots of squares are exact", exact);
    begin();
    random_state = 42;
    for (int i = 0; i < 20000; i++) {
        v1 = double_of(next_random() & ~(1ull << 63));
        v2 = root(v1);
        add_bits(bits_of(v2));
    }
    show("square roots", digest, 16);
}

// --- x87

// The memory form of the 80-bit format, and what an instruction left behind.
struct extended { uint64_t significand; uint16_t sign_exponent; } __attribute__((packed));

struct after { struct extended st0, st1; uint16_t status; uint32_t tags; };

#define STATUS_BITS 0xc7ff // without TOP

static const char *const precision_names[] = { "24", "res", "53", "64" };
static const char *const rounding_names[] = { "near", "down", "up", "zero" };

// Loads b, then a (so that a is ST(0)), runs `insn`, and takes both registers out again. FNSTENV masks everything, so
// that an unmasked exception shows in the status word and goes no further.
#define X87(name, insn)                                                                                       \
    static void name(const struct extended *a, const struct extended *b, uint16_t control, struct after *r) { \
        uint32_t environment[7];                                                                              \
        struct extended filler = { 1ull << 63, 0x3fff };                                                      \
        __asm__ volatile("fninit\n\tfldcw %[cw]\n\tfldt %[z]\n\tfldt %[z]\n\tfldt %[b]\n\tfldt %[a]\n\t" insn \
                         "\n\tfnstenv %[e]\n\tfstpt %[s0]\n\tfstpt %[s1]\n\tfninit"                           \
                         : [e] "=m"(environment), [s0] "=m"(r->st0), [s1] "=m"(r->st1)                        \
                         : [a] "m"(*a), [b] "m"(*b), [z] "m"(filler), [cw] "m"(control)                       \
                         : "cc", "memory");                                                                   \
        r->status = (uint16_t)environment[1];                                                                 \
        r->tags = environment[2] & 0xffff;                                                                    \
    }

X87(do_add, "fadd %%st(1), %%st")
X87(do_addp, "faddp %%st, %%st(1)")
X87(do_sub, "fsub %%st(1), %%st")
X87(do_subr, "fsubr %%st(1), %%st")
X87(do_mul, "fmul %%st(1), %%st")
X87(do_div, "fdiv %%st(1), %%st")
X87(do_divr, "fdivr %%st(1), %%st")
X87(do_sqrt, "fsqrt")
X87(do_rndint, "frndint")
X87(do_scale, "fscale")
X87(do_prem, "fprem")
X87(do_prem1, "fprem1")
X87(do_xtract, "fxtract")
X87(do_com, "fcom %%st(1)")
X87(do_ucom, "fucom %%st(1)")
X87(do_tst, "ftst")
X87(do_xam, "fxam")
X87(do_abs, "fabs")
X87(do_chs, "fchs")
X87(do_xch, "fxch")
X87(do_fldpi, "fstp %%st(0)\n\tfldpi")
X87(do_fldl2t, "fstp %%st(0)\n\tfldl2t")
X87(do_fldl2e, "fstp %%st(0)\n\tfldl2e")
X87(do_fldlg2, "fstp %%st(0)\n\tfldlg2")
X87(do_fldln2, "fstp %%st(0)\n\tfldln2")

typedef void operation(const struct extended *, const struct extended *, uint16_t, struct after *);

static const struct { const char *name; operation *run; } operations[] = {
    { "add", do_add }, { "addp", do_addp }, { "sub", do_sub }, { "subr", do_subr }, { "mul", do_mul },
    { "div", do_div }, { "divr", do_divr }, { "sqrt", do_sqrt }, { "rndint", do_rndint }, { "scale", do_scale },
    { "prem", do_prem }, { "prem1", do_prem1 }, { "xtract", do_xtract }, { "com", do_com }, { "ucom", do_ucom },
    { "tst", do_tst }, { "xam", do_xam }, { "abs", do_abs }, { "chs", do_chs }, { "xch", do_xch },
    { "ldpi", do_fldpi }, { "ldl2t", do_fldl2t }, { "ldl2e", do_fldl2e }, { "ldlg2", do_fldlg2 }, { "ldln2", do_fldln2 },
};

// Every class of encoding, among them those that only the 8087 knew what to do with.
static const struct extended specials[] = {
    { 0, 0 }, { 0, 0x8000 }, { 1, 0 }, { (1ull << 63) - 1, 0x8000 }, { 1ull << 63, 0 }, { ~0ull, 0 }, { 1ull << 63, 1 },
    { ~0ull, 0x8001 }, { 1ull << 63, 0x3fff }, { ~0ull, 0x3ffe }, { 0xc000000000000001, 0xbfff }, { 3ull << 62, 0x4000 },
    { 1ull << 63, 0x403e }, { ~0ull, 0x403d }, { ~0ull, 0x7ffe }, { 1ull << 63, 0xfffe }, { 1ull << 63, 0x7fff },
    { 1ull << 63, 0xffff }, { (1ull << 63) + 5, 0x7fff }, { 3ull << 62, 0xffff }, { ~0ull, 0x7fff }, { 0, 0x7fff },
    { 7, 0x3fff }, { 1ull << 62, 0x7fff },
};

static struct extended random_extended(void) {
    uint64_t r = next_random();
    struct extended x = { next_random() | 1ull << 63, (uint16_t)(r & 0x8000) };
    if (r >> 20 & 1) x.significand &= ~0ull << (r >> 32 & 63);
    x.sign_exponent |= r >> 16 & 1 ? 0x3fff - 70 + (uint16_t)(r >> 48) % 140 : (uint16_t)(r >> 48) % 0x7fff;
    if ((x.sign_exponent & 0x7fff) == 0) x.sign_exponent++;
    return x;
}

static void add_after(const struct after *r) {
    add_bits(r->st0.significand);
    add_bits(r->st0.sign_exponent);
    add_bits(r->st1.significand);
    add_bits(r->st1.sign_exponent);
    add_bits((uint64_t)(r->status & STATUS_BITS) | (uint64_t)(r->status >> 11 & 7) << 16 | (uint64_t)r->tags << 32);
}

static void x87_digest(operation *run, uint16_t control) {
    struct after r;
    begin();
    for (size_t i = 0; i < LENGTH(specials); i++)
        for (size_t j = 0; j < LENGTH(specials); j++) {
            memset(&r, 0, sizeof r);
            run(&specials[i], &specials[j], control, &r);
            add_after(&r);
        }
    random_state = 0x9e3779b97f4a7c15;
    for (int i = 0; i < 1000; i++) {
        struct extended a = random_extended(), b = random_extended();
        memset(&r, 0, sizeof r);
        run(&a, &b, control, &r);
        add_after(&r);
    }
}

// One operation in every precision and rounding, masked, and then with every exception unmasked.
static void x87_operations(void) {
    for (size_t n = 0; n < LENGTH(operations); n++)
        for (int p = 0; p < 4; p++)
            for (int rc = 0; rc < 4; rc++) {
                text("x87 ");
                text(operations[n].name);
                text(" ");
                text(precision_names[p]);
                text(" ");
                text(rounding_names[rc]);
                x87_digest(operations[n].run, (uint16_t)(0x7f | p << 8 | rc << 10));
                text(" ");
                hex(digest, 16);
                // FSCALE by zero of a denormal under unmasked underflow is where AMD's and Intel's processors part.
                if (operations[n].run != do_scale) {
                    x87_digest(operations[n].run, (uint16_t)(0x40 | p << 8 | rc << 10));
                    text(" ");
                    hex(digest, 16);
                }
                end_line();
            }
}

// Stores `a` with `insn` under `control`: what memory holds, and the status.
#define STORE(name, type, insn)                                                                    \
    static void name(const struct extended *a, uint16_t control) {                                 \
        type out;                                                                                  \
        uint32_t environment[7];                                                                   \
        memset(&out, 0x5a, sizeof out);                                                            \
        __asm__ volatile("fninit\n\tfldcw %[cw]\n\tfldt %[a]\n\t" insn "\n\tfnstenv %[e]\n\tfninit" \
                         : [o] "+m"(out), [e] "=m"(environment)                                    \
                         : [a] "m"(*a), [cw] "m"(control)                                          \
                         : "memory");                                                              \
        unsigned char bytes[16] = { 0 };                                                           \
        memcpy(bytes, &out, sizeof out);                                                           \
        uint64_t halves[2];                                                                        \
        memcpy(halves, bytes, sizeof halves);                                                      \
        add_bits(halves[0]);                                                                       \
        add_bits(halves[1]);                                                                       \
        add_bits(environment[1] & 0xffff);                                                         \
    }

STORE(do_fst32, float, "fsts %[o]")
STORE(do_fstp64, double, "fstpl %[o]")
STORE(do_fstp80, struct extended, "fstpt %[o]")
STORE(do_fist16, int16_t, "fists %[o]")
STORE(do_fistp32, int32_t, "fistpl %[o]")
STORE(do_fistp64, int64_t, "fistpll %[o]")
STORE(do_fbstp, struct extended, "fbstp %[o]")

static const struct { const char *name; void (*run)(const struct extended *, uint16_t); } stores[] = {
    { "fst32", do_fst32 }, { "fstp64", do_fstp64 }, { "fstp80", do_fstp80 }, { "fist16", do_fist16 },
    { "fistp32", do_fistp32 }, { "fistp64", do_fistp64 }, { "fbstp", do_fbstp },
};

// Numbers near the limits of what is stored: half-way cases, the least and the greatest.
static struct extended near_limit(void) {
    static const uint16_t exponents[] = { 0x3f6a, 0x3f80, 0x3f81, 0x407e, 0x3bcd, 0x3c00, 0x3c01, 0x43fe, 0x3ffe, 0x3fff,
                                          0x400d, 0x400e, 0x401d, 0x401e, 0x403a, 0x403d, 0x403e };
    uint64_t r = next_random();
    struct extended x = random_extended();
    x.sign_exponent = (uint16_t)(exponents[(r & 0xffff) % LENGTH(exponents)] + (r >> 16 & 1) - (r >> 17 & 1)) | (r >> 18 & 1) << 15;
    if (r >> 20 & 1) x.significand = ~0ull << (r >> 32 & 63);
    if (r >> 21 & 1) x.significand = 1ull << 63 | 1ull << (r >> 40 & 63) | 1ull << (r >> 48 & 63);
    return x;
}

static void x87_stores(void) {
    for (size_t n = 0; n < LENGTH(stores); n++)
        for (int rc = 0; rc < 4; rc++) {
            text("x87 ");
            text(stores[n].name);
            text(" ");
            text(rounding_names[rc]);
            for (int masks = 0x7f; masks >= 0x40; masks -= 0x3f) {
                begin();
                for (size_t i = 0; i < LENGTH(specials); i++) stores[n].run(&specials[i], (uint16_t)(0x300 | masks | rc << 10));
                random_state = 271828182845904523u;
                for (int i = 0; i < 2000; i++) {
                    struct extended a = near_limit();
                    stores[n].run(&a, (uint16_t)(0x300 | masks | rc << 10));
                }
                text(" ");
                hex(digest, 16);
            }
            end_line();
        }
}

// Packed decimals there and back.
static void x87_decimal(void) {
    int same = 1;
    random_state = 99;
    for (int i = 0; i < 2000; i++) {
        struct extended in, out;
        uint64_t r = next_random();
        in.significand = 0;
        for (int d = 0; d < 16; d++) in.significand = in.significand << 4 | (r = next_random()) % 10;
        in.sign_exponent = (uint16_t)(r >> 20 & 0x8000) | (uint16_t)(((r >> 8) % 10) << 4 | (r >> 12) % 10);
        __asm__ volatile("fninit\n\tfbld %1\n\tfbstp %0" : "=m"(out) : "m"(in));
        same &= in.significand == out.significand && in.sign_exponent == out.sign_exponent;
    }
    check("packed decimals survive", same);
}

// Flags stay until they are cleared, and the stack tells overflow from underflow in C1.
static void x87_sticky(void) {
    uint16_t status, tag_and_more[14];
    __asm__ volatile("fninit\n\tfld1\n\tfldz\n\tfdivrp\n\tfldpi\n\tfld1\n\tfaddp\n\tfld1\n\tfld1\n\tfaddp\n\tfnstsw %0\n\tfninit"
                     : "=m"(status));
    show("sticky", status, 4);
    __asm__ volatile("fninit\n\tfadd %%st(1), %%st\n\tfnstsw %0\n\tfninit" : "=m"(status));
    show("stack underflow", status, 4);
    __asm__ volatile("fninit\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfld1\n\tfnstsw %0\n\tfninit"
                     : "=m"(status));
    show("stack overflow", status, 4);
    __asm__ volatile("fninit\n\tfldz\n\tfld1\n\tffree %%st(1)\n\tfincstp\n\tfincstp\n\tfdecstp\n\tfnstenv %0\n\tfninit"
                     : "=m"(tag_and_more));
    show("tags", tag_and_more[4], 4);
    show("top", tag_and_more[2], 4);
}

// --- SSE2

#ifdef __SSE2__
static const double sse_specials[] = { 0.0, -0.0, 1.0, -1.5, 0x1p-1022, 0x1.fffffffffffffp-1023, -0x1p-1074, 0x1.fffffffffffffp1023,
                                       0x1p52, 2147483648.5, -2147483648.5, 0.5, 1.0 / 3 };

static void sse_pair(double a, double b) {
    __m128d x = _mm_set_pd(b, a), y = _mm_set_pd(a, b), r[6];
    __asm__ volatile("" : "+x"(x), "+x"(y));
    r[0] = _mm_add_pd(x, y); r[1] = _mm_sub_pd(x, y); r[2] = _mm_mul_pd(x, y);
    r[3] = _mm_div_pd(x, y); r[4] = _mm_min_pd(x, y); r[5] = _mm_sqrt_pd(x);
    for (int i = 0; i < 6; i++) {
        double out[2];
        _mm_storeu_pd(out, r[i]);
        add_bits(bits_of(out[0]));
        add_bits(bits_of(out[1]));
    }
    add_bits((uint64_t)(uint32_t)_mm_cvtsd_si32(x) | (uint64_t)(uint32_t)_mm_cvttsd_si32(y) << 32);
    float single[4];
    _mm_storeu_ps(single, _mm_cvtpd_ps(x));
    add_bits(bits_of_float(single[0]));
    uint32_t csr;
    __asm__ volatile("stmxcsr %0" : "=m"(csr) : : "memory");
    add_bits(csr);
    csr &= ~0x3fu;
    __asm__ volatile("ldmxcsr %0" : : "m"(csr) : "memory");
}

static void sse_digest(uint32_t csr) {
    static const uint32_t usual = 0x1f80;
    const double nan = double_of(0x7ff4000000000001), quiet = double_of(0xfff8000000000007), inf = double_of(0x7ff0000000000000);
    begin();
    __asm__ volatile("ldmxcsr %0" : : "m"(csr) : "memory");
    for (size_t i = 0; i < LENGTH(sse_specials); i++) {
        for (size_t j = 0; j < LENGTH(sse_specials); j++) sse_pair(sse_specials[i], sse_specials[j]);
        sse_pair(sse_specials[i], nan);
        sse_pair(quiet, sse_specials[i]);
        sse_pair(inf, sse_specials[i]);
    }
    sse_pair(nan, quiet);
    sse_pair(quiet, nan);
    random_state = 31415926535897932u;
    for (int i = 0; i < 3000; i++) {
        double a = double_of(next_random()), b = double_of(next_random());
        sse_pair(a, b);
    }
    __asm__ volatile("ldmxcsr %0" : : "m"(usual) : "memory");
}

static void sse_operations(void) {
    static const struct { const char *name; uint32_t bits; } modes[] = { { "", 0 }, { " ftz", 0x8000 }, { " daz", 0x40 }, { " both", 0x8040 } };
    for (size_t m = 0; m < LENGTH(modes); m++)
        for (uint32_t rc = 0; rc < 4; rc++) {
            sse_digest(0x1f80 | rc << 13 | modes[m].bits);
            text("sse2 ");
            text(rounding_names[rc]);
            text(modes[m].name);
            text(" ");
            hex(digest, 16);
            end_line();
        }
}
#else
static void sse_operations(void) {}
#endif

int main(void) {
    radix_and_digits();
    gradual_underflow();
    overflow_and_specials();
    random_arithmetic();
    conversions();
    square_roots();
    x87_operations();
    x87_stores();
    x87_decimal();
    x87_sticky();
    sse_operations();
    show("failures", (uint64_t)failures, 4);
    return failures < 255 ? failures : 255;
}
