//! The server behind the page.
//!
//! Aero's page runs its machine in workers that share one `WebAssembly.Memory`. Browsers give shared memory only to
//! a *cross-origin isolated* page, and that is a matter of headers: `Cross-Origin-Opener-Policy: same-origin` cuts
//! the page off from windows that opened it, `Cross-Origin-Embedder-Policy: require-corp` makes it refuse
//! everything that does not say it may be embedded, and `Cross-Origin-Resource-Policy: same-origin` is how our own
//! files say so. A worker script without them fails as the page does, so **every** response carries all three,
//! errors too.
//!
//! Two trees are served: the built app at `/`, and kernels and initial RAM disks at `/guests/`. Both answer `Range`
//! requests, which is how the page will stream disks, and neither compresses: a compressed body has no meaningful
//! byte ranges. Names under `/assets/` contain a hash of their content and may be kept for ever; all else is
//! revalidated each time, so that a reload shows the newest build.
//!
//! Tests, `cargo xtask run` and a hosted page all use this one implementation.

use std::future::IntoFuture;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use thiserror::Error;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

/// The port that is tried first.
pub const DEFAULT_PORT: u16 = 8086;

/// How many ports are tried from [`DEFAULT_PORT`] on.
const PORTS_TRIED: u16 = 100;

/// What cross-origin isolation needs (HTML standard, section 7.1.4).
const ISOLATION: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Why the server did not start or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The port that was asked for cannot be had.
    #[error("port {port} cannot be used: {cause}; choose another with --port, or leave it out")]
    Port {
        /// The port.
        port: u16,
        /// What the system said.
        cause: io::Error,
    },
    /// None of the usual ports can be had.
    #[error("none of the ports {DEFAULT_PORT} to {last} can be used: {cause}; choose one with --port")]
    Ports {
        /// The last port that was tried.
        last: u16,
        /// What the system said about it.
        cause: io::Error,
    },
    /// A folder that should be served is not there.
    #[error("{}: there is no such folder to serve", .0.display())]
    Folder(PathBuf),
    /// The server itself failed.
    #[error("the server failed")]
    Io(#[from] io::Error),
}

/// The folders that are served.
#[derive(Debug, Clone)]
pub struct Site {
    /// The built app, served at `/`.
    pub app: PathBuf,
    /// Guests, one folder each, served at `/guests/`. It need not exist.
    pub guests: PathBuf,
}

/// A server that has its port but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    site: Site,
}

impl Server {
    /// Takes `port`, or the first free one from [`DEFAULT_PORT`] on. Only this computer can reach it.
    ///
    /// # Errors
    /// When the app's folder does not exist or no port can be had.
    pub fn bind(site: Site, port: Option<u16>) -> Result<Server, ServeError> {
        if !site.app.is_dir() {
            return Err(ServeError::Folder(site.app));
        }
        let listener = match port {
            Some(port) => listen(port).map_err(|cause| ServeError::Port { port, cause })?,
            None => first_free()?,
        };
        Ok(Server { listener, site })
    }

    /// The address of the page, with a slash at its end.
    ///
    /// # Errors
    /// When the system does not know the port.
    pub fn url(&self) -> Result<String, ServeError> {
        Ok(format!("http://localhost:{}/", self.listener.local_addr()?.port()))
    }

    /// Answers requests until the process ends.
    ///
    /// # Errors
    /// When the system refuses to run the server.
    pub fn run(self) -> Result<(), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        self.listener.set_nonblocking(true)?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            axum::serve(listener, router(&self.site)).into_future().await
        })?;
        Ok(())
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn first_free() -> Result<TcpListener, ServeError> {
    let last = DEFAULT_PORT + PORTS_TRIED - 1;
    let free = (DEFAULT_PORT..last).find_map(|port| listen(port).ok());
    free.map_or_else(|| listen(last), Ok).map_err(|cause| ServeError::Ports { last, cause })
}

fn router(site: &Site) -> Router {
    let mut router = Router::new()
        .nest_service("/guests", ServeDir::new(&site.guests).append_index_html_on_directories(false))
        .fallback_service(ServeDir::new(&site.app))
        .layer(middleware::from_fn(cache_rule));
    for (name, value) in ISOLATION {
        let name = HeaderName::from_static(name);
        router = router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)));
    }
    router
}

async fn cache_rule(request: Request, next: Next) -> Response {
    let hashed = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let status = response.status();
    let lasting = hashed && (status.is_success() || status.is_redirection());
    let rule = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(rule));
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;
    use std::thread;

    use super::*;

    /// A site in a folder of its own, served by a thread that ends with the test process.
    fn site(name: &str) -> (PathBuf, u16) {
        let root = std::env::temp_dir().join(format!("aero-gateway-{}-{name}", std::process::id()));
        for (path, content) in [
            ("secret.txt", "secret"),
            ("app/index.html", "<p>page</p>"),
            ("app/assets/vm-1a2b.wasm", "\0asm"),
            ("guests/default/kernel", "0123456789"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let site = Site { app: root.join("app"), guests: root.join("guests") };
        let server = Server::bind(site, Some(0)).unwrap();
        let port = server.listener.local_addr().unwrap().port();
        thread::spawn(|| server.run().unwrap());
        (root, port)
    }

    fn request(port: u16, path: &str, extra: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap().to_lowercase()
    }

    fn remove(root: &Path) {
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn every_answer_isolates_the_page() {
        let (root, port) = site("isolation");
        for path in ["/", "/assets/vm-1a2b.wasm", "/guests/default/kernel", "/missing", "/guests/none"] {
            let answer = request(port, path, "");
            for (name, value) in ISOLATION {
                assert!(answer.contains(&format!("{name}: {value}\r\n")), "{path} lacks {name}: {answer}");
            }
        }
        remove(&root);
    }

    #[test]
    fn range_request_gets_its_bytes() {
        let (root, port) = site("range");
        let answer = request(port, "/guests/default/kernel", "Range: bytes=2-4\r\n");
        assert!(answer.starts_with("http/1.1 206"), "{answer}");
        assert!(answer.contains("content-range: bytes 2-4/10\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n234"), "{answer}");
        remove(&root);
    }

    #[test]
    fn wasm_has_its_type_and_hashed_names_are_kept() {
        let (root, port) = site("types");
        let answer = request(port, "/assets/vm-1a2b.wasm", "");
        assert!(answer.contains("content-type: application/wasm\r\n"), "{answer}");
        assert!(answer.contains("immutable"), "{answer}");
        assert!(request(port, "/assets/gone.wasm", "").contains("cache-control: no-cache\r\n"));
        assert!(request(port, "/", "").contains("cache-control: no-cache\r\n"));
        remove(&root);
    }

    #[test]
    fn path_out_of_the_tree_finds_nothing() {
        let (root, port) = site("traversal");
        for path in
            ["/../secret.txt", "/guests/../../secret.txt", "/%2e%2e/secret.txt", "/guests/..%2fsecret.txt"]
        {
            let answer = request(port, path, "");
            assert!(answer.starts_with("http/1.1 4"), "{path}: {answer}");
            assert!(!answer.ends_with("secret"), "{path}: {answer}");
        }
        remove(&root);
    }

    #[test]
    fn busy_port_is_an_error_that_names_it() {
        let busy = listen(0).unwrap();
        let port = busy.local_addr().unwrap().port();
        let here = Site { app: std::env::temp_dir(), guests: std::env::temp_dir() };
        let error = Server::bind(here, Some(port)).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }

    #[test]
    fn missing_app_is_an_error_that_names_it() {
        let here = Site { app: PathBuf::from("no/such/app"), guests: PathBuf::new() };
        let error = Server::bind(here, None).unwrap_err();
        assert!(error.to_string().contains("no/such/app"), "{error}");
    }
}
