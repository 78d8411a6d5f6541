//! The host's processor as an oracle: runs one instruction of user code and tells what it did.
//!
//! A page at a fixed low address, [`Control`], is shared between Rust and the assembly below. `aero_fuzz_enter` saves
//! the harness's registers, loads the case's (x87, SSE and AVX state only where the case asks for it) and enters the
//! case with IRETQ, which sets CS, SS, RSP, RIP and RFLAGS at once: 64-bit, 32-bit (the kernel's compatibility segment)
//! and 16-bit code (a local descriptor) alike, single-stepped where TF is set. It comes back
//!
//! * by the jump that lies behind the instruction, to `aero_fuzz_exit`, which stores the registers, or
//! * by a signal: an exception or the single-step trap. The handler takes the state out of the signal frame and
//!   never returns to it.
//!
//! The bytes of the exit jump's address and everything behind it are CCh, so that an instruction that the processor
//! takes to be longer than expected runs into INT3.
//!
//! All this owns its process: signal handlers, FS base, local descriptor table. Callers fork first.

#![allow(
    unsafe_code,
    reason = "executes generated machine code on the host processor, with signals as the way out"
)]

use super::case::{Case, Mode, Outcome, State, Trap, XSAVE_SIZE};
use super::layout::{self, FS_BASE, GS_BASE, REGION, selector};
use core::arch::{asm, global_asm};
use core::ffi::{c_int, c_void};
use core::mem::offset_of;

/// The control block's address. Its exit pointer lies at `..4CCC`.
const CONTROL: u64 = 0x10cc_4000;
/// The page of code that 32-bit and 16-bit cases come back to, likewise.
const LANDING: u64 = 0x10cd_c000;
const LANDING_AT: u64 = 0x10cd_cccc;
/// Bits 31:16 of the stack pointer that IRETQ leaves alone on its way to a 16-bit stack segment.
pub const UPPER_STACK: u64 = CONTROL & 0xffff_0000;
const EXIT_SLOT: u64 = 0x10cc_4ccc;

/// What Rust and assembly share.
#[repr(C)]
struct Control {
    gpr: [u64; 16],
    /// RIP, CS, RFLAGS, RSP, SS for IRETQ.
    frame: [u64; 5],
    fs_base: u64,
    gs_base: u64,
    host_fs_base: u64,
    host_rsp: u64,
    use_fpu: u64,
    /// The case runs in 32-bit or 16-bit code and has segment registers of its own.
    use_segments: u64,
    /// ES, CS, SS, DS, FS, GS.
    segments: [u64; 6],
    running: u64,
    /// Alarms since the case began.
    ticks: u64,
    exception: u64,
    error: u64,
    cr2: u64,
    out_gpr: [u64; 16],
    out_rip: u64,
    out_flags: u64,
    out_segments: [u64; 6],
    host_mxcsr: u32,
    fpu: Image,
    out_fpu: Image,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Image([u8; XSAVE_SIZE]);

const _: () = assert!(size_of::<Control>() < 0xccc);

global_asm!(
    r#"
    .globl aero_fuzz_enter
    .p2align 4
aero_fuzz_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [{base} + {host_rsp}], rsp
    cmp qword ptr [{base} + {use_fpu}], 0
    je 1f
    mov eax, 7
    xor edx, edx
    xrstor64 [{base} + {fpu}]
1:
    cmp qword ptr [{base} + {use_segments}], 0
    je 2f
    mov fs, word ptr [{base} + {segments} + 32]
    mov gs, word ptr [{base} + {segments} + 40]
    mov ds, word ptr [{base} + {segments} + 24]
    mov es, word ptr [{base} + {segments}]
    jmp 3f
2:
    mov rax, [{base} + {fs_base}]
    wrfsbase rax
    mov rax, [{base} + {gs_base}]
    wrgsbase rax
3:
    mov rsp, {base} + {frame}
    mov rax, [{base} + {gpr}]
    mov rcx, [{base} + {gpr} + 8]
    mov rdx, [{base} + {gpr} + 16]
    mov rbx, [{base} + {gpr} + 24]
    mov rbp, [{base} + {gpr} + 40]
    mov rsi, [{base} + {gpr} + 48]
    mov rdi, [{base} + {gpr} + 56]
    mov r8, [{base} + {gpr} + 64]
    mov r9, [{base} + {gpr} + 72]
    mov r10, [{base} + {gpr} + 80]
    mov r11, [{base} + {gpr} + 88]
    mov r12, [{base} + {gpr} + 96]
    mov r13, [{base} + {gpr} + 104]
    mov r14, [{base} + {gpr} + 112]
    mov r15, [{base} + {gpr} + 120]
    mov qword ptr [{base} + {running}], 1
    iretq

    .globl aero_fuzz_exit
    .p2align 4
aero_fuzz_exit:
    mov [{base} + {out_gpr}], rax
    mov [{base} + {out_gpr} + 8], rcx
    mov [{base} + {out_gpr} + 16], rdx
    mov [{base} + {out_gpr} + 24], rbx
    mov [{base} + {out_gpr} + 32], rsp
    mov [{base} + {out_gpr} + 40], rbp
    mov [{base} + {out_gpr} + 48], rsi
    mov [{base} + {out_gpr} + 56], rdi
    mov [{base} + {out_gpr} + 64], r8
    mov [{base} + {out_gpr} + 72], r9
    mov [{base} + {out_gpr} + 80], r10
    mov [{base} + {out_gpr} + 88], r11
    mov [{base} + {out_gpr} + 96], r12
    mov [{base} + {out_gpr} + 104], r13
    mov [{base} + {out_gpr} + 112], r14
    mov [{base} + {out_gpr} + 120], r15
    mov rsp, [{base} + {host_rsp}]
    pushfq
    pop [{base} + {out_flags}]
    push 2
    popfq
    mov qword ptr [{base} + {running}], 0
    cmp qword ptr [{base} + {use_fpu}], 0
    je 1f
    mov eax, 7
    xor edx, edx
    xsave64 [{base} + {out_fpu}]
    fninit
    ldmxcsr [{base} + {host_mxcsr}]
    vzeroupper
1:
    cmp qword ptr [{base} + {use_segments}], 0
    je 2f
    mov eax, {data}
    mov ss, eax
    mov ds, eax
    mov es, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
2:
    mov rax, [{base} + {host_fs_base}]
    wrfsbase rax
    xor eax, eax
    wrgsbase rax
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .p2align 4
aero_fuzz_signal:
    cmp edi, {alarm}
    jne 5f
    cmp qword ptr [{base} + {running}], 0
    je 6f
    inc qword ptr [{base} + {ticks}]
    cmp qword ptr [{base} + {ticks}], {patience}
    jae 5f
6:
    ret
5:
    push 2
    popfq
    mov rax, [{base} + {host_fs_base}]
    wrfsbase rax
    cmp qword ptr [{base} + {running}], 0
    je 4f
    mov eax, es
    mov [{base} + {out_segments}], rax
    mov eax, ds
    mov [{base} + {out_segments} + 24], rax
    mov eax, fs
    mov [{base} + {out_segments} + 32], rax
    mov eax, gs
    mov [{base} + {out_segments} + 40], rax
    mov eax, {data}
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rax, [{base} + {host_fs_base}]
    wrfsbase rax
    sub rsp, 8
    call {handler}
    mov rsp, [{base} + {host_rsp}]
    mov qword ptr [{base} + {running}], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
4:
    sub rsp, 8
    call {stray}
    ud2
"#,
    base = const CONTROL,
    host_rsp = const offset_of!(Control, host_rsp),
    use_fpu = const offset_of!(Control, use_fpu),
    use_segments = const offset_of!(Control, use_segments),
    fpu = const offset_of!(Control, fpu),
    segments = const offset_of!(Control, segments),
    fs_base = const offset_of!(Control, fs_base),
    gs_base = const offset_of!(Control, gs_base),
    frame = const offset_of!(Control, frame),
    gpr = const offset_of!(Control, gpr),
    running = const offset_of!(Control, running),
    out_gpr = const offset_of!(Control, out_gpr),
    out_flags = const offset_of!(Control, out_flags),
    out_fpu = const offset_of!(Control, out_fpu),
    out_segments = const offset_of!(Control, out_segments),
    host_mxcsr = const offset_of!(Control, host_mxcsr),
    host_fs_base = const offset_of!(Control, host_fs_base),
    data = const selector::DATA as u32,
    handler = sym take_signal,
    stray = sym stray_signal,
    alarm = const libc::SIGALRM,
    ticks = const offset_of!(Control, ticks),
    patience = const PATIENCE,
);

unsafe extern "C" {
    fn aero_fuzz_enter();
    fn aero_fuzz_exit();
    fn aero_fuzz_signal();
}

/// A case that lives through so many alarms is ended.
const PATIENCE: u64 = 3;
/// The vector that such a case reports.
pub const HANGS: u8 = 0xfe;
const NO_EXCEPTION: u64 = u64::MAX;

/// Copies the case's state out of the signal frame.
extern "C" fn take_signal(signal: c_int, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel gives a complete frame, and the control block is ours: the case is over.
    unsafe {
        let (c, g) = (&mut *control(), &(*context).uc_mcontext.gregs);
        let at = |n: c_int| g[n as usize] as u64;
        c.exception = if signal == libc::SIGALRM { HANGS.into() } else { at(libc::REG_TRAPNO) };
        c.error = at(libc::REG_ERR);
        c.cr2 = at(libc::REG_CR2);
        const ORDER: [c_int; 16] = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        for (to, from) in c.out_gpr.iter_mut().zip(ORDER) {
            *to = at(from);
        }
        c.out_rip = at(libc::REG_RIP);
        c.out_flags = at(libc::REG_EFL);
        let selectors = at(libc::REG_CSGSFS);
        c.out_segments[1] = selectors & 0xffff;
        c.out_segments[2] = selectors >> 48;
        if c.use_fpu != 0 {
            let image = (*context).uc_mcontext.fpregs.cast::<u8>();
            c.out_fpu.0.as_mut_ptr().copy_from_nonoverlapping(image, XSAVE_SIZE);
        }
    }
}

/// A signal that no case caused: the harness itself is broken, or its memory.
extern "C" fn stray_signal(signal: c_int, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) -> ! {
    // SAFETY: as in `take_signal`.
    let (rip, cr2) = unsafe {
        let g = &(*context).uc_mcontext.gregs;
        (g[libc::REG_RIP as usize], g[libc::REG_CR2 as usize])
    };
    let base = aero_fuzz_enter as *const () as i64;
    eprintln!("signal {signal} in the harness at {rip:#x} (entry {base:#x}), address {cr2:#x}");
    // SAFETY: ends the process.
    unsafe { libc::_exit(3) }
}

fn control() -> *mut Control {
    CONTROL as *mut Control
}

/// The harness. One per process.
pub struct Native {
    /// The region's pages, all writable, at an address of the kernel's choosing.
    alias: *mut u8,
    /// Where the last case's code was.
    placed: core::cell::Cell<usize>,
}

impl Native {
    /// Takes the process over.
    ///
    /// # Errors
    /// When the kernel refuses a mapping or a descriptor.
    pub fn new() -> anyhow::Result<Self> {
        let alias = map_region()?;
        map_control()?;
        for (n, code, base, limit, big) in [
            (0, true, REGION, 0xffff, false),
            (1, false, REGION, 0xffff, false),
            (2, false, FS_BASE, 0xf_ffff, true),
            (3, false, GS_BASE, 0xf_ffff, true),
        ] {
            install_descriptor(n, code, base as u32, limit, big)?;
        }
        catch_signals()?;
        let native = Self { alias, placed: core::cell::Cell::new(0) };
        for page in layout::PAGES {
            native.page_mut(page).copy_from_slice(&layout::background(page));
        }
        native.page_mut(layout::CODE).fill(0xcc);
        for page in layout::PAGES {
            // The first access to a page is a page fault of its own, which must not be a case's.
            // SAFETY: the page is mapped readable at its place.
            unsafe { ((REGION + page) as *const u8).read_volatile() };
        }
        Ok(native)
    }

    /// A page of the region.
    #[expect(clippy::mut_from_ref, reason = "the pages are the case's memory, not this object's")]
    pub fn page_mut(&self, offset: u64) -> &mut [u8; 0x1000] {
        // SAFETY: the alias maps the whole region, and callers hold one page at a time.
        unsafe { &mut *self.alias.add(offset as usize).cast() }
    }

    /// Runs `case` and leaves the state after it in `out`. Memory must have been set up.
    pub fn run(&self, case: &Case, out: &mut State) -> Outcome {
        self.place_code(case);
        // SAFETY: the control block is mapped and nothing runs; the assembly keeps its promises to the compiler (it
        // saves the registers of the calling convention), and the case's code can reach neither this process's stack
        // nor its heap: the generator sees to that.
        unsafe {
            let c = &mut *control();
            c.gpr = case.state.gpr;
            let cs = u64::from(case.mode.code_selector());
            let ss = u64::from(case.state.segments[2]);
            let sp = case.state.gpr[4];
            c.frame = [case.state.rip, cs, case.state.rflags | 0x202, sp, ss];
            c.use_fpu = case.fpu.into();
            c.use_segments = (case.mode != Mode::B64).into();
            for (to, from) in c.segments.iter_mut().zip(case.state.segments) {
                *to = from.into();
            }
            if case.fpu {
                c.fpu.0 = case.state.fpu.0;
            }
            c.exception = NO_EXCEPTION;
            c.ticks = 0;
            asm!("call {}", sym aero_fuzz_enter, clobber_abi("C"));
            out.gpr = c.out_gpr;
            out.rflags = c.out_flags;
            out.segments = case.state.segments;
            if case.fpu {
                out.fpu.0 = c.out_fpu.0;
            }
            if c.exception == NO_EXCEPTION {
                out.rip = case.state.rip.wrapping_add(case.len.into());
                return Outcome::Done;
            }
            out.rip = c.out_rip;
            for (to, from) in out.segments.iter_mut().zip(c.out_segments) {
                *to = from as u16;
            }
            Outcome::Trap(Trap { vector: c.exception as u8, error: c.error as u32, cr2: c.cr2 })
        }
    }

    /// Writes the instruction and the way back into the code page, the rest INT3.
    fn place_code(&self, case: &Case) {
        let page = self.page_mut(layout::CODE);
        let at = case.offset();
        let last = self.placed.replace(at);
        let end = (last + PLACED).min(page.len());
        page[last..end].fill(0xcc);
        let (bytes, len) = placed_code(case);
        let len = len.min(page.len() - at);
        page[at..at + len].copy_from_slice(&bytes[..len]);
    }
}

/// Bytes that a case takes in the code page at most.
pub const PLACED: usize = 24;

/// The instruction with the way back behind it (not where it is single-stepped), and how many bytes that is. Aero gets
/// the same, though it needs no way back: cases may read their own surroundings.
pub fn placed_code(case: &Case) -> ([u8; PLACED], usize) {
    let mut bytes = [0xcc; PLACED];
    let len = usize::from(case.len);
    bytes[..len].copy_from_slice(case.code());
    if case.stepping() {
        return (bytes, len);
    }
    let back = &mut bytes[len..len + 8];
    let far = |to: &mut [u8]| {
        to[..4].copy_from_slice(&(LANDING_AT as u32).to_le_bytes());
        to[4..6].copy_from_slice(&selector::CODE64.to_le_bytes());
    };
    match case.mode {
        Mode::B64 => {
            back[..3].copy_from_slice(&[0xff, 0x24, 0x25]);
            back[3..7].copy_from_slice(&(EXIT_SLOT as u32).to_le_bytes());
        }
        Mode::B32 => {
            back[0] = 0xea;
            far(&mut back[1..]);
        }
        Mode::B16 => {
            back[..2].copy_from_slice(&[0x66, 0xea]);
            far(&mut back[2..]);
        }
    }
    (bytes, len + 8)
}

fn failed(what: &str) -> anyhow::Error {
    anyhow::anyhow!("{what}: {}", std::io::Error::last_os_error())
}

fn map(at: u64, size: u64, protection: c_int, fd: c_int, offset: u64) -> anyhow::Result<*mut u8> {
    let kind = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    // SAFETY: a fresh mapping that replaces none.
    let got = unsafe {
        libc::mmap(at as *mut c_void, size as usize, protection, kind | fixed, fd, offset as libc::off_t)
    };
    anyhow::ensure!(got != libc::MAP_FAILED, failed("mmap"));
    Ok(got.cast())
}

/// Maps the region's pages with their protections at their places, and all of it writable elsewhere.
fn map_region() -> anyhow::Result<*mut u8> {
    // SAFETY: a new file descriptor.
    let fd = unsafe { libc::memfd_create(c"aero-fuzz".as_ptr(), libc::MFD_CLOEXEC) };
    anyhow::ensure!(fd >= 0, failed("memfd_create"));
    // SAFETY: the descriptor is ours.
    anyhow::ensure!(unsafe { libc::ftruncate(fd, layout::REGION_SIZE as i64) } == 0, failed("ftruncate"));
    for page in layout::PAGES {
        let protection = match page {
            layout::CODE => libc::PROT_READ | libc::PROT_EXEC,
            layout::CONSTANT => libc::PROT_READ,
            _ => libc::PROT_READ | libc::PROT_WRITE,
        };
        map(REGION + page, 0x1000, protection, fd, page)?;
    }
    // A far call from 16-bit to 64-bit code pushes by 64-bit rules, to wherever the whole of RSP points.
    map(UPPER_STACK + layout::STACK, 0x1000, libc::PROT_READ | libc::PROT_WRITE, fd, layout::STACK)?;
    let alias = map(0, layout::REGION_SIZE, libc::PROT_READ | libc::PROT_WRITE, fd, 0)?;
    // SAFETY: the descriptor is ours; the mappings stay.
    unsafe { libc::close(fd) };
    Ok(alias)
}

fn map_control() -> anyhow::Result<()> {
    map(CONTROL, 0x1000, libc::PROT_READ | libc::PROT_WRITE, -1, 0)?;
    map(LANDING, 0x1000, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, -1, 0)?;
    // SAFETY: both pages were just mapped.
    unsafe {
        let c = &mut *control();
        c.fs_base = FS_BASE;
        c.gs_base = GS_BASE;
        c.host_mxcsr = 0x1f80;
        asm!("rdfsbase {}", out(reg) c.host_fs_base);
        (EXIT_SLOT as *mut u64).write_unaligned(aero_fuzz_exit as *const () as u64);
        (LANDING as *mut u8).write_bytes(0xcc, 0x1000);
        let mut jump = [0xff, 0x24, 0x25, 0, 0, 0, 0];
        jump[3..].copy_from_slice(&(EXIT_SLOT as u32).to_le_bytes());
        (LANDING_AT as *mut [u8; 7]).write_unaligned(jump);
        // Code segments of 32 bits need loaded data segments; 64-bit code does not mind.
        asm!("mov ds, {0:e}", "mov es, {0:e}", in(reg) u32::from(selector::DATA));
    }
    Ok(())
}

/// `struct user_desc` of modify_ldt(2).
#[repr(C)]
struct UserDescriptor {
    entry: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

fn install_descriptor(entry: u32, code: bool, base: u32, limit: u32, big: bool) -> anyhow::Result<()> {
    const USABLE: u32 = 1 << 6;
    let contents = if code { 2 } else { 0 };
    let flags = u32::from(big) | contents << 1 | u32::from(big) << 4 | USABLE;
    let descriptor = UserDescriptor { entry, base, limit, flags };
    // SAFETY: the kernel reads the structure.
    let done =
        unsafe { libc::syscall(libc::SYS_modify_ldt, 1, &raw const descriptor, size_of::<UserDescriptor>()) };
    anyhow::ensure!(done == 0, failed("modify_ldt"));
    Ok(())
}

fn catch_signals() -> anyhow::Result<()> {
    const STACK: usize = 64 << 10;
    let stack = map(0, STACK as u64, libc::PROT_READ | libc::PROT_WRITE, -1, 0)?;
    // SAFETY: the stack is mapped and stays; the handler is the assembly above.
    unsafe {
        let alternate = libc::stack_t { ss_sp: stack.cast(), ss_flags: 0, ss_size: STACK };
        anyhow::ensure!(
            libc::sigaltstack(&raw const alternate, core::ptr::null_mut()) == 0,
            failed("sigaltstack")
        );
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = aero_fuzz_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART;
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGALRM]
        {
            anyhow::ensure!(
                libc::sigaction(signal, &raw const action, core::ptr::null_mut()) == 0,
                failed("sigaction")
            );
        }
        let period = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
        let timer = libc::itimerval { it_interval: period, it_value: period };
        anyhow::ensure!(
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, core::ptr::null_mut()) == 0,
            failed("setitimer")
        );
    }
    Ok(())
}
