//! The look into the jump table: which region a linear address begins, if it is known.

use crate::emit::code::{Code, at};
use crate::job::Env;
use aero_cpu::jit::{JUMP_ENTRIES, JumpEntry};
use core::mem::offset_of;

/// The bits of a linear address in a tag.
const ADDRESS: i64 = 0xffff_ffff_ffff;

/// Sets `entry` (I32) to the offset in the table of the entry for the linear address in `to` (I64), and puts its tag and
/// that which it should have on the stack.
pub(super) fn look(code: &mut Code, env: &Env, to: u32, entry: u32, mode: u64) {
    entry_tag(code, env, to, entry);
    code.put().local_get(to).i64_const(ADDRESS).i64_and().i64_const((mode << 48) as i64).i64_or();
}

/// The same for a mode in a local, already in the place that it has in tags.
pub(super) fn look_for(code: &mut Code, env: &Env, to: u32, entry: u32, mode: u32) {
    entry_tag(code, env, to, entry);
    code.put().local_get(to).i64_const(ADDRESS).i64_and().local_get(mode).i64_or();
}

fn entry_tag(code: &mut Code, env: &Env, to: u32, entry: u32) {
    let mask = (JUMP_ENTRIES - 1) as i32;
    let size = size_of::<JumpEntry>() as i32;
    code.put().local_get(to).local_get(to).i64_const(12).i64_shr_u().i64_xor().i32_wrap_i64();
    code.put().i32_const(mask).i32_and().i32_const(size).i32_mul().local_tee(entry);
    code.put().i64_load(at(env.jumps + offset_of!(JumpEntry, tag) as u32, 3));
}

/// Replaces an entry's offset on the stack by its function.
pub(super) fn function(code: &mut Code, env: &Env) {
    code.put().i32_load(at(env.jumps + offset_of!(JumpEntry, function) as u32, 2));
}
