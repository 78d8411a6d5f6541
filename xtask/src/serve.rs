//! `cargo xtask serve` and `cargo xtask run`: the page, from this computer.

use std::path::PathBuf;

use aero_gateway::{Server, Site};
use anyhow::{Context, Result, bail};

use crate::build;
use crate::guests;
use crate::paths;
use crate::setup::{self, Scope};
use crate::wasm::Quality;

struct Options {
    port: Option<u16>,
    root: Option<PathBuf>,
}

/// `cargo xtask serve [--port N] [--root DIR]`: serves until it is interrupted.
///
/// # Errors
/// When an option is wrong, nothing was built, or the port cannot be had.
pub fn run(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    let server = bind(&options)?;
    println!("Serving {}", server.url()?);
    Ok(server.run()?)
}

/// `cargo xtask run [--port N]`: everything from a fresh checkout to a page that boots Linux.
///
/// # Errors
/// When a step fails.
pub fn run_page(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    setup::ensure(Scope::Run)?;
    guests::ensure_named(&["default"])?;
    build::page(Quality::Release)?;
    let server = bind(&options)?;
    println!("Aero is running: {}?guest=default&autostart=1", server.url()?);
    Ok(server.run()?)
}

/// A server for the built page, on a port of its own choice.
///
/// # Errors
/// When nothing was built or no port is free.
pub fn page() -> Result<Server> {
    bind(&Options { port: None, root: None })
}

fn bind(options: &Options) -> Result<Server> {
    let app = options.root.clone().unwrap_or_else(paths::page);
    if !app.join("index.html").exists() {
        bail!("{} has no index.html: run `cargo xtask build` first", app.display());
    }
    Ok(Server::bind(Site { app, guests: paths::guests()? }, options.port)?)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { port: None, root: None };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--port" => {
                let port = value()?;
                options.port = Some(port.parse().with_context(|| format!("--port {port}: not a port"))?);
            }
            "--root" => options.root = Some(PathBuf::from(value()?)),
            _ => bail!("unknown option {word}; there are --port N and --root DIR"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn port_and_root_are_read() {
        let options = parse(&words("--port 9000 --root here")).unwrap();
        assert_eq!(options.port, Some(9000));
        assert_eq!(options.root, Some(PathBuf::from("here")));
    }

    #[test]
    fn wrong_port_is_an_error_that_names_it() {
        for (line, named) in [("--port 99999", "99999"), ("--port", "--port"), ("--speed 3", "--speed")] {
            let error = parse(&words(line)).err().unwrap();
            assert!(error.to_string().contains(named), "{line}: {error}");
        }
    }
}
