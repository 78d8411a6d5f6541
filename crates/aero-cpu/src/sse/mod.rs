//! MMX and SSE.
use crate::{bind::EaKind, op::Run};
/// Picks the handler.
pub fn bind(_insn: &aero_x86::Insn, _ea: EaKind) -> Option<Run> { None }
