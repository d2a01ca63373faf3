//! Binding addresses to listen on. It accepts nothing.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Socket, Type};

use crate::config::Listen;

/// What the process listens on; bound before anything starts, so that an address in use is an error at once.
#[derive(Debug)]
pub struct Listeners {
    pub proxy: Vec<Listener>,
    pub admin: Option<Listener>,
    /// They outlive this process: who waits to be let in when it stops is left to the next one.
    pub outlive: bool,
}

/// A bound socket; it does not block.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// A Unix socket's file that nobody answers on any more is replaced; one that somebody answers on, and any other
    /// file, stays, and the address is in use.
    pub fn bind(address: &Listen) -> io::Result<Self> {
        match address {
            Listen::Tcp(address) => bind_tcp(*address).map(Listener::Tcp),
            Listen::Unix(path) => {
                remove_stale_socket(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    /// Another handle of the same socket, for another runtime.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Listener::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            Listener::Unix(listener) => listener.try_clone().map(Listener::Unix),
        }
    }

    /// Where it listens in truth: with the port that the system chose, where port 0 was asked for.
    pub fn local_addr(&self) -> io::Result<Listen> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no path"))?;
                Ok(Listen::Unix(path.to_path_buf()))
            }
        }
    }
}

/// As it is written in `proxy.yaml`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_addr() {
            Ok(Listen::Tcp(address)) => address.fmt(f),
            Ok(Listen::Unix(path)) => write!(f, "unix:{}", path.display()),
            Err(_) => f.write_str("an unknown address"),
        }
    }
}

/// The standard library's own listener keeps 128 connections waiting; of a crowd that comes at once, the others would
/// not get in before their next SYN, a second later. The system has the last word (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let is_stale = is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_stale { std::fs::remove_file(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(name: &str) -> (std::path::PathBuf, Listen) {
        let path = std::env::temp_dir().join(format!("larder-{}-{name}.sock", std::process::id()));
        _ = std::fs::remove_file(&path);
        (path.clone(), Listen::Unix(path))
    }

    #[test]
    fn a_port_that_the_system_chose_is_shown() {
        let address = "127.0.0.1:0".parse().map(Listen::Tcp).unwrap();
        let listener = Listener::bind(&address).unwrap();
        let Ok(Listen::Tcp(address)) = listener.local_addr() else { panic!("not TCP") };
        assert_ne!(address.port(), 0);
        assert_eq!(listener.to_string(), address.to_string());
        assert_eq!(listener.try_clone().unwrap().to_string(), address.to_string());
    }

    #[test]
    fn a_socket_file_that_nobody_answers_on_is_replaced() {
        let (path, address) = unix("stale");
        drop(Listener::bind(&address).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&address).unwrap();
        assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_socket_that_somebody_answers_on_is_in_use() {
        let (path, address) = unix("in-use");
        let _first = Listener::bind(&address).unwrap();
        assert_eq!(Listener::bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let (path, address) = unix("file");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(Listener::bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(path).unwrap();
    }
}
