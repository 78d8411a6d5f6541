use super::case::{Raised, reg};
use super::*;
use std::io::Write as _;

/// `code` with an HLT behind it at 0100:0000, stack at 0200:0100, from `flags`.
fn case(code: &[u8], regs: &[(usize, u32)], flags: u32) -> Case {
    let mut case = Case { form: "00".into(), bytes: [code, &[0xf4]].concat(), ..Case::default() };
    case.initial.ram = (0x1000..).zip(case.bytes.iter().copied()).collect();
    for n in 2..18 {
        case.initial.regs[n] = Some(0);
    }
    for (n, value) in [(reg::CS, 0x100), (reg::SS, 0x200), (reg::ESP, 0x100), (reg::EFLAGS, flags)] {
        case.initial.regs[n] = Some(value);
    }
    for (n, value) in regs {
        case.initial.regs[*n] = Some(*value);
    }
    case.after.regs[reg::EIP] = Some(code.len() as u32 + 1);
    case
}

fn verdict(recorded: Recorded, case: &Case) -> Verdict {
    Bench::new(Maker::INTERPRETER).expect("memory").test(recorded, case)
}

#[test]
fn right_registers_pass_and_a_wrong_one_is_named() {
    let mut add = case(&[0x04, 0x01], &[(reg::EAX, 0xff)], 2);
    (add.after.regs[reg::EAX], add.after.regs[reg::EFLAGS]) = (Some(0), Some(0x57));
    assert_eq!(verdict(Recorded::I80286, &add), Verdict::Passed);
    add.after.regs[reg::EFLAGS] = Some(0x56);
    let Verdict::Failed(lines) = verdict(Recorded::I80286, &add) else { panic!("a wrong carry passes") };
    assert!(lines.len() == 1 && lines[0].contains("cf=1"), "{lines:?}");
}

#[test]
fn store_that_was_not_recorded_is_found_and_the_next_test_starts_clean() {
    let store = case(&[0xc6, 0x06, 0x00, 0x50, 0x12], &[], 2);
    let mut bench = Bench::new(Maker::INTERPRETER).expect("memory");
    let Verdict::Failed(lines) = bench.test(Recorded::I80286, &store) else { panic!("a stray store passes") };
    assert!(lines[0].contains("005000") && lines[0].contains("got 12"), "{lines:?}");
    assert_eq!(bench.test(Recorded::I80286, &case(&[0x90], &[], 2)), Verdict::Passed);
    let mut told = store;
    told.after.ram = vec![(0x5000, 0x12)];
    assert_eq!(bench.test(Recorded::I80286, &told), Verdict::Passed);
}

#[test]
fn undefined_flags_and_those_that_the_set_masks_are_not_compared() {
    let mut and = case(&[0x24, 0x01], &[(reg::EAX, 1)], 2);
    and.after.regs[reg::EFLAGS] = Some(2 | 0x10);
    assert_eq!(verdict(Recorded::I80286, &and), Verdict::Passed, "AF is undefined");
    and.after.regs[reg::EFLAGS] = Some(3);
    assert_ne!(verdict(Recorded::I80286, &and), Verdict::Passed);
    and.masks[reg::EFLAGS] = Some(!1);
    assert_eq!(verdict(Recorded::I80286, &and), Verdict::Passed);
}

#[test]
fn pushed_flags_of_a_divide_error_are_compared_without_the_undefined_ones() {
    let mut div = case(&[0xf6, 0xf1], &[(reg::EAX, 0x100)], 0x93);
    div.initial.ram.extend([(0, 0), (1, 0x30), (2, 0), (3, 0), (0x3000, 0xf4)]);
    div.after.regs[reg::EIP] = Some(0x3001);
    for (n, value) in [(reg::CS, 0), (reg::ESP, 0xfa)] {
        div.after.regs[n] = Some(value);
    }
    div.after.regs[reg::EFLAGS] = Some(0x12);
    div.after.ram =
        [(0x20fa, 0), (0x20fb, 0), (0x20fc, 0), (0x20fd, 1), (0x20fe, 0x46), (0x20ff, 0)].to_vec();
    div.raised = Some(Raised { number: 0 });
    assert_eq!(verdict(Recorded::I80286, &div), Verdict::Passed);
    div.after.ram[3].1 = 2;
    assert_ne!(verdict(Recorded::I80286, &div), Verdict::Passed);
}

#[test]
fn one_instruction_of_an_8088_runs_with_all_its_repeats_and_no_more() {
    let mut stos = case(&[0xf3, 0xaa], &[(reg::EAX, 7), (reg::ECX, 3), (7, 0x6000)], 2);
    stos.bytes.pop();
    stos.after.regs[reg::EIP] = Some(2);
    (stos.after.regs[reg::ECX], stos.after.regs[7]) = (Some(0), Some(0x6003));
    stos.after.ram = vec![(0x6000, 7), (0x6001, 7), (0x6002, 7)];
    assert_eq!(verdict(Recorded::I8088, &stos), Verdict::Passed);
}

#[test]
fn what_later_processors_do_otherwise_is_skipped_with_its_reason() {
    let skipped = |recorded, code: &[u8], regs: &[(usize, u32)]| {
        let mut case = case(code, regs, 2);
        if recorded == Recorded::I8088 {
            case.bytes.pop();
        }
        matches!(verdict(recorded, &case), Verdict::Skipped(_))
    };
    assert!(skipped(Recorded::I8088, &[0x54], &[]));
    assert!(skipped(Recorded::I8088, &[0xd2, 0xe0], &[(reg::ECX, 40)]));
    assert!(!skipped(Recorded::I8088, &[0xd2, 0xe0], &[(reg::ECX, 4)]));
    assert!(skipped(Recorded::I8088, &[0xa1, 0xff, 0xff], &[]), "a word over the segment's end");
    assert!(skipped(Recorded::I80286, &[0xf0, 0x90], &[]));
    assert!(!skipped(Recorded::I80286, &[0x54], &[]));
}

#[test]
fn files_are_named_for_their_forms() {
    let form = |name: &str| form_of(Path::new(name));
    assert_eq!([form("x/F6.7.json.gz"), form("6601.MOO"), form("04.moo.gz")], ["F6.7", "6601", "04"]);
}

#[test]
fn unreadable_and_cut_files_are_named_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("04.MOO.gz");
    let args = |path: &Path| Args {
        files: vec![path.into()],
        form: None,
        limit: None,
        cpu: None,
        jit: Maker::INTERPRETER.jit(),
        verbose: false,
    };
    let error = format!("{:#}", run(&args(&path), Maker::INTERPRETER).expect_err("no file"));
    assert!(error.contains("04.MOO.gz"), "{error}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"MOO \x0c\0\0\0\x01\x01\0\0\x01\0\0\0C286TEST\x10\0\0\0").expect("packs");
    let packed = packed.finish().expect("packs");
    std::fs::write(&path, &packed).expect("a file");
    let error = format!("{:#}", run(&args(&path), Maker::INTERPRETER).expect_err("a cut file"));
    assert!(
        error.contains("04.MOO.gz") && error.contains("offset 0x1c") && error.contains("TEST"),
        "{error}"
    );
    std::fs::write(&path, &packed[..packed.len() - 12]).expect("a file");
    let error = format!("{:#}", run(&args(&path), Maker::INTERPRETER).expect_err("a cut archive"));
    assert!(error.contains("gzip"), "{error}");
}
