//! Random loops of SSE, interpreted and compiled: registers, MXCSR and memory must be the same at each exit.

mod pair;

use aero_cpu::state::CpuState;
use aero_x86::cpuid::MAX;
use aero_x86::{CodeSize, MAX_LEN, Operand, decode};
use pair::{Kind, Random, campaign};

impl Random {
    /// Mostly numbers, of both formats, now and then what they must not be.
    fn word(&mut self) -> u64 {
        let double = (self.below(2000) as f64 - 1000.0) / [1.0, 8.0, 10.0, 3.0][self.below(4) as usize];
        let single = |x: f64| u64::from((x as f32).to_bits());
        match self.below(16) {
            0 => self.next(),
            1 => 0,
            2 => 0x7ff0_0000_7f80_0000 | self.next() & 0x000f_ffff_007f_ffff,
            3 => self.next() & 0x800f_ffff_807f_ffff,
            4..10 => double.to_bits(),
            _ => single(double) | single(double * 0.5) << 32,
        }
    }
}

/// An SSE instruction over XMM0 to XMM7 and memory at RSI, which changes no general register but EAX and EDX.
fn instruction(r: &mut Random, long: bool) -> Vec<u8> {
    let size = if long { CodeSize::B64 } else { CodeSize::B32 };
    loop {
        let mut bytes: Vec<u8> =
            [None, Some(0x66), Some(0xf3), Some(0xf2)][r.below(4) as usize].into_iter().collect();
        bytes.push(0x0f);
        // Half of the time arithmetic.
        match r.below(8) {
            0 => bytes.extend([0x38, r.below(0x42) as u8]),
            1 => bytes.extend([0x3a, 0x08 + r.below(0x1a) as u8]),
            2..6 => bytes.push(0x51 + r.below(15) as u8),
            _ => bytes.push(r.next() as u8),
        }
        // A register, or memory within the data, mostly aligned.
        let reg = (r.below(8) as u8) << 3;
        if r.below(3) > 0 {
            bytes.push(0xc0 | reg | r.below(8) as u8);
        } else {
            let at = (r.below(7) * 16 + if r.below(16) == 0 { r.below(16) } else { 0 }) as u8;
            bytes.extend([0x40 | reg | 6, at]);
        }
        bytes.push(r.next() as u8);
        let mut padded = bytes.clone();
        padded.resize(MAX_LEN, 0);
        let Ok(insn) = decode(&padded, size, MAX.features) else { continue };
        let used = &insn.operands[..insn.count.into()];
        let ours = used.iter().any(|o| matches!(o, Operand::Xmm(_)));
        let fine = used.iter().all(|o| match o {
            Operand::Mm(_) | Operand::Ymm(_) | Operand::Implied => false,
            Operand::Gpr { reg, .. } => matches!(reg, 0 | 2),
            _ => true,
        });
        let len = usize::from(insn.len);
        if ours && fine && !insn.vex && len <= bytes.len() && !format!("{:?}", insn.mnemonic).contains("str")
        {
            return bytes[..len].to_vec();
        }
    }
}

/// `mov ecx, n; top: .. ; dec ecx; jnz top; hlt`, with a branch over some of it.
fn program(r: &mut Random, long: bool) -> Vec<u8> {
    let mut code = vec![0xb9, 3 + r.below(20) as u8, 0, 0, 0];
    let top = code.len();
    for _ in 0..1 + r.below(12) {
        let next = instruction(r, long);
        if r.below(6) == 0 {
            code.extend([0x70 | r.below(16) as u8, next.len() as u8]);
        }
        code.extend(next);
    }
    code.extend([0xff, 0xc9, 0x0f, 0x85]);
    let back = top as i64 - (code.len() as i64 + 4);
    code.extend((back as i32).to_le_bytes());
    code.push(0xf4);
    code
}

/// Loops of SSE.
struct Sse;

impl Kind for Sse {
    fn program(r: &mut Random, long: bool) -> Vec<u8> {
        program(r, long)
    }

    fn data(r: &mut Random) -> Vec<u8> {
        (0..0x20).flat_map(|_| r.word().to_le_bytes()).collect()
    }

    fn start(st: &mut CpuState, r: &mut Random, _: bool) {
        for n in 0..8 {
            st.xmm[n] = [r.word(), r.word()];
        }
        st.mxcsr = [0x1fa0, 0x1f80, 0x1fa0, 0x9fe0 | (r.below(4) as u32) << 13][r.below(4) as usize];
    }

    fn seen(st: &CpuState) -> Vec<u64> {
        st.xmm.into_iter().flatten().chain([st.mxcsr.into()]).collect()
    }
}

fn alike(long: bool) {
    let (count, tally) = campaign::<Sse>(long, 200);
    assert!(tally.installed > count / 2 && tally.instructions > 20 * count, "{tally:?}");
}

#[test]
fn loops_of_64_bits_run_alike() {
    alike(true);
}

#[test]
fn loops_of_32_bits_run_alike() {
    alike(false);
}
