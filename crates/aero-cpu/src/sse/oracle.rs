//! Every operation against the host's own processor: random and special operands, all rounding modes, DAZ and
//! FTZ.

#![allow(unsafe_code, reason = "inline assembly runs the instruction under test on the host")]

use super::convert::{PairToIntegers, QuadToIntegers, ScalarFromInteger, ScalarToInteger};
use super::float::{Double, Env, Single, lane};
use super::{Narrow, Operation, Wide, arith, convert, integer};
use crate::op::random::Generator;
use core::arch::asm;

/// Runs an instruction on the host: `a` is XMM0 and takes the result, `b` is XMM1; MXCSR in and out.
type Host = fn(&mut [u64; 2], &[u64; 2], u32) -> u32;

macro_rules! host {
    ($($text:expr),*) => {{
        fn run(a: &mut [u64; 2], b: &[u64; 2], control: u32) -> u32 {
            let (mut status, default) = (control, 0x1f80_u32);
            // SAFETY: reads and writes the named variables, and puts MXCSR and the x87 tags back.
            unsafe {
                asm!(
                    "movups xmm0, [{a}]",
                    "movups xmm1, [{b}]",
                    "ldmxcsr [{status}]",
                    $($text,)*
                    "stmxcsr [{status}]",
                    "ldmxcsr [{default}]",
                    "movups [{a}], xmm0",
                    a = in(reg) a,
                    b = in(reg) b,
                    status = in(reg) &mut status,
                    default = in(reg) &default,
                    out("rax") _, out("xmm0") _, out("xmm1") _, out("mm0") _, out("mm1") _,
                );
            }
            status
        }
        run as Host
    }};
}

/// The same for an MMX instruction: `a` is MM0 and `b` MM1.
macro_rules! host_mmx {
    ($text:expr) => {
        host!("movdq2q mm0, xmm0", "movdq2q mm1, xmm1", $text, "movq2dq xmm0, mm0", "emms")
    };
}

/// Random numbers, the same in every run, so that failures repeat.
struct Random(Generator);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() >> 33) as usize % of.len()]
    }
}

const SINGLES: [u32; 34] = [
    0,
    1,
    2,
    3,
    0x0040_0000,
    0x007f_ffff,
    0x0080_0000,
    0x0080_0001,
    0x0100_0000,
    0x3f80_0000,
    0x3f80_0001,
    0x3f7f_ffff,
    0x3f00_0000,
    0x3fc0_0000,
    0x4020_0000,
    0x4b00_0000,
    0x4b80_0001,
    0x4eff_ffff,
    0x4f00_0000,
    0x4f00_0001,
    0x5eff_ffff,
    0x5f00_0000,
    0x7f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7f80_0001,
    0x7fbf_ffff,
    0x7fc0_0000,
    0x7fff_ffff,
    0x1f80_0000,
    0x2000_0000,
    0x5f7f_ffff,
    0x0d00_0000,
    0x33ff_ffff,
];

const DOUBLES: [u64; 38] = [
    0,
    1,
    2,
    3,
    0x0008_0000_0000_0000,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x0010_0000_0000_0001,
    0x0020_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0x3ff0_0000_0000_0001,
    0x3fef_ffff_ffff_ffff,
    0x3fe0_0000_0000_0000,
    0x3ff8_0000_0000_0000,
    0x4004_0000_0000_0000,
    0x41df_ffff_ffc0_0000,
    0x41df_ffff_ffe0_0000,
    0x41df_ffff_ffdf_ffff,
    0x41e0_0000_0000_0000,
    0x41e0_0000_0010_0000,
    0x43df_ffff_ffff_ffff,
    0x43e0_0000_0000_0000,
    0x43e0_0000_0000_0001,
    0x4340_0000_0000_0001,
    0x7fe0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7ff7_ffff_ffff_ffff,
    0x7ff8_0000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x47ef_ffff_efff_ffff,
    0x47ef_ffff_f000_0000,
    0x3810_0000_0000_0000,
    0x380f_ffff_ffff_ffff,
    0x36a0_0000_0000_0000,
    0x3690_0000_0000_0000,
    0x7ff0_0000_2000_0000,
];

fn single(r: &mut Random) -> u64 {
    let bits = r.next() >> 32;
    let value = match r.next() >> 61 {
        0..=2 => u64::from(r.pick(&SINGLES)) | bits & 0x8000_0000,
        3 => u64::from(((bits as i32) >> r.pick(&[8, 16, 24, 29])) as f32 as u32),
        4 => u64::from((((bits as i32) >> r.pick(&[8, 16, 24, 29])) as f32).to_bits()),
        5 => bits & 0x807f_ffff,
        6 => bits & 0x807f_ffff | 0x3f00_0000 | bits & 0x0180_0000,
        _ => bits,
    };
    value & 0xffff_ffff
}

fn double(r: &mut Random) -> u64 {
    let bits = r.next();
    match r.next() >> 61 {
        0..=2 => r.pick(&DOUBLES) | bits & 1 << 63,
        3 => ((bits as i64 >> r.pick(&[1, 8, 31, 40, 60])) as f64 / 4.0).to_bits(),
        4 => f64::from(f32::from_bits(single(r) as u32)).to_bits() ^ r.pick(&[0, 1, 1 << 28, 1 << 29]),
        5 => bits & 0x800f_ffff_ffff_ffff,
        6 => bits & 0x803f_ffff_ffff_ffff | 0x3fc0_0000_0000_0000,
        _ => bits,
    }
}

fn register(r: &mut Random, doubles: bool) -> [u64; 2] {
    if doubles { [double(r), double(r)] } else { [0; 2].map(|_| single(r) | single(r) << 32) }
}

fn pair(r: &mut Random, doubles: bool) -> ([u64; 2], [u64; 2]) {
    let a = register(r, doubles);
    match r.next() >> 62 {
        // Nearly the same: cancellation.
        0 => (a, [a[0] ^ r.next() >> 62, a[1] ^ r.next() >> 33 << 32]),
        _ => (a, register(r, doubles)),
    }
}

fn control(r: &mut Random) -> u32 {
    let modes = [0, 0, 1 << 13, 2 << 13, 3 << 13];
    let flush = [0, 0, 1 << 6, 1 << 15, 1 << 6 | 1 << 15];
    0x1f80 | r.pick(&modes) | r.pick(&flush) | r.pick(&[0, 0x20, 0x3f])
}

fn compare<O: Operation>(name: &str, host: Host, imm: u8, doubles: bool, times: u32) {
    let mut r = Random(Generator::new(0x9e37_79b9_7f4a_7c15));
    for _ in 0..times {
        let (a, b) = pair(&mut r, doubles);
        let before = control(&mut r);
        let mut want = a;
        let want_status = host(&mut want, &b, before);
        let mut env = Env::new(before);
        let got = O::apply(&mut env, a, b, imm);
        assert_eq!(
            (got.map(Hex), Hex((before | env.flags).into())),
            (want.map(Hex), Hex(want_status.into())),
            "{name} imm {imm:#x} mxcsr {before:#x} a {:016x?} b {:016x?}",
            a,
            b
        );
    }
}

#[derive(PartialEq, Eq)]
struct Hex(u64);

impl core::fmt::Debug for Hex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

const TIMES: u32 = 30_000;

macro_rules! float_operations {
    ($($name:ident $text:literal $doubles:expr;)*) => {$(
        compare::<arith::$name>($text, host!(concat!($text, " xmm0, xmm1")), 0, $doubles, TIMES);
    )*};
}

#[test]
fn arithmetic_matches_the_host() {
    float_operations! {
        Addps "addps" false; Addss "addss" false; Addpd "addpd" true; Addsd "addsd" true;
        Subps "subps" false; Subss "subss" false; Subpd "subpd" true; Subsd "subsd" true;
        Mulps "mulps" false; Mulss "mulss" false; Mulpd "mulpd" true; Mulsd "mulsd" true;
        Divps "divps" false; Divss "divss" false; Divpd "divpd" true; Divsd "divsd" true;
        Minps "minps" false; Minss "minss" false; Minpd "minpd" true; Minsd "minsd" true;
        Maxps "maxps" false; Maxss "maxss" false; Maxpd "maxpd" true; Maxsd "maxsd" true;
        Sqrtps "sqrtps" false; Sqrtss "sqrtss" false; Sqrtpd "sqrtpd" true; Sqrtsd "sqrtsd" true;
        Addsubps "addsubps" false; Addsubpd "addsubpd" true;
        Haddps "haddps" false; Haddpd "haddpd" true; Hsubps "hsubps" false; Hsubpd "hsubpd" true;
    }
}

macro_rules! predicates {
    ($name:ident $text:literal $doubles:expr; $($imm:literal)*) => {$(
        let host = host!(concat!($text, " xmm0, xmm1, ", $imm));
        compare::<arith::$name>($text, host, $imm, $doubles, TIMES / 4);
    )*};
}

#[test]
fn predicates_match_the_host() {
    predicates!(Cmpps "cmpps" false; 0 1 2 3 4 5 6 7);
    predicates!(Cmpss "cmpss" false; 0 1 2 3 4 5 6 7);
    predicates!(Cmppd "cmppd" true; 0 1 2 3 4 5 6 7);
    predicates!(Cmpsd "cmpsd" true; 0 1 2 3 4 5 6 7);
}

macro_rules! comparisons {
    ($($name:ident $text:literal $doubles:expr;)*) => {$(
        let host = host!(
            concat!($text, " xmm0, xmm1"),
            "pushfq", "pop rax", "and eax, 0x8d5", "movq xmm0, rax"
        );
        compare::<arith::$name>($text, host, 0, $doubles, TIMES);
    )*};
}

#[test]
fn comparisons_match_the_host() {
    comparisons! {
        Comiss "comiss" false; Ucomiss "ucomiss" false; Comisd "comisd" true; Ucomisd "ucomisd" true;
    }
}

macro_rules! conversions {
    ($($name:ty, $doubles:expr, $($text:expr),+;)*) => {$(
        compare::<$name>(concat!($($text, "; "),+), host!($($text),+), 0, $doubles, TIMES);
    )*};
}

#[test]
fn conversions_match_the_host() {
    conversions! {
        convert::Cvtdq2ps, false, "cvtdq2ps xmm0, xmm1";
        convert::Cvtdq2pd, false, "cvtdq2pd xmm0, xmm1";
        convert::Cvtps2pd, false, "cvtps2pd xmm0, xmm1";
        convert::Cvtpd2ps, true, "cvtpd2ps xmm0, xmm1";
        convert::Cvtss2sd, false, "cvtss2sd xmm0, xmm1";
        convert::Cvtsd2ss, true, "cvtsd2ss xmm0, xmm1";
        QuadToIntegers<false>, false, "cvtps2dq xmm0, xmm1";
        QuadToIntegers<true>, false, "cvttps2dq xmm0, xmm1";
        PairToIntegers<Double, false>, true, "cvtpd2dq xmm0, xmm1";
        PairToIntegers<Double, true>, true, "cvttpd2dq xmm0, xmm1";
        PairToIntegers<Double, false>, true, "cvtpd2pi mm0, xmm1", "movq2dq xmm0, mm0", "emms";
        PairToIntegers<Double, true>, true, "cvttpd2pi mm0, xmm1", "movq2dq xmm0, mm0", "emms";
        PairToIntegers<Single, false>, false, "cvtps2pi mm0, xmm1", "movq2dq xmm0, mm0", "emms";
        PairToIntegers<Single, true>, false, "cvttps2pi mm0, xmm1", "movq2dq xmm0, mm0", "emms";
        convert::Cvtpi2ps, false, "movdq2q mm1, xmm1", "cvtpi2ps xmm0, mm1", "emms";
        convert::Cvtdq2pd, false, "movdq2q mm1, xmm1", "cvtpi2pd xmm0, mm1", "emms";
        ScalarFromInteger<Single, 32>, false, "movq rax, xmm1", "cvtsi2ss xmm0, eax";
        ScalarFromInteger<Single, 64>, true, "movq rax, xmm1", "cvtsi2ss xmm0, rax";
        ScalarFromInteger<Double, 32>, false, "movq rax, xmm1", "cvtsi2sd xmm0, eax";
        ScalarFromInteger<Double, 64>, true, "movq rax, xmm1", "cvtsi2sd xmm0, rax";
        ScalarToInteger<Single, 64, false>, false, "cvtss2si rax, xmm1", "movq xmm0, rax";
        ScalarToInteger<Single, 64, true>, false, "cvttss2si rax, xmm1", "movq xmm0, rax";
        ScalarToInteger<Double, 64, false>, true, "cvtsd2si rax, xmm1", "movq xmm0, rax";
        ScalarToInteger<Double, 64, true>, true, "cvttsd2si rax, xmm1", "movq xmm0, rax";
        ScalarToInteger<Single, 32, false>, false, "cvtss2si eax, xmm1", "cdqe", "movq xmm0, rax";
        ScalarToInteger<Single, 32, true>, false, "cvttss2si eax, xmm1", "cdqe", "movq xmm0, rax";
        ScalarToInteger<Double, 32, false>, true, "cvtsd2si eax, xmm1", "cdqe", "movq xmm0, rax";
        ScalarToInteger<Double, 32, true>, true, "cvttsd2si eax, xmm1", "cdqe", "movq xmm0, rax";
    }
}

fn near<O: Operation>(name: &str, host: Host) {
    let mut r = Random(Generator::new(77));
    for _ in 0..TIMES {
        let (a, b) = pair(&mut r, false);
        let mut want = a;
        assert_eq!(host(&mut want, &b, 0x1f80), 0x1f80);
        let mut env = Env::new(0x1f80);
        let got = O::apply(&mut env, a, b, 0);
        assert_eq!(env.flags, 0);
        for i in 0..4 {
            let [x, y] = [got, want].map(|v| f32::from_bits(lane::<Single>(v, i) as u32));
            let close = x.to_bits() == y.to_bits() || (x - y).abs() <= y.abs() * (1.5 / 4096.0);
            // Where the result is about to become tiny, processors differ.
            assert!(close || x.abs() < 1.2e-38 && y.abs() < 1.2e-38, "{name} of {b:016x?}: {x:e} but {y:e}");
        }
    }
}

#[test]
fn approximations_are_within_the_bound() {
    near::<arith::Rcpps>("rcpps", host!("rcpps xmm0, xmm1"));
    near::<arith::Rcpss>("rcpss", host!("rcpss xmm0, xmm1"));
    near::<arith::Rsqrtps>("rsqrtps", host!("rsqrtps xmm0, xmm1"));
    near::<arith::Rsqrtss>("rsqrtss", host!("rsqrtss xmm0, xmm1"));
}

/// Compares integer operations; `counts` makes most second operands small.
fn compare_integers<O: Operation>(name: &str, host: Host, imm: u8, counts: bool) {
    let mut r = Random(Generator::new(0x1234_5678_9abc_def1));
    let special = [
        0,
        u64::MAX,
        0x8000_8000_8000_8000,
        0x7fff_7fff_7fff_7fff,
        0x8080_8080_8080_8080,
        0x7fff_ffff_8000_0000,
    ];
    for i in 0..3_000 {
        let mut word = || {
            let random = r.next();
            if random & 3 == 0 { r.pick(&special) } else { random }
        };
        let (a, mut b) = ([word(), word()], [word(), word()]);
        if i & 3 == 0 {
            b[0] = a[0] ^ 0xff << (i & 56);
        }
        if counts && i & 7 != 0 {
            b[0] %= 70;
        }
        let mut want = a;
        assert_eq!(host(&mut want, &b, 0x1f80), 0x1f80);
        let mut env = Env::new(0x1f80);
        let got = O::apply(&mut env, a, b, imm);
        assert_eq!(got.map(Hex), want.map(Hex), "{name} imm {imm:#x} a {a:016x?} b {b:016x?}");
        assert_eq!(env.flags, 0);
    }
}

macro_rules! both {
    ($counts:expr; $($name:ident $text:literal;)*) => {$(
        compare_integers::<Wide<integer::$name>>($text, host!(concat!($text, " xmm0, xmm1")), 0, $counts);
        compare_integers::<Narrow<integer::$name>>($text, host_mmx!(concat!($text, " mm0, mm1")), 0, $counts);
    )*};
}

macro_rules! wide {
    ($($name:ident $text:literal;)*) => {$(
        compare_integers::<Wide<integer::$name>>($text, host!(concat!($text, " xmm0, xmm1")), 0, false);
    )*};
}

// checklist: 19
#[test]
fn packed_integers_match_the_host() {
    both! { false;
        Paddb "paddb"; Paddw "paddw"; Paddd "paddd"; Paddq "paddq"; Paddsb "paddsb"; Paddsw "paddsw";
        Paddusb "paddusb"; Paddusw "paddusw"; Psubb "psubb"; Psubw "psubw"; Psubd "psubd"; Psubq "psubq";
        Psubsb "psubsb"; Psubsw "psubsw"; Psubusb "psubusb"; Psubusw "psubusw"; Pmullw "pmullw";
        Pmulhw "pmulhw";
        Pmulhuw "pmulhuw"; Pmuludq "pmuludq"; Pmaddwd "pmaddwd"; Pavgb "pavgb"; Pavgw "pavgw";
        Pminub "pminub";
        Pmaxub "pmaxub"; Pminsw "pminsw"; Pmaxsw "pmaxsw"; Psadbw "psadbw"; Pcmpeqb "pcmpeqb";
        Pcmpeqw "pcmpeqw";
        Pcmpeqd "pcmpeqd"; Pcmpgtb "pcmpgtb"; Pcmpgtw "pcmpgtw"; Pcmpgtd "pcmpgtd"; Pand "pand";
        Pandn "pandn";
        Por "por"; Pxor "pxor"; Packsswb "packsswb"; Packuswb "packuswb"; Packssdw "packssdw";
        Punpcklbw "punpcklbw"; Punpcklwd "punpcklwd"; Punpckldq "punpckldq"; Punpckhbw "punpckhbw";
        Punpckhwd "punpckhwd"; Punpckhdq "punpckhdq";
        Pshufb "pshufb"; Pabsb "pabsb"; Pabsw "pabsw"; Pabsd "pabsd"; Psignb "psignb"; Psignw "psignw";
        Psignd "psignd"; Phaddw "phaddw"; Phaddsw "phaddsw"; Phsubw "phsubw"; Phsubsw "phsubsw";
        Phaddd "phaddd";
        Phsubd "phsubd"; Pmulhrsw "pmulhrsw"; Pmaddubsw "pmaddubsw";
    }
    wide! {
        Punpcklqdq "punpcklqdq"; Punpckhqdq "punpckhqdq"; Movsldup "movsldup"; Movshdup "movshdup";
        Movddup "movddup"; LowSingle "movss"; LowQuad "movsd"; LowToHigh "movlhps"; HighToLow "movhlps";
        Copy "movdqa"; CopyQuad "movq"; Punpckldq "unpcklps"; Punpckhdq "unpckhps"; Punpcklqdq "unpcklpd";
    }
}

#[test]
fn shifts_by_registers_match_the_host() {
    both! { true;
        Psllw "psllw"; Pslld "pslld"; Psllq "psllq"; Psrlw "psrlw"; Psrld "psrld"; Psrlq "psrlq";
        Psraw "psraw"; Psrad "psrad";
    }
}

macro_rules! immediates {
    ($name:ident $before:literal $text:literal $registers:literal $after:literal; $($imm:literal)*) => {$(
        let host = host!($before, concat!($text, " ", $registers, ", ", $imm), $after);
        compare_integers::<Wide<integer::$name>>($text, host, $imm, false);
    )*};
}

macro_rules! on_mmx {
    ($name:ident $text:literal $registers:literal $after:literal; $($imm:literal)*) => {$(
        let text = concat!($text, " ", $registers, ", ", $imm);
        let host = host!(
            "movdq2q mm0, xmm0", "movdq2q mm1, xmm1",
            concat!($text, " ", $registers, ", ", $imm),
            $after, "emms"
        );
        compare_integers::<Narrow<integer::$name>>(text, host, $imm, false);
    )*};
}

// checklist: 19
#[test]
fn shuffles_match_the_host() {
    immediates!(Pshufd "" "pshufd" "xmm0, xmm1" ""; 0 27 57 78 147 228 255);
    immediates!(Pshuflw "" "pshuflw" "xmm0, xmm1" ""; 0 27 57 78 147 228 255);
    immediates!(Pshufhw "" "pshufhw" "xmm0, xmm1" ""; 0 27 57 78 147 228 255);
    immediates!(Shufps "" "shufps" "xmm0, xmm1" ""; 0 27 57 78 147 228 255);
    immediates!(Shufpd "" "shufpd" "xmm0, xmm1" ""; 0 1 2 3 254);
    immediates!(Palignr "" "palignr" "xmm0, xmm1" ""; 0 1 7 8 15 16 17 31 32 200);
    on_mmx!(Pshufw "pshufw" "mm0, mm1" "movq2dq xmm0, mm0"; 0 27 57 78 147 228 255);
    on_mmx!(Palignr "palignr" "mm0, mm1" "movq2dq xmm0, mm0"; 0 1 7 8 9 15 16 200);
}

#[test]
fn words_and_sign_bits_match_the_host() {
    immediates!(Pextrw "" "pextrw" "eax, xmm1" "movq xmm0, rax"; 0 1 2 3 4 5 6 7 8 255);
    immediates!(Pinsrw "movd eax, xmm1" "pinsrw" "xmm0, eax" ""; 0 1 2 3 4 5 6 7 8 255);
    on_mmx!(Pextrw "pextrw" "eax, mm1" "movq xmm0, rax"; 0 1 2 3 4 255);
    compare_integers::<Wide<integer::Pmovmskb>>(
        "pmovmskb",
        host!("pmovmskb eax, xmm1", "movq xmm0, rax"),
        0,
        false,
    );
    compare_integers::<Wide<integer::Movmskps>>(
        "movmskps",
        host!("movmskps eax, xmm1", "movq xmm0, rax"),
        0,
        false,
    );
    compare_integers::<Wide<integer::Movmskpd>>(
        "movmskpd",
        host!("movmskpd eax, xmm1", "movq xmm0, rax"),
        0,
        false,
    );
    let narrow = host!("movdq2q mm1, xmm1", "pmovmskb eax, mm1", "movq xmm0, rax", "emms");
    compare_integers::<Narrow<integer::Pmovmskb>>("pmovmskb mm", narrow, 0, false);
}

/// The immediate is the source operand of these.
macro_rules! counts {
    ($name:ident $text:literal; $($imm:literal)*) => {$({
        let host = host!(concat!($text, " xmm0, ", $imm));
        let mut r = Random(Generator::new(5));
        for _ in 0..100 {
            let a = [r.next(), r.next()];
            let mut want = a;
            host(&mut want, &[0; 2], 0x1f80);
            let got = Wide::<integer::$name>::apply(&mut Env::new(0x1f80), a, [$imm, 0], $imm);
            assert_eq!(got.map(Hex), want.map(Hex), "{} by {}", $text, $imm);
        }
    })*};
}

#[test]
fn shifts_by_immediates_match_the_host() {
    counts!(Pslldq "pslldq"; 0 1 7 8 9 15 16 17 255);
    counts!(Psrldq "psrldq"; 0 1 7 8 9 15 16 17 255);
    counts!(Psrad "psrad"; 0 1 31 32 255);
    counts!(Psllq "psllq"; 0 1 63 64 255);
}
