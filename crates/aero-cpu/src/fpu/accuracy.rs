//! The transcendental instructions against values computed with 320 bits.
//!
//! Angles are reduced with the hardware's π of 66 bits. Each row has the magnitude rounded toward zero, and whether the
//! nearest value is the next one; that says what every rounding control gives. No row is exact, and none so near to a
//! representable value that 320 bits could not tell. Among them are angles next to multiples of π/2 and up to 2^63,
//! arguments of logarithms next to one, and ratios of any size. Left out are angles and ratios so small that processors
//! hand back the operand itself.

use super::f80::{Env, F80, Outcome};
use super::spec::{C1, PE};
use super::transcendental::{atan2, cos, exp2_minus_1, sin, tan, y_log2_x, y_log2_x_plus_1};

type One = fn(F80, Env) -> Outcome;
type Two = fn(F80, F80, Env) -> Outcome;

const fn f(sign_exp: u16, mantissa: u64) -> F80 {
    F80::new(sign_exp, mantissa)
}

/// Asks for the result under each rounding control.
fn check(function: impl Fn(Env) -> Outcome, toward_zero: F80, nearest_is_next: bool) {
    let next = match toward_zero.mantissa.checked_add(1) {
        Some(mantissa) => F80::new(toward_zero.sign_exp, mantissa),
        None => F80::new(toward_zero.sign_exp + 1, 1 << 63),
    };
    let negative = toward_zero.is_negative();
    for (control, away) in [(0x37F, nearest_is_next), (0x77F, negative), (0xB7F, !negative), (0xF7F, false)] {
        let expected = if away { next } else { toward_zero };
        let outcome = function(Env::from_control(control));
        assert_eq!(outcome.value, expected, "{control:x}");
        assert_eq!(outcome.flags, PE | if away { C1 } else { 0 }, "{control:x}");
    }
}

#[test]
fn functions_of_one_operand_are_correctly_rounded_in_every_mode() {
    #[rustfmt::skip]
    let rows: &[(One, F80, F80, bool)] = &[
        (sin, f(0xC00A, 0xFFFF_FFFF_FFFF_9420), f(0x3FFE, 0x983A_7511_A07C_1AD4), false),
        (sin, f(0x3FEC, 0xD561_8000_0000_0000), f(0x3FEC, 0xD561_7FFF_FE74_AC97), false),
        (sin, f(0xBFF0, 0xA247_EFE4_B282_9097), f(0xBFF0, 0xA247_EFE4_049C_F4CB), false),
        (sin, f(0xC02C, 0xFA5A_8BDD_1A5A_0289), f(0xBFEE, 0x9D36_72A7_68F6_4905), false),
        (sin, f(0x401C, 0x9D14_E2E0_268C_A41B), f(0x3FFA, 0xB2F1_CE68_FA89_004D), false),
        (sin, f(0x401B, 0xCE0B_935E_0CAB_9E0C), f(0x3FFE, 0xA022_F8D4_05EF_70A1), false),
        (sin, f(0x4006, 0x893F_C97E_7D21_E6EF), f(0xBFFE, 0xD4BC_9DC4_56FA_A6AE), false),
        (sin, f(0xC02B, 0xB1AD_E23E_E826_CE68), f(0xBFFE, 0xFFFF_FFFF_FFE8_62D0), false),
        (sin, f(0xC001, 0xB4DA_4E44_CEDA_A119), f(0x3FFE, 0x9723_84CE_5EEF_05A9), false),
        (sin, f(0x4030, 0xADD2_B800_0000_0000), f(0x3FFA, 0xA04E_79F1_19A7_32C2), true),
        (sin, f(0xC01B, 0x8000_0000_0000_0000), f(0x3FFE, 0xFC77_7C6B_36B7_6BAF), false),
        (sin, f(0x4006, 0xEB9E_9435_FF26_C399), f(0xBFC8, 0xCBBF_FFFF_FFFF_FFFF), true),
        (sin, f(0xC010, 0xFFFF_FFFF_FFFF_FFC0), f(0x3FFB, 0xAC40_4E2E_69D5_B042), true),
        (sin, f(0xBFE4, 0x8000_0000_0000_0000), f(0xBFE3, 0xFFFF_FFFF_FFFF_FF55), false),
        (sin, f(0x403D, 0xFFFF_FFFF_FFFF_FFFF), f(0x3FFE, 0xE0AB_9300_DA6D_2684), false),
        (sin, f(0xC03D, 0x8000_0000_0000_0000), f(0x3FFE, 0xB506_A9DD_559C_F157), false),
        (sin, f(0x4017, 0xC90F_DAA2_2168_C235), f(0x3FD5, 0xFFFF_FFFF_FFFF_FFFF), true),
        (cos, f(0x4015, 0xE74D_AEEA_967A_139B), f(0x3FD5, 0xB887_76FF_FFFF_FFFF), true),
        (cos, f(0xBFEE, 0xE8A8_5CAA_8F97_F5D3), f(0x3FFE, 0xFFFF_FFFF_9647_34A8), true),
        (cos, f(0xC002, 0xB53D_98EC_7DA9_6620), f(0x3FFD, 0xA6DC_6FEC_32FA_9012), false),
        (cos, f(0xC009, 0xD175_9A91_931E_6DF0), f(0xBFFD, 0xB68C_7B03_4B3D_1F5F), true),
        (cos, f(0x4006, 0x8000_0000_0000_0000), f(0xBFFE, 0xB161_9EDE_AEA1_5182), true),
        (cos, f(0x4002, 0x96CB_E3F9_990E_91A9), f(0xBFFE, 0xFFFF_FFFF_FFFF_FFFF), true),
        (cos, f(0xC009, 0xD714_34AB_59BF_1B6F), f(0x3FFE, 0x9289_F953_D863_0B76), true),
        (cos, f(0xC009, 0xC5EB_9B37_98E3_1F2C), f(0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), true),
        (cos, f(0xBFE4, 0xE9B1_3000_0000_0000), f(0x3FFE, 0xFFFF_FFFF_FFFF_F955), false),
        (cos, f(0xC02E, 0xD3B0_E764_7035_A918), f(0x3FFC, 0xC02C_EC27_07D0_3E38), false),
        (cos, f(0x4032, 0xC0E7_425D_9F2F_F69E), f(0xBFFE, 0xFFFF_FFC7_04A3_F832), false),
        (cos, f(0x3FFE, 0xFFFF_FFFF_FFFF_FFEC), f(0x3FFE, 0x8A51_407D_A834_5CA2), true),
        (cos, f(0xBFFF, 0xFFFF_FFFF_FFFF_FFFF), f(0xBFFD, 0xD511_32BA_9B90_251E), false),
        (cos, f(0x3FF6, 0xFFFF_FFFF_FFFF_F826), f(0x3FFE, 0xFFFF_8000_0AAA_AA4F), true),
        (cos, f(0x403D, 0xFFFF_FFFF_FFFF_FFFF), f(0x3FFD, 0xF56E_C1E0_A37C_4176), false),
        (cos, f(0xC03D, 0x8000_0000_0000_0000), f(0xBFFE, 0xB503_3C86_7715_3459), true),
        (cos, f(0x4017, 0xC90F_DAA2_2168_C235), f(0x3FFE, 0xFFFF_FFFF_FFFF_FFFF), true),
        (tan, f(0x4006, 0x915F_49B6_7F2E_1A57), f(0x3FFF, 0x945D_A0E3_97AC_5050), true),
        (tan, f(0xBFFF, 0xFFFF_FFFF_FFFF_FFFC), f(0x4000, 0x8BD7_B170_4A87_C1E6), false),
        (tan, f(0xC02B, 0xEB90_2800_0000_0000), f(0x3FFD, 0xF138_4A49_5454_5501), false),
        (tan, f(0x4001, 0xB4B9_3CD8_BC20_D7DC), f(0xBFFE, 0xBCD8_F8F3_200C_9031), false),
        (tan, f(0xC02E, 0xA309_A800_0000_0000), f(0xBFFE, 0xF772_201B_DB0B_3C32), true),
        (tan, f(0x4014, 0xD0D1_5D79_A147_BDBE), f(0xC02B, 0xA719_5C43_8283_B1C9), false),
        (tan, f(0x4004, 0xFFFF_FFFF_FFFE_F089), f(0x4000, 0x9643_57E2_E41A_46F8), true),
        (tan, f(0x4000, 0xF37E_B06B_363B_E289), f(0x3FFE, 0xC7EC_2552_0428_22BA), true),
        (tan, f(0xC036, 0xCB3A_7E6D_0385_17A4), f(0x3FFC, 0x88F4_D20A_70A4_48A4), false),
        (tan, f(0xBFE4, 0xFFFF_FFFF_FFFF_F9E4), f(0xBFE4, 0xFFFF_FFFF_FFFF_FF39), false),
        (tan, f(0x3FFD, 0xC124_0ABF_1954_FACC), f(0x3FFD, 0xCADB_02BD_D1DE_8EB4), true),
        (tan, f(0xC00C, 0xD338_ADE2_2866_37A8), f(0x3FFB, 0xD47B_00C4_4207_9AF5), true),
        (tan, f(0x3FF9, 0x86FD_1595_3895_CF48), f(0x3FF9, 0x8700_365E_D90C_D606), true),
        (tan, f(0x403A, 0x8417_337B_B346_5BB3), f(0xBFFA, 0xE130_5791_E0CA_A24A), true),
        (tan, f(0x403D, 0xFFFF_FFFF_FFFF_FFFF), f(0x3FFF, 0xEA57_F75B_8BFE_BB70), false),
        (tan, f(0xC03D, 0x8000_0000_0000_0000), f(0xBFFF, 0x8002_6C65_41A0_88B0), false),
        (tan, f(0x4017, 0xC90F_DAA2_2168_C235), f(0x3FD6, 0x8000_0000_0000_0000), false),
        (exp2_minus_1, f(0x1B78, 0xEFFB_16BE_47BA_2AC9), f(0x1B78, 0xA657_8F01_8F50_2E2C), false),
        (exp2_minus_1, f(0x901C, 0x8000_0000_0000_CADB), f(0x901B, 0xB172_17F7_D1D0_92E3), false),
        (exp2_minus_1, f(0x3FE6, 0xF3F3_5FF8_6003_D76D), f(0x3FE6, 0xA917_FECA_54B5_F4E0), true),
        (exp2_minus_1, f(0x3FFD, 0xED4B_4079_5AFC_C9C8), f(0x3FFD, 0xC1F8_87E8_086F_384A), false),
        (exp2_minus_1, f(0x3FFB, 0x8FFE_C8F6_5714_B47C), f(0x3FFA, 0xCC90_66B8_B67E_823D), true),
        (exp2_minus_1, f(0xBFFD, 0xA27B_E4D4_C3AE_C6CE), f(0xBFFC, 0xCA32_78BF_D95E_624D), true),
        (exp2_minus_1, f(0x9739, 0xBE01_96FB_9FBF_8A9D), f(0x9739, 0x83B3_C7E3_4953_241E), false),
        (exp2_minus_1, f(0x3FF4, 0xF033_4EF4_BE93_7FE2), f(0x3FF4, 0xA68C_10B4_0747_E71C), false),
        (exp2_minus_1, f(0x9637, 0x8000_0000_0000_07DB), f(0x9636, 0xB172_17F7_D1CF_848F), true),
        (exp2_minus_1, f(0x3FE3, 0xB2D6_65B2_471A_9AC5), f(0x3FE2, 0xF7EB_E117_5F04_8489), true),
        (exp2_minus_1, f(0xBFFE, 0xEFFB_12CF_554F_BAF3), f(0xBFFD, 0xF4A6_E845_6E5C_2D65), false),
        (exp2_minus_1, f(0xBFF2, 0xFFFF_FFFF_FFFF_FE2F), f(0xBFF2, 0xB16E_400E_473C_263A), true),
        (exp2_minus_1, f(0x1225, 0x84D7_D800_0000_0000), f(0x1224, 0xB828_E1CC_5B12_9205), true),
        (exp2_minus_1, f(0x3FFC, 0xE02F_82D7_361A_4D95), f(0x3FFC, 0xA7CD_D0D7_5C99_EA34), true),
    ];
    for (function, x, result, up) in rows {
        println!("{x:x?}");
        check(|env| function(*x, env), *result, *up);
    }
}

#[test]
fn functions_of_two_operands_are_correctly_rounded_in_every_mode() {
    #[rustfmt::skip]
    let rows: &[(Two, F80, F80, F80, bool)] = &[
        (atan2, f(0xDDE6, 0xAE65_EB40_EB85_66AF), f(0x5DE2, 0x8000_0000_0000_0000), f(0xBFFF, 0xC331_C585_75B1_1F46), true),
        (atan2, f(0xA5E0, 0x8000_0000_0001_0F63), f(0x207F, 0xD35D_5000_0000_0000), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x4013, 0xE382_4EB5_6646_8AC6), f(0x4000, 0xE382_4EB5_6646_8AD0), f(0x3FFF, 0xC90F_CAA2_2168_C24A), false),
        (atan2, f(0xF0A9, 0x81C2_E800_0000_0000), f(0x10BF, 0x87DA_EB30_FFE5_F1B2), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x07EB, 0x8000_0000_0000_135C), f(0xBBCC, 0x937A_407D_A4AB_CC1C), f(0x4000, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x6B45, 0xAE40_F248_A8FB_315D), f(0x5DB1, 0x8000_0000_0000_0000), f(0x3FFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x4022, 0xE188_5836_BF0E_2654), f(0xBFFE, 0xE188_5836_BF0E_264A), f(0x3FFF, 0xC90F_DAA2_2968_C234), true),
        (atan2, f(0xD903, 0xFC15_A8ED_5ED7_9369), f(0x58BD, 0x8000_0000_0000_0000), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0xEABF, 0x8000_0000_0000_0000), f(0x32A8, 0xBDB7_4B27_B3F6_20D6), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0xA939, 0x8000_0000_0000_07E1), f(0x28A8, 0xD958_A6CE_C09C_7126), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0xF9ED, 0x8000_0000_0000_0000), f(0xF9A8, 0xB56E_2000_0000_0000), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x4224, 0xA2A3_85AB_7A51_73C6), f(0x416F, 0x871F_8800_0000_0000), f(0x3FFF, 0xC90F_DAA2_2168_C234), true),
        (atan2, f(0x4028, 0x8000_0000_0000_1FDD), f(0x4000, 0x8000_0000_0000_1FCF), f(0x3FFF, 0xC90F_DAA2_20E8_C234), true),
        (atan2, f(0xC043, 0xFFFF_FFFF_FFFF_FFFF), f(0xC000, 0xFFFF_FFFF_FFFF_FFE0), f(0xBFFF, 0xC90F_DAA2_2168_C234), true),
        (y_log2_x, f(0xBFBE, 0x8000_0000_0000_0AD9), f(0x3FFE, 0xFFFF_F6D2_31AD_976F), f(0x3FA9, 0xD3E0_DE75_6AD4_826E), false),
        (y_log2_x, f(0x3FFF, 0x8000_0000_0000_0000), f(0x401D, 0xC166_B000_0000_0000), f(0x4003, 0xF4C3_7C87_2C2B_E24E), false),
        (y_log2_x, f(0x3FE5, 0x9663_2000_0000_0000), f(0x3FFE, 0xFFFF_FFF1_25A6_FF76), f(0xBFC9, 0xC968_84B0_85AC_C47A), false),
        (y_log2_x, f(0xBFBD, 0xA609_020A_1CC8_D11B), f(0x2E85, 0x92F0_4075_AA1F_8BC8), f(0x3FC9, 0xB559_8603_C723_02FE), true),
        (y_log2_x, f(0x402A, 0xA32E_B2F6_32E5_3351), f(0x2BFF, 0xA9BB_7BB1_69A1_BA6F), f(0xC036, 0xCBF6_38C0_2B68_8795), true),
        (y_log2_x, f(0x3FB9, 0x8000_0000_0000_7082), f(0x3FFC, 0x849F_C55D_D038_6C37), f(0xBFBA, 0xBCB9_26F4_62E4_1CC8), true),
        (y_log2_x, f(0xC04C, 0x8000_0000_0000_0000), f(0x3FFF, 0x8000_0000_0000_FAEC), f(0xC01D, 0xB500_7AB4_EE0F_95BF), true),
        (y_log2_x, f(0x3FA1, 0xFFFF_FFFF_FFFF_FEB7), f(0x3FFF, 0x8000_0000_0000_03FD), f(0x3F6D, 0xB81F_BB7C_FD12_DAFC), false),
        (y_log2_x, f(0x402F, 0xBA23_A360_FF72_E64A), f(0x3FFF, 0x8000_0007_39FD_C8B9), f(0x4013, 0xF294_12F4_6790_284A), false),
        (y_log2_x, f(0x4050, 0x88AB_3B00_E2DD_6409), f(0x1D49, 0x9C13_7C16_53AE_A839), f(0xC05D, 0x943E_03C0_16D3_96EB), true),
        (y_log2_x, f(0x3FFF, 0x8000_0000_0000_0000), f(0x400B, 0xFE30_085D_E35D_6982), f(0x4002, 0xCFD6_0418_9796_9C4A), false),
        (y_log2_x, f(0xC05E, 0xFFFF_FFFF_FFFE_31AA), f(0x04BA, 0xBA5F_F4A4_1533_3FA4), f(0x406C, 0xED11_D4ED_6262_83C6), true),
        (y_log2_x, f(0x3FFF, 0xC18C_98AA_8BE5_FAF4), f(0x3FFE, 0xFFFF_FFFF_FE17_ED5F), f(0xBFD9, 0x8517_712F_AEE2_448C), false),
        (y_log2_x, f(0x4026, 0xFFFF_FFFF_FFFF_FFC1), f(0x4001, 0xCC84_A000_0000_0000), f(0x4028, 0xAB44_F7D7_FE5F_EB6E), false),
        (y_log2_x_plus_1, f(0xC021, 0xFFFF_FFFF_FFFF_FC1F), f(0xAA9E, 0x8000_0000_0000_0000), f(0x2AC1, 0xB8AA_3B29_5C17_EDEF), false),
        (y_log2_x_plus_1, f(0x3FFF, 0x8000_0000_0000_0000), f(0xBFFA, 0xE857_9459_8C80_38B3), f(0xBFFB, 0xAC8A_6750_9912_A57C), false),
        (y_log2_x_plus_1, f(0xBFFE, 0x8000_0000_0000_0000), f(0xB11E, 0xA3DC_2BF2_E63B_B4A2), f(0x311D, 0xEC66_6B53_F83C_8A35), true),
        (y_log2_x_plus_1, f(0x3FD1, 0x93F8_2800_0000_0000), f(0x3FF9, 0xD503_F68F_0761_044B), f(0x3FCC, 0xAF5C_3DD4_E365_3136), true),
        (y_log2_x_plus_1, f(0xBFB6, 0xA471_EE53_5562_F1AE), f(0x3FC2, 0xE247_0793_20F8_C11B), f(0xBF7A, 0xD1B2_FAF9_6BAA_1CA7), true),
        (y_log2_x_plus_1, f(0x3FD5, 0x8000_0000_0002_D7CC), f(0xBFF9, 0xCA59_A558_AE79_49F1), f(0xBFD0, 0x93CC_3B6E_A521_6D3D), false),
        (y_log2_x_plus_1, f(0xC04F, 0x8000_0000_0000_0000), f(0xBFF9, 0xC154_F5E1_378A_D60F), f(0x404A, 0x8D21_A717_AE8D_A056), false),
        (y_log2_x_plus_1, f(0xBFFA, 0x970B_C53D_3E26_55B7), f(0xBFE1, 0xD044_332A_7B95_DDD1), f(0x3FDD, 0xB148_0435_BFEA_B410), false),
        (y_log2_x_plus_1, f(0xBFF3, 0xAFCF_D800_0000_0000), f(0x3FCB, 0xFD3E_1800_0000_0000), f(0xBFC0, 0xFAE9_2FAA_462A_F426), true),
        (y_log2_x_plus_1, f(0x3FCD, 0xFFFF_FFFF_FFFF_FFFF), f(0x3D8D, 0x8000_0000_0000_0000), f(0x3D5C, 0xB8AA_3B29_5C17_F0BB), false),
        (y_log2_x_plus_1, f(0x3FFF, 0x8000_0000_0000_0000), f(0xBFF9, 0xFFFF_FFFF_FFFF_C531), f(0xBFFA, 0xBB9C_A64E_CAC6_7F24), true),
        (y_log2_x_plus_1, f(0x3FFF, 0x8000_0000_0000_0000), f(0x3FFA, 0x8000_0000_0000_0000), f(0x3FFA, 0xB5D6_9BAC_77EC_3989), true),
        (y_log2_x_plus_1, f(0xBFDE, 0xE640_F0EF_7FD1_2D33), f(0x2B23, 0xC586_6FA8_082E_58C4), f(0xAB04, 0x8027_86F6_1544_7994), true),
        (y_log2_x_plus_1, f(0x3FFF, 0x8000_0000_0000_0000), f(0x3FFA, 0xF380_0800_0000_0000), f(0x3FFB, 0xAAA0_159A_49D4_09EA), true),
    ];
    for (function, y, x, result, up) in rows {
        println!("{y:x?} {x:x?}");
        check(|env| function(*y, *x, env), *result, *up);
    }
}
