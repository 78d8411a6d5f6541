//! vectors.

/// Arguments.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Never.
pub fn run(_: &Args) -> anyhow::Result<bool> {
    anyhow::bail!("not here yet")
}
