//! Makes cases: a form's bytes with random operands, registers that lead its memory operand where something interesting
//! lies, and interesting values everywhere.

use super::case::{Case, FpuImage, Mode, Patch, State, TF, image};
use super::forms::{Form, Rm};
use super::layout::{self, FS_BASE, GS_BASE, REGION, selector};
use super::values;
use crate::random::Random;
use iced_x86::{EncodingKind, Mnemonic, OpCodeOperandKind as Kind};

const CF_TO_OF: u64 = 0x8d5;
const DF: u64 = 1 << 10;
const RSP: u8 = 4;
const RBP: u8 = 5;

/// A case of `form` in `mode`, `None` if the dice gave operands that do not go together.
pub fn case(rng: &mut Random, form: &Form, mode: Mode) -> Option<Case> {
    let mut b = Builder::new(rng, form, mode);
    b.registers();
    b.encode()?;
    b.special_operands();
    Some(b.finish())
}

struct Builder<'a> {
    rng: &'a mut Random,
    form: &'a Form,
    mode: Mode,
    state: State,
    patches: Vec<Patch>,
    bytes: Vec<u8>,
    /// Where a RIP-relative displacement lies, and its target.
    relative: Option<(usize, u64)>,
    /// Linear address of the memory operand.
    target: u64,
    /// Registers that the address is made of.
    address_registers: u16,
}

/// ModRM, SIB and displacement, with the REX bits that go with them.
#[derive(Default)]
struct ModRm {
    r: u8,
    x: u8,
    b: u8,
    bytes: Vec<u8>,
}

impl<'a> Builder<'a> {
    fn new(rng: &'a mut Random, form: &'a Form, mode: Mode) -> Self {
        let target = 0;
        Self {
            rng,
            form,
            mode,
            state: State::zero(mode),
            patches: Vec::new(),
            bytes: Vec::with_capacity(16),
            relative: None,
            target,
            address_registers: 0,
        }
    }

    fn long(&self) -> bool {
        self.mode == Mode::B64
    }

    fn registers(&mut self) {
        let n = if self.long() { 16 } else { 8 };
        let mask = if self.long() { u64::MAX } else { 0xffff_ffff };
        for r in 0..n {
            self.state.gpr[r] = values::integer(self.rng) & mask;
        }
        let stack = self.stack_pointer();
        self.state.gpr[usize::from(RSP)] = self.stack_register(stack);
        let mut flags = self.rng.draw() & CF_TO_OF;
        if self.rng.one_in(4) {
            flags |= DF;
        }
        self.state.rflags = flags | 0x202 | if self.form.step || self.rng.one_in(32) { TF } else { 0 };
        if self.form.fpu {
            self.state.fpu = fpu_image(self.rng);
        }
        self.target = self.memory_target();
        let (at, len) = (self.target, 64);
        self.patch(at, len);
        if !self.rng.one_in(4) {
            self.patch(stack, 32);
        }
    }

    fn stack_pointer(&mut self) -> u64 {
        let base = REGION + layout::STACK;
        let offset = match self.rng.below(32) {
            0 => 0x1000 - self.rng.below(16),
            1 => self.rng.below(16),
            2 => 0x800 + self.rng.below(64),
            3 => 0x1000 - 8 * self.rng.below(4),
            _ => 0x800 + 8 * self.rng.below(32),
        };
        base + offset
    }

    /// As a 16-bit stack segment's ESP: IRET loads only its lower half there, the upper one is that of the harness.
    fn stack_register(&self, linear: u64) -> u64 {
        if self.mode == Mode::B16 { super::native::UPPER_STACK | linear & 0xffff } else { linear }
    }

    /// Where the memory operand goes.
    fn memory_target(&mut self) -> u64 {
        let r = &mut *self.rng;
        let data = REGION + layout::DATA;
        match r.below(64) {
            0..=27 => data + 64 * r.below(127),
            28..=39 => data + r.below(0x2000 - 64),
            40..=45 => data + 0x1000 - r.below(64),
            46..=48 => data + 0x2000 - r.below(64),
            49 => data - r.below(16),
            50..=54 => REGION + layout::CONSTANT + 16 * r.below(255),
            55 => REGION + layout::CODE + 0x100 + r.below(64),
            56 => REGION + layout::CONSTANT - 0x800 + r.below(64),
            57..=59 => REGION + 0x1_0000 - r.below(64),
            60 => REGION + layout::STACK + 16 * r.below(255),
            61 if self.mode == Mode::B64 => r.pick(&[
                0x8000_0000_0000,
                0x7fff_ffff_fff8,
                0xffff_7fff_ffff_fff8,
                0x1234_5678_9abc_def0,
                0xffff_8800_0000_0000,
            ]),
            _ => data + 16 * r.below(511),
        }
    }

    /// Puts `len` random bytes at `linear`, as far as the pages there can be written.
    fn patch(&mut self, linear: u64, len: u64) {
        let mut bytes = Vec::with_capacity(len as usize);
        while bytes.len() < len as usize {
            let value = if self.rng.one_in(6) {
                let (m, e) = values::extended(self.rng);
                u128::from(m) | u128::from(e) << 64
            } else {
                values::vector(self.rng)
            };
            bytes.extend(value.to_le_bytes());
        }
        bytes.truncate(len as usize);
        self.place(linear, &bytes);
    }

    fn place(&mut self, linear: u64, bytes: &[u8]) {
        let offset = linear.wrapping_sub(REGION);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.wrapping_add(done as u64);
            let n = (0x1000 - (at as usize & 0xfff)).min(bytes.len() - done);
            if layout::WRITABLE.contains(&(at & !0xfff)) {
                self.patches.push(Patch { at, bytes: bytes[done..done + n].to_vec() });
            }
            done += n;
        }
    }

    fn encode(&mut self) -> Option<()> {
        if self.form.info.encoding() == EncodingKind::VEX { self.encode_vex() } else { self.encode_legacy() }
    }

    fn has(&self, wanted: &[Kind]) -> bool {
        self.form.operands.iter().any(|k| wanted.contains(k))
    }

    /// The address size in bits, with its prefix if it needs one. ModRM and string operands take any.
    fn address_size(&mut self) -> u32 {
        let default = self.mode.bits();
        let fixed = self.form.info.address_size();
        let size = match fixed {
            0 if self.uses_memory() && self.rng.one_in(8) => match self.mode {
                Mode::B64 | Mode::B16 => 32,
                Mode::B32 => 16,
            },
            0 => default,
            n => n,
        };
        if size != default {
            self.bytes.push(0x67);
        }
        size
    }

    fn uses_memory(&self) -> bool {
        self.form.rm != Rm::Register
            || self.has(&[Kind::seg_rSI, Kind::es_rDI, Kind::seg_rDI, Kind::seg_rBX_al, Kind::mem_offs])
    }

    /// A segment override for a memory operand; returns the base of the segment in use.
    fn segment(&mut self, address_size: u32) -> u64 {
        let reachable = address_size != 16 || self.mode == Mode::B16;
        let one_in = if reachable { 8 } else { 1 };
        if !self.uses_memory() || !self.rng.one_in(one_in) || !reachable && self.rng.one_in(8) {
            return self.mode.base();
        }
        let prefix = if reachable { self.rng.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) } else { 0x64 };
        self.bytes.push(prefix);
        match prefix {
            0x64 => FS_BASE,
            0x65 => GS_BASE,
            _ => self.mode.base(),
        }
    }

    fn encode_legacy(&mut self) -> Option<()> {
        let info = self.form.info;
        let address_size = self.address_size();
        let segment_base = self.segment(address_size);
        let rex_w = self.operand_size()?;
        let in_memory = self.in_memory();
        self.lock_and_repeat(in_memory);
        self.bytes.extend(self.form.mandatory());
        let rex_at = self.bytes.len();
        let rex_b = self.opcode();
        let mut m = ModRm::default();
        if self.form.modrm && info.op_code_len() == 1 {
            m = self.modrm(in_memory, address_size, segment_base)?;
        }
        let at = self.bytes.len();
        self.bytes.extend(&m.bytes);
        let rex = 0x40 | u8::from(rex_w) << 3 | m.r << 2 | m.x << 1 | m.b | rex_b;
        let with_rex = self.long() && (rex != 0x40 || self.rng.one_in(4));
        if with_rex {
            self.bytes.insert(rex_at, rex);
        }
        if let Some((place, _)) = &mut self.relative {
            *place += at + usize::from(with_rex);
        }
        self.implied_memory(address_size, segment_base);
        self.immediates(address_size);
        Some(())
    }

    /// The operand-size prefix, if the form needs it, and REX.W. `None` where the mode has no such size.
    fn operand_size(&mut self) -> Option<bool> {
        let info = self.form.info;
        match (info.operand_size(), self.mode) {
            (16, Mode::B32 | Mode::B64) | (32, Mode::B16) => self.bytes.push(0x66),
            (64, _) => {
                let optional = info.default_op_size64() || info.force_op_size64();
                return Some(!optional || self.rng.one_in(4));
            }
            (32, Mode::B64) if info.default_op_size64() => return None,
            _ => {}
        }
        Some(false)
    }

    /// Whether the operand that can be either is in memory.
    fn in_memory(&mut self) -> bool {
        match self.form.rm {
            Rm::Memory => true,
            Rm::Register => false,
            Rm::Both => self.rng.one_in(2),
        }
    }

    fn lock_and_repeat(&mut self, in_memory: bool) {
        let info = self.form.info;
        if info.can_use_lock_prefix() && in_memory && self.rng.one_in(8) {
            self.bytes.push(0xf0);
        }
        let repeats = info.can_use_rep_prefix() || info.can_use_repne_prefix();
        if self.form.string && repeats && self.rng.one_in(2) {
            self.bytes.push(if self.rng.one_in(2) { 0xf2 } else { 0xf3 });
        }
    }

    /// The opcode with the register that some hold in their last byte; REX.B of that register.
    fn opcode(&mut self) -> u8 {
        self.bytes.extend(self.form.escape());
        let info = self.form.info;
        if info.op_code_len() == 2 {
            self.bytes.push((info.op_code() >> 8) as u8);
        }
        let (mut last, mut rex_b) = (info.op_code() as u8, 0);
        let on_stack = self.has(&[Kind::sti_opcode]);
        if on_stack || self.has(&[Kind::r8_opcode, Kind::r16_opcode, Kind::r32_opcode, Kind::r64_opcode]) {
            last += self.rng.below(8) as u8;
            if self.long() && !on_stack {
                rex_b = self.rng.below(2) as u8;
            }
        }
        self.bytes.push(last);
        rex_b
    }

    fn encode_vex(&mut self) -> Option<()> {
        let info = self.form.info;
        let address_size = self.address_size();
        let segment_base = self.segment(address_size);
        let in_memory = self.in_memory();
        let m = if self.form.modrm {
            self.modrm(in_memory, address_size, segment_base)?
        } else {
            ModRm::default()
        };
        let registers = if self.long() { 16 } else { 8 };
        let vvvv = if self.has(&[Kind::xmm_vvvv, Kind::ymm_vvvv, Kind::r32_vvvv, Kind::r64_vvvv]) {
            self.rng.below(registers) as u8
        } else {
            0
        };
        let w = if info.is_wig() { self.rng.below(2) as u8 } else { info.w() as u8 };
        let l = if info.is_lig() { self.rng.below(2) as u8 } else { info.l() as u8 };
        let pp = match self.form.mandatory() {
            Some(0x66) => 1,
            Some(0xf3) => 2,
            Some(0xf2) => 3,
            _ => 0,
        };
        let map = match self.form.escape() {
            [0x0f] => 1,
            [0x0f, 0x38] => 2,
            [0x0f, 0x3a] => 3,
            _ => return None,
        };
        let tail = (!vvvv & 15) << 3 | l << 2 | pp;
        if map == 1 && w == 0 && m.x == 0 && m.b == 0 && !self.rng.one_in(4) {
            self.bytes.extend([0xc5, (1 - m.r) << 7 | tail]);
        } else {
            self.bytes.extend([0xc4, (1 - m.r) << 7 | (1 - m.x) << 6 | (1 - m.b) << 5 | map, w << 7 | tail]);
        }
        self.bytes.push(info.op_code() as u8);
        let at = self.bytes.len();
        self.bytes.extend(&m.bytes);
        if let Some((place, _)) = &mut self.relative {
            *place += at;
        }
        self.implied_memory(address_size, segment_base);
        self.immediates(address_size);
        let third = self.has(&[Kind::xmm_is4, Kind::ymm_is4]);
        if let [.., last] = &mut self.bytes[..]
            && third
            && self.mode != Mode::B64
        {
            *last &= 0x7f;
        }
        Some(())
    }

    /// The `reg` field: a group's number or a register.
    fn reg_field(&mut self) -> u8 {
        let info = self.form.info;
        if info.is_group() {
            return info.group_index() as u8;
        }
        if self.has(&[Kind::seg_reg]) {
            return if self.rng.one_in(32) {
                self.rng.below(8) as u8
            } else {
                self.rng.pick(&[0, 2, 3, 4, 5])
            };
        }
        if self.has(&[Kind::cr_reg]) {
            return self.rng.pick(&[0, 2, 3, 4]);
        }
        self.register(self.has(&[Kind::mm_reg, Kind::dr_reg, Kind::tr_reg]))
    }

    fn register(&mut self, eight: bool) -> u8 {
        self.rng.below(if self.long() && !eight { 16 } else { 8 }) as u8
    }

    fn modrm(&mut self, in_memory: bool, address_size: u32, segment_base: u64) -> Option<ModRm> {
        let info = self.form.info;
        let reg = self.reg_field();
        let mut m = ModRm { r: reg >> 3, ..ModRm::default() };
        if !in_memory {
            let rm = if info.is_rm_group() {
                info.rm_group_index() as u8
            } else {
                self.register(self.has(&[Kind::mm_or_mem, Kind::mm_rm]))
            };
            m.b = rm >> 3;
            m.bytes.push(0xc0 | (reg & 7) << 3 | rm & 7);
            return Some(m);
        }
        let offset = self.target.wrapping_sub(segment_base);
        if address_size == 16 {
            self.memory16(reg, offset, &mut m);
        } else {
            self.memory(reg, offset, address_size, &mut m)?;
        }
        Some(m)
    }

    /// 16-bit addressing (Intel SDM vol. 2A, table 2-1).
    fn memory16(&mut self, reg: u8, offset: u64, m: &mut ModRm) {
        const PARTS: [(u8, Option<u8>); 8] = [
            (3, Some(6)),
            (3, Some(7)),
            (5, Some(6)),
            (5, Some(7)),
            (6, None),
            (7, None),
            (5, None),
            (3, None),
        ];
        let rm = self.rng.below(8) as u8;
        let kind = self.rng.below(3) as u8;
        let mut disp = self.rng.draw() as u16;
        if rm == 6 && kind == 0 {
            m.bytes.extend([(reg & 7) << 3 | 6, offset as u8, (offset >> 8) as u8]);
            return;
        }
        match kind {
            0 => disp = 0,
            1 => disp = disp as i8 as u16,
            _ => {}
        }
        let (first, second) = PARTS[usize::from(rm)];
        self.address_registers |= 1 << first | second.map_or(0, |s| 1 << s);
        let other = second.map_or(0, |s| self.state.gpr[usize::from(s)] as u16);
        let value = (offset as u16).wrapping_sub(disp).wrapping_sub(other);
        let r = &mut self.state.gpr[usize::from(first)];
        *r = *r & !0xffff | u64::from(value);
        m.bytes.push(kind << 6 | (reg & 7) << 3 | rm);
        m.bytes.extend(&disp.to_le_bytes()[..usize::from(kind)]);
    }

    fn set_address_register(&mut self, n: u8, value: u64, address_size: u32) {
        self.address_registers |= 1 << n;
        let r = &mut self.state.gpr[usize::from(n)];
        *r = match (address_size, self.mode) {
            (64, _) => value,
            // The address is cut to 32 bits: what lies above must not matter.
            (_, Mode::B64) => *r & !0xffff_ffff | value & 0xffff_ffff,
            _ => value & 0xffff_ffff,
        };
    }

    /// 32-bit and 64-bit addressing with ModRM and SIB.
    fn memory(&mut self, reg: u8, offset: u64, address_size: u32, m: &mut ModRm) -> Option<()> {
        let vsib = self.vsib();
        let small = self.form.operands.contains(&Kind::sibmem);
        if vsib.is_none() && !small && self.rng.one_in(8) {
            return self.absolute(reg, offset, address_size, m);
        }
        let mut base = self.register(false);
        if base == RSP && self.mode == Mode::B16 {
            // The upper half of ESP is the harness's.
            base = RBP;
        }
        let kind = self.rng.below(3) as u8;
        let disp = match kind {
            0 => 0,
            1 => i64::from(self.rng.draw() as i8),
            _ => i64::from(self.rng.draw() as i32 >> self.rng.below(31)),
        };
        // Without displacement RBP and R13 cannot be a base.
        let (kind, disp) = if kind == 0 && base & 7 == 5 { (1, 0) } else { (kind, disp) };
        let mut rest = offset.wrapping_sub(disp as u64);
        let with_sib = base & 7 == 4 || vsib.is_some() || self.rng.one_in(2);
        m.b = base >> 3;
        if with_sib {
            let scale = self.rng.below(4) as u8;
            let index = match vsib {
                Some(_) => self.register(false),
                None => self.register(false),
            };
            let none = vsib.is_none() && (index == 4 || index == base);
            let index = if none { 4 } else { index };
            m.x = index >> 3;
            if let Some(wide) = vsib {
                self.gather_indices(index, wide);
            } else if !none {
                if self.rng.one_in(2) {
                    let value = self.rng.draw() as i8 as u64;
                    self.set_address_register(index, value, address_size);
                }
                self.address_registers |= 1 << index;
                rest = rest.wrapping_sub(self.state.gpr[usize::from(index)] << scale);
            }
            m.bytes.extend([kind << 6 | (reg & 7) << 3 | 4, scale << 6 | (index & 7) << 3 | base & 7]);
        } else {
            m.bytes.push(kind << 6 | (reg & 7) << 3 | base & 7);
        }
        self.set_address_register(base, rest, address_size);
        match kind {
            1 => m.bytes.push(disp as u8),
            2 => m.bytes.extend((disp as i32).to_le_bytes()),
            _ => {}
        }
        Some(())
    }

    /// An address without a base: absolute, RIP-relative, or scaled index and displacement.
    fn absolute(&mut self, reg: u8, offset: u64, address_size: u32, m: &mut ModRm) -> Option<()> {
        let mode = (reg & 7) << 3;
        let near = offset as i64 == i64::from(offset as i32);
        if self.long() && self.rng.one_in(2) {
            self.relative = Some((1, offset));
            m.bytes.extend([mode | 5, 0, 0, 0, 0]);
            return (near && address_size >= 32).then_some(());
        }
        let index = self.register(false);
        let scale = self.rng.below(4) as u8;
        let mut rest = offset;
        if index != 4 {
            let value = self.rng.below(0x100);
            self.set_address_register(index, value, address_size);
            let value = self.state.gpr[usize::from(index)];
            rest = rest.wrapping_sub(value << scale);
        }
        m.x = index >> 3;
        if !self.long() && self.rng.one_in(2) && index == 4 {
            m.bytes.push(mode | 5);
        } else {
            m.bytes.extend([mode | 4, scale << 6 | (index & 7) << 3 | 5]);
        }
        m.bytes.extend((rest as i32).to_le_bytes());
        near.then_some(())
    }

    /// Whether the memory operand is a vector of addresses, and whether their indices are of 64 bits.
    fn vsib(&self) -> Option<bool> {
        self.form.operands.iter().find_map(|k| match k {
            Kind::mem_vsib32x | Kind::mem_vsib32y => Some(false),
            Kind::mem_vsib64x | Kind::mem_vsib64y => Some(true),
            _ => None,
        })
    }

    /// Indices that keep a gather close to its base.
    fn gather_indices(&mut self, register: u8, wide: bool) {
        for half in [image::XMM, image::YMM] {
            let at = half + 16 * usize::from(register);
            for lane in 0..2 {
                let a = i64::from(self.rng.draw() as i8);
                let b = i64::from(self.rng.draw() as i8);
                let value = if wide { a as u64 } else { u64::from(a as u32) | u64::from(b as u32) << 32 };
                self.state.fpu.set64(at + 8 * lane, value);
            }
        }
    }

    /// Registers of operands that no ModRM byte names.
    fn implied_memory(&mut self, address_size: u32, segment_base: u64) {
        if self.has(&[Kind::seg_rSI]) {
            let target = self.target.wrapping_sub(segment_base);
            self.set_short_register(6, target, address_size);
        }
        if self.has(&[Kind::seg_rDI]) {
            let target = self.target.wrapping_sub(segment_base);
            self.set_short_register(7, target, address_size);
        }
        if self.has(&[Kind::es_rDI]) {
            let target = if self.has(&[Kind::seg_rSI]) {
                let t = self.memory_target();
                self.patch(t, 64);
                t
            } else {
                self.target
            };
            let offset = target.wrapping_sub(self.mode.base());
            self.set_short_register(7, offset, address_size);
        }
        if self.form.string {
            let count = if self.rng.one_in(32) { self.rng.below(200) } else { self.rng.below(12) };
            self.set_short_register(1, count, address_size);
        }
        if self.has(&[Kind::seg_rBX_al]) {
            let target = self.target.wrapping_sub(segment_base);
            self.set_short_register(3, target, address_size);
        }
        if self.has(&[Kind::mem_offs]) {
            let offset = self.target.wrapping_sub(segment_base).to_le_bytes();
            self.bytes.extend(&offset[..address_size as usize / 8]);
        }
    }

    fn set_short_register(&mut self, n: u8, value: u64, address_size: u32) {
        if address_size == 16 {
            let r = &mut self.state.gpr[usize::from(n)];
            *r = *r & !0xffff | value & 0xffff;
        } else {
            self.set_address_register(n, value, address_size);
        }
    }

    fn immediates(&mut self, _: u32) {
        for k in self.form.operands.clone() {
            let size = match k {
                Kind::imm8 | Kind::imm8sex16 | Kind::imm8sex32 | Kind::imm8sex64 => 1,
                Kind::br16_1 | Kind::br32_1 | Kind::br64_1 | Kind::xmm_is4 | Kind::ymm_is4 => 1,
                Kind::imm16 | Kind::br16_2 => 2,
                Kind::imm32 | Kind::imm32sex64 | Kind::br32_4 | Kind::br64_4 => 4,
                Kind::imm64 => 8,
                Kind::farbr2_2 | Kind::farbr4_2 => {
                    self.far_pointer(if k == Kind::farbr2_2 { 2 } else { 4 });
                    continue;
                }
                _ => continue,
            };
            let mut value = values::integer(self.rng);
            if matches!(k, Kind::br16_2 | Kind::br32_4 | Kind::br64_4) && !self.rng.one_in(4) {
                value = self.rng.draw() as i8 as u64;
            }
            if self.form.code.mnemonic() == Mnemonic::Enter {
                value &= if size == 2 && !self.rng.one_in(8) { 0x7f } else { u64::MAX };
            }
            self.bytes.extend(&value.to_le_bytes()[..size]);
        }
    }

    fn far_pointer(&mut self, size: usize) {
        let offset = (REGION + layout::CODE + self.rng.below(0x1000)).to_le_bytes();
        self.bytes.extend(&offset[..size]);
        let selector = self.selector();
        self.bytes.extend(selector.to_le_bytes());
    }

    /// What some instructions want of their operands lest they always fault, or reach too far.
    fn special_operands(&mut self) {
        let m = self.form.code.mnemonic();
        match m {
            Mnemonic::Enter | Mnemonic::Leave => {
                self.state.gpr[usize::from(RBP)] = self.stack_pointer();
            }
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => self.bit_offset(),
            Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
            | Mnemonic::Fxrstor
            | Mnemonic::Fxrstor64 => {
                // The host has more components than the model.
                self.state.gpr[0] &= 7;
                self.state.gpr[2] = 0;
                self.save_image();
            }
            Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr => {
                let value = mxcsr(self.rng);
                let target = self.target;
                self.place(target, &value.to_le_bytes());
            }
            Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lss | Mnemonic::Lfs | Mnemonic::Lgs => {
                let at = self.target + u64::from(self.form.info.operand_size() / 8);
                let selector = self.selector();
                self.place(at, &selector.to_le_bytes());
            }
            _ if self.form.step => self.branch_operands(),
            _ => {}
        }
    }

    /// A valid-looking FXSAVE or XSAVE image under the memory operand.
    fn save_image(&mut self) {
        let mut image = fpu_image(self.rng);
        image.0[super::case::image::HEADER] = self.rng.below(8) as u8;
        if self.rng.one_in(32) {
            let at = super::case::image::HEADER + self.rng.below(64) as usize;
            image.0[at] ^= 1 << self.rng.below(8);
        }
        let target = self.target;
        self.place(target, &image.0);
    }

    /// Bit strings reach a sixteenth of their offset's range in either direction: keeps them near.
    fn bit_offset(&mut self) {
        for r in 0..16u16 {
            if self.address_registers >> r & 1 == 0 && r != 4 && self.state.gpr[usize::from(r)] != 0 {
                let value = i64::from(self.rng.draw() as i16 >> 2);
                let mask = if self.long() { u64::MAX } else { 0xffff_ffff };
                self.state.gpr[usize::from(r)] = value as u64 & mask;
            }
        }
    }

    /// Targets and selectors for what branches, returns and loads segments.
    fn branch_operands(&mut self) {
        let target = REGION + layout::CODE + self.rng.below(0x1000) - self.mode.base();
        let selector = u64::from(self.selector());
        for r in 0..8usize {
            if r != 4 && self.address_registers >> r & 1 == 0 && self.rng.one_in(2) {
                self.state.gpr[r] = if self.rng.one_in(2) { target } else { selector };
            }
        }
        let size = match self.form.info.operand_size() {
            0 => self.mode.bits() / 8,
            n => n / 8,
        };
        if self.rng.one_in(4) {
            return;
        }
        let frame = [
            target,
            selector,
            self.rng.draw() & 0x3f_ffff & !0x4000,
            self.state.gpr[4],
            self.data_selector(),
        ];
        let bytes: Vec<u8> = frame.iter().flat_map(|v| v.to_le_bytes()[..size as usize].to_vec()).collect();
        let (at, sp) = (self.target, REGION | self.state.gpr[4] & 0xffff);
        if self.uses_memory() {
            self.place(at, &bytes);
        } else {
            self.place(sp, &bytes);
        }
    }

    fn data_selector(&mut self) -> u64 {
        if self.rng.one_in(4) { self.selector().into() } else { self.mode.segments()[2].into() }
    }

    fn finish(mut self) -> Case {
        let len = self.bytes.len().min(16);
        let offset = if self.state.rflags & TF != 0 && self.rng.one_in(4) {
            let past = if self.rng.one_in(4) { self.rng.below(len as u64) } else { 0 };
            0x1000 - len as u64 + past
        } else {
            0x800 + self.rng.below(0x400)
        };
        self.state.rip = REGION + layout::CODE + offset - self.mode.base();
        if let Some((at, target)) = self.relative {
            let disp = target.wrapping_sub(self.state.rip + len as u64) as u32;
            self.bytes[at..at + 4].copy_from_slice(&disp.to_le_bytes());
        }
        let mut bytes = [0xcc; 16];
        bytes[..len].copy_from_slice(&self.bytes[..len]);
        Case {
            mode: self.mode,
            bytes,
            len: len as u8,
            state: self.state,
            patches: self.patches,
            fpu: self.form.fpu,
        }
    }
}

impl Builder<'_> {
    /// A selector. Not 64-bit code from 16-bit code: there a far call pushes by all 64 bits of RSP, and any interrupt
    /// leaves the kernel's own (its 16-bit stack workaround) in the upper ones.
    fn selector(&mut self) -> u16 {
        let selector = random_selector(self.rng);
        let far = self.mode == Mode::B16 && selector & !3 == selector::CODE64 & !3;
        if far { selector::CODE32 } else { selector }
    }
}

fn random_selector(rng: &mut Random) -> u16 {
    match rng.below(8) {
        0 => rng.draw() as u16,
        1 => rng.below(4) as u16,
        2 => (rng.below(0x20) as u16) << 3 | 3,
        _ => rng.pick(&[
            selector::CODE32,
            selector::DATA,
            selector::CODE64,
            selector::CODE16,
            selector::DATA16,
            selector::FS,
            selector::GS,
            selector::DATA16 & !3 | 4,
            selector::DATA & !3,
        ]),
    }
}

/// MXCSR: mostly everything masked, every rounding mode, FTZ and DAZ, sticky flags.
fn mxcsr(rng: &mut Random) -> u32 {
    let r = rng.draw() as u32;
    let masks = if rng.one_in(6) { r & 0x1f80 } else { 0x1f80 };
    let sticky = if rng.one_in(2) { r >> 16 & 0x3f } else { 0 };
    let rounding = if rng.one_in(2) { r >> 8 & 0x6000 } else { 0 };
    let special = if rng.one_in(2) { r >> 4 & 0x8040 } else { 0 };
    masks | sticky | rounding | special
}

/// Random x87, SSE and AVX state.
pub fn fpu_image(rng: &mut Random) -> FpuImage {
    let mut f = FpuImage::initial();
    let r = rng.draw();
    let masks = if rng.one_in(6) { r as u16 & 0x3f } else { 0x3f };
    let precision = if rng.one_in(2) { 0x300 } else { rng.pick(&[0, 0x200, 0x300]) };
    let control = 0x40 | masks | precision | (r >> 8) as u16 & 0xc00;
    f.set16(image::FCW, control);
    // Flags that are set while unmasked would make every waiting instruction fault: rarely.
    let sticky = (r >> 16) as u16 & 0x7f & if rng.one_in(16) { 0x7f } else { masks | 0x40 };
    let summary = if sticky & !control & 0x3f != 0 { 0x8080 } else { 0 };
    let conditions = (r >> 32) as u16 & 0x4700;
    let top = (rng.below(8) as u16) << 11;
    f.set16(image::FSW, sticky | summary | conditions | top);
    f.0[image::FTW] = match rng.below(4) {
        0 => rng.draw() as u8,
        1 => !(1 << rng.below(8)),
        _ => 0xff,
    };
    f.set16(image::FOP, (r >> 48) as u16 & 0x7ff);
    f.set64(image::FIP, rng.draw() & 0xffff_ffff);
    f.set64(image::FDP, rng.draw() & 0xffff_ffff);
    f.set32(image::MXCSR, mxcsr(rng));
    for n in 0..8 {
        let (m, e) = values::extended(rng);
        f.set64(image::ST + 16 * n, m);
        f.set16(image::ST + 16 * n + 8, e);
    }
    for n in 0..16 {
        let (low, high) = (values::vector(rng), values::vector(rng));
        f.0[image::XMM + 16 * n..][..16].copy_from_slice(&low.to_le_bytes());
        f.0[image::YMM + 16 * n..][..16].copy_from_slice(&high.to_le_bytes());
    }
    f
}
