//! Binds the addresses to listen on.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Socket, Type};

use crate::config::Listen;

/// The sockets of the process. They are bound before anything starts, so that an address in use fails at once.
#[derive(Debug)]
pub struct Listeners {
    /// For the requests of clients, in the order of `listen`.
    pub proxy: Vec<Listener>,
    /// For operators.
    pub admin: Option<Listener>,
    /// The sockets stay open after this process, and another one accepts what waits in their backlog.
    pub outlive_process: bool,
}

/// A bound, non-blocking socket.
#[derive(Debug)]
pub enum Listener {
    /// Accepts TCP connections.
    Tcp(TcpListener),
    /// Accepts connections to a Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Binds `address`. The file of a unix socket that refuses connections is replaced.
    ///
    /// # Errors
    /// If the address is in use: another process answers on the socket, or the path is another file.
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

    /// Duplicates the socket for another runtime.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Listener::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            Listener::Unix(listener) => listener.try_clone().map(Listener::Unix),
        }
    }

    /// The bound address, with the port that the system chose in place of port 0.
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

/// Writes the address as in `proxy.yaml`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_addr() {
            Ok(Listen::Tcp(address)) => address.fmt(f),
            Ok(Listen::Unix(path)) => write!(f, "unix:{}", path.display()),
            Err(_) => f.write_str("an unknown address"),
        }
    }
}

/// Connections that may wait to be accepted, instead of the standard library's 128: others retry their SYN a second
/// later. The system bounds it too (`net.core.somaxconn`).
const LISTEN_BACKLOG: i32 = 4096;

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
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
