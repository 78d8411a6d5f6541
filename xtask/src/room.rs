//! Room on the disk for what a test run builds.
//!
//! Nothing tidies cargo's target directory: every version of every crate that was ever built stays there, and a disk that is full
//! in the middle of a run fails in places that do not say so. So a run looks first, gives back what is cheapest to make again,
//! and says how much is missing if that is not enough.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{commands, paths};

/// With less than this, in KiB, what can be made again is removed.
const COMFORT: u64 = 16 << 20;

/// With less than this, in KiB, a run would not come to its end.
const NEED: u64 = 6 << 20;

/// Makes room for a run.
///
/// # Errors
/// When there is none.
pub fn ensure() -> Result<()> {
    let target = paths::target()?;
    std::fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    if free(&target)? < COMFORT {
        for profile in ["debug", "release", "xtask"] {
            remove(&target.join(profile).join("incremental"))?;
        }
    }
    if free(&target)? < COMFORT {
        remove(&target.join("debug/deps"))?;
    }
    let left = free(&target)?;
    println!("room: {} GiB free for {}", left >> 20, target.display());
    if left < NEED {
        bail!(
            "a run needs {} GiB on the disk of {}, and {} GiB are free: make room there, or set CARGO_TARGET_DIR to a disk \
             that has it",
            NEED >> 20,
            target.display(),
            left >> 20
        );
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    println!("room: {} is removed, the disk is nearly full", folder.display());
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// KiB free on the disk that `path` lies on.
fn free(path: &Path) -> Result<u64> {
    let place = path.display().to_string();
    let text = commands::output("df", &["-Pk", &place]).unwrap_or_default();
    parse(&text).with_context(|| format!("df does not tell the room at {place}: {text}"))
}

/// The fourth column of the second line (POSIX, `df -P`).
fn parse(text: &str) -> Option<u64> {
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_blocks_are_the_fourth_column() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 100 60 40 60% /\n";
        assert_eq!(parse(text), Some(40));
        assert_eq!(parse("nothing"), None);
    }
}
