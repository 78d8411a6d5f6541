//! Every opcode with every prefix that can matter and every ModRM byte, in the three code sizes: what the decoder lets
//! through has a handler, so that nothing is undefined by accident.

use aero_cpu::bind::handles;
use aero_cpu::vcpu::Mode;
use aero_x86::cpuid::{MAX, Model};
use aero_x86::{CodeSize, DecodeError, Feature, Features, Insn, Mnemonic, decode};
use std::collections::BTreeSet;

/// Instructions that are #UD wherever they may be executed here: on purpose, and RSM outside system management mode.
/// What belongs to features that no model has (VMX, SVM, SGX, CET, TSX, AVX-512 and so on) does not decode at all.
const UNDEFINED: [Mnemonic; 4] = [Mnemonic::Ud0, Mnemonic::Ud1, Mnemonic::Ud2, Mnemonic::Rsm];

/// Legacy prefixes before the opcode: mandatory ones alone and with others.
const PREFIXES: [&[u8]; 12] = [
    &[],
    &[0x66],
    &[0xf2],
    &[0xf3],
    &[0x67],
    &[0xf0],
    &[0x2e],
    &[0x66, 0xf2],
    &[0x66, 0xf3],
    &[0xf2, 0xf3],
    &[0x66, 0x67],
    &[0xf2, 0xf0],
];

/// Escapes to the opcode maps.
const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

fn mode(code: CodeSize) -> Mode {
    Mode { code, stack32: code != CodeSize::B16, flat: code != CodeSize::B16 }
}

/// Decodes `head`, with `modrm` and zeros behind it.
fn try_decode(head: &[u8], modrm: u8, size: CodeSize, features: Features) -> Result<Insn, DecodeError> {
    let mut bytes = head.to_vec();
    bytes.push(modrm);
    bytes.resize(15, 0);
    decode(&bytes, size, features)
}

/// Everything before the ModRM byte.
fn heads(size: CodeSize) -> Vec<Vec<u8>> {
    let rex: &[Option<u8>] = if size == CodeSize::B64 { &[None, Some(0x40), Some(0x48)] } else { &[None] };
    let mut all = Vec::new();
    for (prefix, rex) in PREFIXES.iter().flat_map(|p| rex.iter().map(move |r| (p, r))) {
        for (map, opcode) in MAPS.iter().flat_map(|m| (0..=255u8).map(move |o| (m, o))) {
            all.push([prefix, rex.as_slice(), map, &[opcode]].concat());
        }
    }
    // VEX: maps 1 to 3, the four mandatory prefixes, W, L, and no second source or one.
    for n in 0..3 * 4 * 2 * 2 * 2 {
        let (map, second) = (1 + n % 3, n / 3);
        let (pp, wide, long, vvvv) = (second & 3, second >> 2 & 1, second >> 3 & 1, second >> 4 & 1);
        let second = 0x70 | pp | long << 2 | vvvv << 3 | wide << 7;
        all.extend((0..=255).map(|opcode| vec![0xc4, 0xe0 | map, second, opcode]));
    }
    all
}

/// What decodes and has no handler.
fn missing(model: &Model) -> BTreeSet<String> {
    let features = model.features;
    let mut missing = BTreeSet::new();
    for size in [CodeSize::B16, CodeSize::B32, CodeSize::B64] {
        for (head, modrm) in heads(size).iter().flat_map(|h| (0..=255).map(move |m| (h, m))) {
            let Ok(insn) = try_decode(head, modrm, size, features) else { continue };
            if !UNDEFINED.contains(&insn.mnemonic) && !handles(&insn, mode(size)) {
                missing.insert(format!("{:?} in {size:?}: {head:02x?} {modrm:02x}", insn.mnemonic));
            }
        }
    }
    missing
}

#[test]
fn whatever_decodes_has_a_handler() {
    // The other models decode less.
    let missing = missing(&MAX);
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Decodes `bytes` with everything that there is.
fn with_all(bytes: &[u8], size: CodeSize) -> Option<(Mnemonic, u8)> {
    let mut bytes = bytes.to_vec();
    bytes.resize(15, 0);
    decode(&bytes, size, Features::of(Feature::ALL)).ok().map(|insn| (insn.mnemonic, insn.len))
}

#[test]
fn instructions_of_the_first_processors_are_undefined_in_64_bit_code() {
    let gone: [&[u8]; 26] = [
        &[0x06],
        &[0x07],
        &[0x0e],
        &[0x16],
        &[0x17],
        &[0x1e],
        &[0x1f],
        &[0x27],
        &[0x2f],
        &[0x37],
        &[0x3f],
        &[0x60],
        &[0x61],
        &[0x62, 0x00],
        &[0x82, 0xc0],
        &[0x9a],
        &[0xc4, 0x00],
        &[0xc5, 0x00],
        &[0xce],
        &[0xd4],
        &[0xd5],
        &[0xd6],
        &[0xea],
        &[0x66, 0x60],
        &[0xf3, 0x61],
        &[0x48, 0x06],
    ];
    for bytes in gone {
        assert_eq!(with_all(bytes, CodeSize::B64), None, "{bytes:02x?}");
        if bytes[0] != 0x48 {
            assert!(with_all(bytes, CodeSize::B32).is_some(), "{bytes:02x?}");
        }
    }
}

#[test]
fn lock_is_for_read_modify_write_of_memory_only() {
    let lockable: [&[u8]; 14] = [
        &[0x00, 0x00],
        &[0x09, 0x00],
        &[0x81, 0x00],
        &[0x83, 0x28],
        &[0xf7, 0x18],
        &[0xf6, 0x10],
        &[0xfe, 0x00],
        &[0xff, 0x08],
        &[0x86, 0x00],
        &[0x0f, 0xab, 0x00],
        &[0x0f, 0xba, 0x30],
        &[0x0f, 0xb1, 0x00],
        &[0x0f, 0xc1, 0x00],
        &[0x0f, 0xc7, 0x08],
    ];
    for bytes in lockable {
        let locked = [&[0xf0], bytes].concat();
        assert!(with_all(&locked, CodeSize::B64).is_some(), "{bytes:02x?}");
        // The register form of the same, where there is one.
        let mut register = locked.clone();
        *register.last_mut().expect("ModRM") |= 0xc0;
        assert_eq!(with_all(&register, CodeSize::B64), None, "{register:02x?}");
    }
    let not: [&[u8]; 14] = [
        &[0x02, 0x00],
        &[0x38, 0x00],
        &[0x83, 0x38],
        &[0x84, 0x00],
        &[0x88, 0x00],
        &[0x8d, 0x00],
        &[0x90],
        &[0xa4],
        &[0xc3],
        &[0xd1, 0x20],
        &[0xf6, 0x20],
        &[0x0f, 0xa3, 0x00],
        &[0x0f, 0xba, 0x20],
        &[0x0f, 0x1f, 0x00],
    ];
    for bytes in not {
        assert_eq!(with_all(&[&[0xf0], bytes].concat(), CodeSize::B32), None, "{bytes:02x?}");
    }
}

#[test]
fn reserved_group_members_are_undefined() {
    let reserved: [&[u8]; 12] = [
        &[0x8f, 0xc8],
        &[0xc6, 0x08],
        &[0xc7, 0xd0],
        &[0xfe, 0x10],
        &[0xff, 0x38],
        &[0xff, 0xd8],
        &[0xff, 0xe8],
        &[0x0f, 0xba, 0x00],
        &[0x0f, 0x00, 0x30],
        &[0x0f, 0xc7, 0x00],
        &[0x0f, 0xc7, 0xc8],
        &[0x8e, 0xf0],
    ];
    for (bytes, size) in
        reserved.iter().flat_map(|b| [CodeSize::B16, CodeSize::B32, CodeSize::B64].map(|s| (b, s)))
    {
        assert_eq!(with_all(bytes, size), None, "{bytes:02x?} in {size:?}");
    }
}

#[test]
fn near_branches_of_64_bit_code_ignore_the_operand_size_prefix() {
    for (bytes, len) in [
        (&[0x66, 0xe8][..], 6),
        (&[0x66, 0xe9], 6),
        (&[0x66, 0x0f, 0x84], 7),
        (&[0x66, 0xc3], 2),
        (&[0x66, 0xeb], 3),
        (&[0x66, 0xff, 0xe0], 3),
    ] {
        assert_eq!(with_all(bytes, CodeSize::B64).map(|(_, len)| len), Some(len), "{bytes:02x?}");
    }
    let target =
        |bytes: &[u8]| decode(bytes, CodeSize::B64, Features::of(Feature::ALL)).map(|i| i.operands[0]);
    assert_eq!(target(&[0x66, 0xe9, 0xfa, 0xff, 0xff, 0x7f]), Ok(aero_x86::Operand::Near(0x8000_0000)));
}

#[test]
fn hints_are_no_operations_with_any_prefix() {
    let hints: [&[u8]; 8] = [
        &[0x0f, 0x0d, 0xc0],
        &[0x0f, 0x0d, 0x08],
        &[0x0f, 0x18, 0x38],
        &[0x0f, 0x19, 0xc0],
        &[0x0f, 0x1c, 0x00],
        &[0xf3, 0x0f, 0x1e, 0xc8],
        &[0xf3, 0x0f, 0x1e, 0xfa],
        &[0x66, 0x0f, 0x1f, 0x00],
    ];
    for bytes in hints {
        let found = with_all(bytes, CodeSize::B64);
        assert_eq!(found, Some((Mnemonic::Reservednop, bytes.len() as u8)), "{bytes:02x?}");
    }
}

#[test]
fn last_of_two_repeat_prefixes_counts() {
    let rep = |bytes: &[u8]| decode(bytes, CodeSize::B32, Features::of(Feature::ALL)).map(|i| i.rep);
    assert_eq!(rep(&[0xf2, 0xf3, 0xa6]), Ok(aero_x86::Rep::Equal));
    assert_eq!(rep(&[0xf3, 0xf2, 0xa6]), Ok(aero_x86::Rep::NotEqual));
    assert_eq!(with_all(&[0xf2, 0xf3, 0x0f, 0xb8, 0xc1], CodeSize::B32).map(|m| m.0), Some(Mnemonic::Popcnt));
}
