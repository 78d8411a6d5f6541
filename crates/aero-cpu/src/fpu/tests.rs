//! Behaviour checked without a host FPU: known values, stack faults, the store protocol, images.

use super::f80::{Precision, Rounding};
use super::*;

const ENV: Env = Env { rounding: Rounding::Nearest, precision: Precision::Extended, masks: 0x3F };
const TWO: F80 = F80::new(0x4000, 1 << 63);
const THREE: F80 = F80::new(0x4000, 0xC000 << 48);

fn fpu_with(values: &[F80]) -> Fpu {
    let mut fpu = Fpu::default();
    for value in values.iter().rev() {
        fpu.push(*value);
    }
    fpu
}

#[test]
fn third_rounds_in_every_direction() {
    let third = |control: u16| f80::div(F80::ONE, THREE, Env::from_control(control));
    let low = F80::new(0x3FFD, 0xAAAA_AAAA_AAAA_AAAA);
    let high = F80::new(0x3FFD, 0xAAAA_AAAA_AAAA_AAAB);
    assert_eq!(third(0x37F), Outcome { value: high, flags: PE | C1 });
    assert_eq!(third(0x77F), Outcome { value: low, flags: PE });
    assert_eq!(third(0xB7F), Outcome { value: high, flags: PE | C1 });
    assert_eq!(third(0xF7F), Outcome { value: low, flags: PE });
}

// checklist: 18
#[test]
fn precision_control_cuts_results() {
    let third = |control: u16| f80::div(F80::ONE, THREE, Env::from_control(control)).value.mantissa;
    assert_eq!(third(0x07F), 0xAAAA_AB00_0000_0000);
    assert_eq!(third(0x27F), 0xAAAA_AAAA_AAAA_A800);
}

#[test]
fn larger_significand_wins_among_nans() {
    let small = F80::new(0x7FFF, 0xC000_0000_0000_0001);
    let large = F80::new(0xFFFF, 0xC000_0000_0000_0002);
    assert_eq!(f80::add(small, large, ENV), Outcome::exact(large));
    let signalling = F80::new(0x7FFF, 0xBFFF_FFFF_FFFF_FFFF);
    assert_eq!(f80::add(signalling, small, ENV), Outcome { value: small, flags: IE });
}

#[test]
fn unsupported_encodings_are_invalid() {
    for bad in [F80::new(0x7FFF, 0), F80::new(0x7FFF, 1), F80::new(0x3FFF, 1)] {
        assert_eq!(f80::mul(bad, F80::ONE, ENV), Outcome::invalid());
    }
}

#[test]
fn unmasked_overflow_adjusts_the_bias() {
    let mut fpu = fpu_with(&[F80::new(0x7FFE, 1 << 63), F80::new(0x7FFE, 1 << 63)]);
    fpu.set_control(0x37F & !OE);
    fpu.arith_st(Arith::Mul, 0, 1, false);
    assert_eq!(fpu.st(0), F80::new((0x7FFE * 2 - 0x3FFF - 24576) as u16, 1 << 63));
    assert_eq!(fpu.status, OE | ES | B);
    assert!(fpu.pending_exception());
}

#[test]
fn unmasked_invalid_leaves_operands_and_stack() {
    let mut fpu = fpu_with(&[F80::INFINITY, F80::INFINITY]);
    fpu.set_control(0x37E);
    let before = fpu;
    fpu.arith_st(Arith::Sub, 1, 0, true);
    assert_eq!((fpu.st, fpu.top, fpu.tags), (before.st, before.top, before.tags));
    assert_eq!(fpu.status, IE | ES | B);
}

#[test]
fn push_onto_a_full_stack_gives_indefinite_and_c1() {
    let mut fpu = fpu_with(&[F80::ONE; 8]);
    fpu.push(TWO);
    assert_eq!(fpu.st(0), F80::INDEFINITE);
    assert_eq!(fpu.status, IE | SF | C1);
    assert_eq!(fpu.top, 7);
}

#[test]
fn operand_from_an_empty_register_is_an_underflow() {
    let mut fpu = fpu_with(&[F80::ONE]);
    fpu.arith_st(Arith::Add, 0, 1, false);
    assert_eq!((fpu.st(0), fpu.status), (F80::INDEFINITE, IE | SF));
}

#[test]
fn store_changes_nothing_before_it_is_finished() {
    let mut fpu = fpu_with(&[THREE]);
    let before = fpu;
    let store = fpu.store_f64();
    assert_eq!(store.bits, Some(3.0f64.to_bits()));
    assert_eq!(fpu, before);
    fpu.finish_store(store.effect, true);
    assert_eq!((fpu.tags, fpu.top), (0, 0));
}

#[test]
fn unmasked_invalid_store_writes_nothing_and_keeps_the_stack() {
    let mut fpu = fpu_with(&[F80::INFINITY]);
    fpu.set_control(0x37E);
    let store = fpu.store_integer(32);
    assert_eq!(store.bits, None);
    fpu.finish_store(store.effect, true);
    assert_eq!((fpu.tags, fpu.status), (0x80, IE | ES | B));
}

#[test]
fn integers_survive_a_round_trip() {
    for value in [0, 1, -1, 32767, -32768, i64::MAX, i64::MIN, 123_456_789_012_345_678] {
        let wide = convert::from_i64(value);
        assert_eq!(convert::to_integer(wide, 64, ENV).bits, Some(value));
    }
}

#[test]
fn doubles_survive_a_round_trip() {
    for value in [0.0, -0.0, 1.5, -2.5e-310, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY] {
        let operand = Operand::from_f64(value.to_bits());
        assert_eq!(operand.denormal, value.is_subnormal());
        assert_eq!(convert::to_f64(operand.value, ENV).bits, Some(value.to_bits()));
    }
    let singles = [0.0f32, 1.5, 1e-40, f32::MAX, f32::NEG_INFINITY];
    for value in singles {
        let operand = Operand::from_f32(value.to_bits());
        assert_eq!(convert::to_f32(operand.value, ENV).bits, Some(value.to_bits()));
    }
}

#[test]
fn packed_decimal_round_trips_and_overflows() {
    let bytes = [0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0, 0, 0x80];
    let value = convert::from_bcd(bytes);
    assert_eq!(value, convert::from_i64(-123_456_789));
    assert_eq!(convert::to_bcd(value, ENV).bits, Some(bytes));
    let large = convert::from_i64(1_000_000_000_000_000_000);
    assert_eq!(convert::to_bcd(large, ENV).bits, Some(convert::BCD_INDEFINITE));
}

#[test]
fn remainder_delivers_quotient_bits() {
    let mut fpu = fpu_with(&[convert::from_i64(23), convert::from_i64(4)]);
    fpu.fprem();
    assert_eq!((fpu.st(0), fpu.status), (THREE, C0 | C1));
    let mut fpu = fpu_with(&[convert::from_i64(23), convert::from_i64(4)]);
    fpu.fprem1();
    assert_eq!((fpu.st(0), fpu.status), (F80::ONE.negated(), C3 | C0));
}

#[test]
fn long_remainder_is_reduced_in_steps() {
    let mut fpu = fpu_with(&[F80::new(0x3FFF + 200, 1 << 63), THREE]);
    let mut steps = 0;
    loop {
        fpu.fprem();
        steps += 1;
        if fpu.status & C2 == 0 {
            break;
        }
    }
    assert_eq!(fpu.st(0), F80::ONE);
    assert!(steps > 2);
}

#[test]
fn comparison_sets_codes_and_flags() {
    let cases =
        [(F80::ONE, TWO, C0), (TWO, F80::ONE, 0), (TWO, TWO, C3), (F80::INDEFINITE, TWO, C0 | C2 | C3)];
    for (a, b, codes) in cases {
        let mut fpu = fpu_with(&[a, b]);
        fpu.compare_st(Compare::Unordered, 1, 2);
        assert_eq!((fpu.status, fpu.tags), (codes, 0));
        let mut fpu = fpu_with(&[a, b]);
        let flags = fpu.compare_flags(Compare::Unordered, 1, false);
        assert_eq!((flags.cf, flags.pf, flags.zf), (codes & C0 != 0, codes & C2 != 0, codes & C3 != 0));
    }
}

#[test]
fn large_angle_sets_c2_and_stays() {
    let huge = F80::new(0x3FFF + 63, 1 << 63);
    let mut fpu = fpu_with(&[huge]);
    fpu.fptan();
    assert_eq!((fpu.st(0), fpu.status, fpu.top), (huge, C2, 7));
}

#[test]
fn pi_follows_rounding_control() {
    let pi = |rounding| transcendental::constant(Constant::Pi, rounding).mantissa;
    assert_eq!(pi(Rounding::Nearest), 0xC90F_DAA2_2168_C235);
    assert_eq!(pi(Rounding::Down), 0xC90F_DAA2_2168_C234);
}

/// The 66-bit π of the hardware, not the true one, decides what is left next to a multiple of π.
#[test]
fn sine_of_pi_shows_the_hardware_pi() {
    let pi = transcendental::constant(Constant::Pi, Rounding::Nearest);
    let expected = convert::to_f64(transcendental::sin(pi, ENV).value, ENV).bits;
    assert_eq!(expected, Some((-5.421_010_862_427_522e-20f64).to_bits()));
}

#[test]
fn environment_round_trips_in_every_format() {
    let mut fpu = fpu_with(&[F80::ONE, F80::ZERO, F80::INFINITY]);
    fpu.set_pointers(0x123, 0x10, 0x1234, 0x18, 0x5678);
    fpu.status |= C3 | PE;
    for format in [Format::Real16, Format::Protected16, Format::Real32, Format::Protected32] {
        let image = fpu.save_image(format);
        let mut other = Fpu::default();
        other.restore(&image[..format.save_len()], format);
        assert_eq!((other.st, other.top, other.tags), (fpu.st, fpu.top, fpu.tags));
        assert_eq!((other.control, other.status), (fpu.control, fpu.status));
    }
    let image = fpu.env_image(Format::Real32);
    // Linear 0x10·16 + 0x1234.
    assert_eq!(&image[12..14], &[0x34, 0x13]);
    let mut other = Fpu::default();
    other.load_env(&fpu.env_image(Format::Protected32), Format::Protected32);
    assert_eq!((other.fop, other.fcs, other.fip), (0x123, 0x10, 0x1234));
    assert_eq!((other.fds, other.fdp), (0x18, 0x5678));
}

#[test]
fn tag_word_describes_contents() {
    let fpu = fpu_with(&[F80::ONE, F80::ZERO, F80::INFINITY]);
    assert_eq!(fpu.tag_word(), 0b10_01_00 << 10 | 0x3FF);
}

// checklist: 16
#[test]
fn fxsave_image_round_trips() {
    let mut fpu = fpu_with(&[F80::ONE, THREE]);
    fpu.set_pointers(0x7FF, 0, 0xFFFF_8000_1234_5678, 0, 0x7FFF_1234_5678);
    let mut image = [0xAA; 512];
    fpu.fxsave(&mut image, true);
    assert_eq!(image[4], 0b1100_0000);
    assert!(image[24..32].iter().all(|&byte| byte == 0xAA));
    let mut other = Fpu::default();
    other.fxrstor(&image, true);
    assert_eq!(other, fpu);
}

#[test]
fn restored_flags_become_pending_by_the_masks() {
    let mut fpu = Fpu { status: PE, ..Fpu::default() };
    fpu.set_control(0x35F);
    assert!(fpu.pending_exception());
    fpu.finish_fnstenv();
    assert!(!fpu.pending_exception());
    fpu.fnclex();
    assert_eq!(fpu.status, 0);
}

#[test]
fn mmx_registers_are_the_significands() {
    let mut fpu = fpu_with(&[F80::ONE]);
    fpu.enter_mmx();
    fpu.set_mmx(7, 42);
    assert_eq!(fpu.st(7), F80::new(0xFFFF, 42));
    assert_eq!((fpu.mmx(7), fpu.top, fpu.tags), (42, 0, 0xFF));
    fpu.emms();
    assert_eq!(fpu.tags, 0);
}

/// Correctly rounded values, computed with 300 bits (angles reduced with the 66-bit π).
#[test]
fn functions_are_correctly_rounded() {
    use transcendental::{atan2, cos, exp2_minus_1, sin, tan, y_log2_x, y_log2_x_plus_1};
    let f = F80::new;
    #[rustfmt::skip]
    let one: &[(Function, F80, F80)] = &[
        (sin, f(0x3FFC, 1 << 63), f(0x3FFB, 0xFF55_7774_3771_AE50)),
        (sin, f(0x3FFF, 1 << 63), f(0x3FFE, 0xD76A_A478_4867_7021)),
        (sin, f(0xC000, 0xA000 << 48), f(0xBFFE, 0x9935_786E_7E55_8405)),
        (sin, f(0x4005, 0xC800 << 48), f(0xBFFE, 0x81A1_2DBC_626D_C036)),
        (sin, f(0x4013, 0x8000_0400_0000_0000), f(0x3FFE, 0xBE15_D8EB_E049_6241)),
        (cos, f(0x3FFC, 1 << 63), f(0x3FFE, 0xFE00_AA93_EADE_9B6D)),
        (cos, f(0x3FFF, 1 << 63), f(0x3FFE, 0x8A51_407D_A834_5C92)),
        (cos, f(0xC000, 0xA000 << 48), f(0xBFFE, 0xCD17_BF7C_2C5B_E959)),
        (cos, f(0x4005, 0xC800 << 48), f(0x3FFE, 0xDCC0_EDFB_32FE_FB21)),
        (cos, f(0x4013, 0x8000_0400_0000_0000), f(0x3FFE, 0xAB79_8416_C7C4_E526)),
        (tan, f(0x3FFC, 1 << 63), f(0x3FFC, 0x80AB_BD78_A88D_2702)),
        (tan, f(0x3FFF, 1 << 63), f(0x3FFF, 0xC759_22E5_F71D_2DC5)),
        (tan, f(0xC000, 0xA000 << 48), f(0x3FFE, 0xBF3C_DA70_05D8_A565)),
        (tan, f(0x4005, 0xC800 << 48), f(0xBFFE, 0x9653_A6B1_5AE9_BD79)),
        (exp2_minus_1, f(0x3FFE, 1 << 63), f(0x3FFD, 0xD413_CCCF_E779_9211)),
        (exp2_minus_1, f(0xBFFE, 1 << 63), f(0xBFFD, 0x95F6_1998_0C43_36F7)),
        (exp2_minus_1, f(0x3FF8, 1 << 63), f(0x3FF7, 0xB1ED_4FD9_99AB_6C25)),
        (exp2_minus_1, f(0xBFFE, 0xFC00 << 48), f(0xBFFD, 0xFD36_5C18_87F9_F119)),
    ];
    for (function, x, expected) in one {
        assert_eq!(function(*x, ENV).value, *expected, "of {x:?}");
    }
    type Two = fn(F80, F80, Env) -> Outcome;
    #[rustfmt::skip]
    let two: &[(Two, F80, F80, F80)] = &[
        (y_log2_x, f(0x3FFF, 1 << 63), f(0x4002, 0xA000 << 48), f(0x4000, 0xD49A_784B_CD1B_8AFE)),
        (y_log2_x, f(0x3FFF, 1 << 63), f(0x3FFE, 0xC000 << 48), f(0xBFFD, 0xD47F_CB8C_0852_F0C1)),
        (y_log2_x, f(0xC000, 0xC000 << 48), f(0x3FFF, 0x8020 << 48), f(0xBFF7, 0x8A6E_5F4B_97B9_F8BE)),
        (y_log2_x, f(0x3FFF, 1 << 63), f(0x400C, 0xC0E4 << 48), f(0x4002, 0xD977_5AAE_BE16_B9D5)),
        (y_log2_x_plus_1, f(0x3FFF, 1 << 63), f(0x3FFC, 1 << 63), f(0x3FFC, 0xAE00_D1CF_DEB4_3CFD)),
        (y_log2_x_plus_1, f(0x4000, 1 << 63), f(0xBFFD, 1 << 63), f(0xBFFE, 0xD47F_CB8C_0852_F0C1)),
        (y_log2_x_plus_1, f(0x3FFF, 1 << 63), f(0x3FEF, 1 << 63), f(0x3FEF, 0xB8A9_DED4_7C11_283E)),
        (atan2, f(0x3FFF, 1 << 63), f(0x3FFF, 1 << 63), f(0x3FFE, 0xC90F_DAA2_2168_C235)),
        (atan2, f(0x3FFF, 1 << 63), f(0xC000, 0xC000 << 48), f(0x4000, 0xB478_4AFE_FAC9_E110)),
        (atan2, f(0xC001, 0xA000 << 48), f(0x3FFE, 1 << 63), f(0xBFFF, 0xBC4D_E960_B002_9C17)),
        (atan2, f(0x3FF6, 1 << 63), f(0x4001, 0xE000 << 48), f(0x3FF3, 0x9249_2452_98C1_4097)),
        (atan2, f(0xC000, 1 << 63), f(0xC002, 0x9000 << 48), f(0xC000, 0xBB11_2E99_55ED_E17D)),
    ];
    for (function, y, x, expected) in two {
        assert_eq!(function(*y, *x, ENV).value, *expected, "of {y:?}, {x:?}");
    }
}
