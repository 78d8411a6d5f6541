//! MONITOR and MWAIT.
//!
//! MWAIT after MONITOR halts like HLT, when interrupts are enabled: the only writers of the monitored line are this
//! processor, which has stopped, and devices, which interrupt when they are done. Anything delivered between the two
//! (whose handler may have written the line) disarms the monitor, and MWAIT then goes on at once, as it may at any time;
//! with interrupts off it always goes on, since a device's write would be all that could end the wait.
//! (Intel SDM vol. 2B, MONITOR and MWAIT; vol. 3, 9.10.)

use super::{Op, Run};
use crate::state::{eflags, reg};
use crate::vcpu::{Stop, Vcpu};
use aero_x86::{Insn, Mnemonic};

/// Picks the handler, and whether it ends its block.
pub fn bind(insn: &Insn, op: &mut Op) -> Option<(Run, bool)> {
    match insn.mnemonic {
        Mnemonic::Monitor => {
            op.set_segment(insn.string_segment);
            Some((monitor, false))
        }
        Mnemonic::Mwait => Some((mwait, true)),
        _ => None,
    }
}

/// #UD above CPL 0, #GP(0) for extensions in ECX, of which there are none.
fn check(v: &mut Vcpu<'_>) -> Result<(), Stop> {
    if v.st.cpl != 0 {
        return Err(v.ud());
    }
    let mask = if v.st.code64() { u64::MAX } else { 0xffff_ffff };
    if v.st.gpr(reg::RCX) & mask != 0 { Err(v.gp(0)) } else { Ok(()) }
}

fn monitor(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    check(v)?;
    let la = v.linear(op.segment(), v.st.gpr(reg::RAX) & op.address_mask(), 1, false)?;
    v.probe_read(la, 1)?;
    v.core.monitoring = true;
    Ok(())
}

fn mwait(v: &mut Vcpu<'_>, op: &Op) -> Result<(), Stop> {
    check(v)?;
    let waits = v.core.monitoring && v.st.eflags & eflags::IF != 0;
    v.core.monitoring = false;
    if waits {
        return Err(Stop::Halt);
    }
    v.st.rip = v.next_rip(op);
    Err(Stop::Branch)
}
