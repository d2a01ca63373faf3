//! Sockets that were opened before this process began, and that outlive it (systemd's socket activation): between two
//! processes clients wait in the system's queue, and none is refused.

use listenfd::ListenFd;

use crate::config::Listen;
use crate::server::Listener;

pub struct Inherited(Vec<Listener>);

impl Inherited {
    /// What `LISTEN_FDS` announces, if it is meant for this process.
    pub fn of_environment() -> Result<Self, String> {
        let mut handed = ListenFd::from_env();
        let sockets = (0..handed.len()).map(|at| {
            let unusable = |error| format!("the socket at place {at} of LISTEN_FDS can't be used: {error}");
            if let Ok(Some(tcp)) = handed.take_tcp_listener(at) {
                tcp.set_nonblocking(true).map_err(unusable)?;
                return Ok(Listener::Tcp(tcp));
            }
            let unix = handed.take_unix_listener(at).map_err(unusable)?;
            let unix = unix.ok_or_else(|| format!("the socket at place {at} of LISTEN_FDS is gone"))?;
            unix.set_nonblocking(true).map_err(unusable)?;
            Ok(Listener::Unix(unix))
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that listens on this address.
    pub fn take(&mut self, address: &Listen) -> Option<Listener> {
        let at = self.0.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == *address))?;
        Some(self.0.swap_remove(at))
    }

    /// A socket that nobody serves would let clients wait for ever.
    pub fn refuse_rest(&self) -> Result<(), String> {
        let Some(socket) = self.0.first() else { return Ok(()) };
        Err(format!(
            "a socket on {socket} is handed over, and neither `listen` nor `admin.listen` has that address\n\
             write the same address in proxy.yaml and in the socket unit"
        ))
    }
}
