//! Rust for the browser: cargo with a standard library built for threads, then wasm-bindgen, then wasm-opt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::commands;
use crate::paths;
use crate::toolchain;

const TARGET: &str = "wasm32-unknown-unknown";

/// The compiler's flags. Since `+atomics` alone no longer implies them, the memory is made shared and imported by
/// hand, and what a new thread needs is exported by hand.
/// The table is exported and may grow, so that the JIT can add functions to it.
const RUSTFLAGS: [&str; 10] = [
    "-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals,+simd128",
    "-Clink-arg=--shared-memory",
    "-Clink-arg=--import-memory",
    "-Clink-arg=--max-memory=4294967296",
    "-Clink-arg=--export=__wasm_init_tls",
    "-Clink-arg=--export=__tls_size",
    "-Clink-arg=--export=__tls_align",
    "-Clink-arg=--export=__tls_base",
    "-Clink-arg=--export-table",
    "-Clink-arg=--growable-table",
];

/// wasm-opt's options: exactly the features that the compiler was told to use. With `--all-features` it writes
/// forms that Node 20 cannot load.
const OPTIMISE: [&str; 9] = [
    "-O3",
    "--enable-threads",
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-simd",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
];

/// How much the result is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Quick to build.
    Debug,
    /// What people get, and what the tests in a browser run.
    Release,
}

/// Builds `aero-wasm` and puts what the page imports into its sources.
///
/// # Errors
/// When a tool is missing or fails.
pub fn package(quality: Quality) -> Result<()> {
    compile(quality, &["aero-wasm"])?;
    let folder = if quality == Quality::Release { "release" } else { "debug" };
    let module = paths::web_target()?.join(TARGET).join(folder).join("aero_wasm.wasm");
    let out = paths::web_package();
    let origin = origin(&module, quality)?;
    let stamp = out.join(".origin");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == origin) {
        return Ok(());
    }
    bind(&module, &out)?;
    if quality == Quality::Release {
        optimise(&out.join("aero_wasm_bg.wasm"))?;
    }
    fs::write(&stamp, origin).with_context(|| stamp.display().to_string())
}

/// Builds crates for the browser.
///
/// # Errors
/// When there is no toolchain for it, or it fails.
pub fn compile(quality: Quality, crates: &[&str]) -> Result<()> {
    let toolchain = toolchain::find()?;
    let (major, minor) = toolchain.version;
    println!("build: for the browser with Rust {major}.{minor} ({})", toolchain.rustc.display());
    let mut cargo = commands::plain_cargo(&toolchain.cargo);
    cargo.args(["build", "--locked", "--target", TARGET, "-Zbuild-std=std,panic_abort"]);
    if quality == Quality::Release {
        cargo.arg("--release");
    }
    for name in crates {
        cargo.args(["--package", name]);
    }
    cargo
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", paths::web_target()?)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        // wasm-bindgen drops line tables anyway, and linking is quicker without.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    if let Some(linker) = &toolchain.linker {
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    commands::run(&mut cargo)
}

/// What tells one compiled module from the next.
fn origin(module: &Path, quality: Quality) -> Result<String> {
    let facts = fs::metadata(module).with_context(|| module.display().to_string())?;
    let age = facts.modified()?.duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(format!("{quality:?} {} bytes, built at {} ns\n", facts.len(), age.as_nanos()))
}

fn bind(module: &Path, out: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).typescript(true);
    bindgen
        .web(true)
        .and_then(|bindgen| bindgen.generate(out))
        .map_err(|error| anyhow!("wasm-bindgen, {}: {error:#}", module.display()))
}

fn optimise(module: &Path) -> Result<()> {
    let result: PathBuf = module.with_extension("optimised");
    let mut command = Command::new(paths::npm_program("wasm-opt"));
    commands::run(command.args(OPTIMISE).arg(module).arg("-o").arg(&result))?;
    fs::rename(&result, module).with_context(|| module.display().to_string())
}
