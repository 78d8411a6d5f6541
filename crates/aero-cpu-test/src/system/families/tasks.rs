//! Task switches: 16 and 32 bits, by JMP, CALL, INT, IRET, directly and through gates, good and broken.

use super::super::case::{Case, Env, descriptor, flag, gate, reg, sel};
use super::super::layout::{self, WINDOW, at, driver, linear};
use super::segments;
use crate::random::Random;

/// A 32-bit TSS image with plausible contents.
#[derive(Clone, Copy)]
struct Task {
    eip: u32,
    cs: u16,
    ss: u16,
    esp: u32,
    data: u16,
    ldt: u16,
    flags: u32,
    cr3: u32,
}

impl Task {
    fn new(env: Env) -> Self {
        let cr3 = if env == Env::Paged { linear(at::ROOT) } else { 0 };
        Self {
            eip: linear(at::CODE_B),
            cs: sel::CODE0,
            ss: sel::DATA0,
            esp: linear(at::DATA_B + 0x400),
            data: sel::DATA0,
            ldt: sel::LDT,
            flags: flag::FIXED,
            cr3,
        }
    }

    fn image32(&self) -> Vec<u8> {
        let mut words = vec![self.cr3, self.eip, self.flags];
        words.extend((0..4u32).map(|n| 0x1111_1111 * (n + 1)));
        words.push(self.esp);
        words.extend((5..8u32).map(|n| 0x1111_1111 * (n + 1)));
        let segments = [self.data, self.cs, self.ss, self.data, self.data, self.data, self.ldt];
        words.extend(segments.map(u32::from));
        words.push(0x0068_0000);
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn image16(&self) -> Vec<u8> {
        let mut words = vec![self.eip as u16, self.flags as u16];
        words.extend((0..4u16).map(|n| 0x1111 * (n + 1)));
        words.push(self.esp as u16);
        words.extend((5..8u16).map(|n| 0x1111 * (n + 1)));
        words.extend([self.data, self.cs, self.ss, self.data, self.ldt]);
        words.into_iter().flat_map(u16::to_le_bytes).collect()
    }
}

/// Where the image begins in a TSS.
const IMAGE32: u16 = 0x1c;
const IMAGE16: u16 = 0x0e;

/// Gives the task of task gates its stub as handler.
pub fn gate_task(case: &mut Case, r: &mut Random) {
    let mut task = Task::new(case.env);
    task.cs = sel::HANDLER;
    task.eip = driver::STUBS32 + (layout::VECTORS - 1) * layout::STUB;
    let access = if r.one_in(6) { r.pick(&[0x8b, 0x09, 0x83, 0x82]) } else { 0x89 };
    let limit = if r.one_in(8) { 0x66 } else { 0x67 };
    case.patches.put(at::TSS_GATE + IMAGE32, &task.image32());
    case.patches.gdt(sel::TSS_GATE, descriptor(linear(at::TSS_GATE), limit, access, 0));
    case.title += &format!(", task access {access:02x} limit {limit:x}");
}

/// Makes the running task a nested one.
pub fn back_link(case: &mut Case, r: &mut Random) {
    let busy = if r.one_in(6) { 0x89 } else { 0x8b };
    let link = if r.one_in(8) { segments::selector(r) } else { sel::TSS_B };
    case.patches.put16(at::TSS, link);
    case.patches.put(at::TSS_B + IMAGE32, &Task::new(case.env).image32());
    case.patches.gdt(sel::TSS_B, descriptor(linear(at::TSS_B), 0x67, busy, 0));
    case.title += &format!(", link {link:x} access {busy:02x}");
}

/// A switch to another task.
pub fn tasks(r: &mut Random) -> Case {
    let cpl = r.pick(&[0u8, 0, 3, 1]);
    let mut case = Case::new(r.pick(&[Env::Flat, Env::Paged]), "");
    case.ring(cpl);
    let short = r.one_in(3);
    let mut task = Task::new(case.env);
    let wrong = spoil(&mut task, r, &mut case, short);
    let (slot, selector) = if short { (at::TSS_C, sel::TSS_C) } else { (at::TSS_B, sel::TSS_B) };
    let good = if short { 0x81 } else { 0x89 };
    let access = if r.one_in(8) { any_but_code(r) } else { good | r.pick(&[0u8, 3, 3]) << 5 };
    let limit = if r.one_in(10) { r.near(&[0x2b, 0x67]) } else { 0xff };
    case.patches.gdt(selector, descriptor(linear(slot), limit, access, 0));
    if short {
        case.patches.put(slot + IMAGE16, &task.image16());
    } else {
        case.patches.put(slot + IMAGE32, &task.image32());
    }
    let how = way(&mut case, r, selector);
    case.flags(r.word() & 0x8d5 | (r.word_below(2) * flag::NT));
    case.reg(reg::EAX, r.word());
    case.title = format!(
        "{how} to a task of {} bits at CPL {cpl}, access {access:02x} limit {limit:x}, {wrong}",
        if short { 16 } else { 32 }
    );
    case
}

/// Any access byte but those of code segments, which a jump would run.
fn any_but_code(r: &mut Random) -> u8 {
    let access = r.word_below(256) as u8;
    if access & 0x18 == 0x18 { access & !8 } else { access }
}

/// Makes one thing of a task unusual.
fn spoil(task: &mut Task, r: &mut Random, case: &mut Case, short: bool) -> String {
    if short {
        (task.cs, task.ss, task.data) = (sel::CODE16, sel::DATA16, sel::DATA16);
        (task.eip, task.esp) = (at::CODE_B.into(), u32::from(at::DATA_B) + 0x400);
    }
    let (selector, access, what) = (segments::selector(r), segments::access(r), r.word_below(14));
    let mut describe = |case: &mut Case| {
        // A 16-bit TSS leaves the upper half of ESP undefined: no stack of 32 bits there.
        let flags = r.pick(&[0, 4]) & if short && what == 1 { 0 } else { 4 };
        case.patches.table(selector, descriptor(WINDOW, 0xffff, access, flags));
        format!("{selector:x} access {access:02x}")
    };
    match what {
        0 => {
            task.cs = selector;
            format!("cs {}", describe(case))
        }
        1 => {
            task.ss = selector;
            format!("ss {}", describe(case))
        }
        2 => {
            task.data = selector;
            format!("data {}", describe(case))
        }
        3 => {
            task.ldt = selector;
            format!("ldt {}", describe(case))
        }
        4 => {
            task.flags = r.word() & flag::ALL & !flag::TF | flag::FIXED;
            format!("flags {:x}", task.flags)
        }
        5 if !short => {
            (task.flags, task.cs, task.ss, task.data) = (flag::VM | flag::FIXED, 0x1000, 0x1000, 0x1000);
            task.eip = at::CODE_B.into();
            "VM86".into()
        }
        6 => {
            // At the end of the segment; a TSS of 16 bits cannot say more.
            task.eip = if short { 0xffff - r.word_below(8) } else { linear(at::CODE_B) + r.word_below(8) };
            format!("eip {:x}", task.eip)
        }
        7 => {
            (task.cs, task.ss, task.data, task.esp) =
                (sel::CODE3, sel::DATA3, sel::DATA3, linear(at::STACK3));
            if short { "16 bits".into() } else { "CPL 3".into() }
        }
        8 => {
            task.ldt = 0;
            "no LDT".into()
        }
        _ => "good".into(),
    }
}

/// The instruction that switches.
fn way(case: &mut Case, r: &mut Random, selector: u16) -> &'static str {
    let far = |opcode: u8, selector: u16| [&[opcode, 0, 0, 0, 0][..], &selector.to_le_bytes()].concat();
    let task_gate = |dpl: u8| gate(selector, 0, 0x85 | dpl << 5, 0);
    let rpl = r.word_below(4) as u16;
    let dpl = r.pick(&[3u8, 3, 0]);
    match r.word_below(7) {
        0 => {
            case.code(&far(0xea, selector | rpl));
            "jmp"
        }
        1 => {
            case.code(&far(0x9a, selector | rpl));
            "call"
        }
        2 => {
            case.patches.gdt(sel::FREE, task_gate(dpl));
            case.code(&far(0xea, sel::FREE | rpl));
            "jmp to a gate"
        }
        3 => {
            case.patches.gdt(sel::FREE, task_gate(dpl));
            case.code(&far(0x9a, sel::FREE | rpl));
            "call of a gate"
        }
        4 => {
            case.patches.put64(at::IDT + 8 * 40, task_gate(dpl));
            case.code(&[0xcd, 40]);
            "int"
        }
        5 => {
            case.patches.put64(at::IDT + 8 * 13, task_gate(dpl));
            case.code(&[0x66, 0xb8, 0xf8, 0xff, 0x8e, 0xd8]);
            "a fault"
        }
        _ => {
            // A call, and from there back.
            case.patches.put(at::CODE_B, &[0xcf]);
            case.code(&far(0x9a, selector));
            "call and iret"
        }
    }
}
