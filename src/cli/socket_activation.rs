//! Sockets inherited from the service manager (systemd's socket activation). They outlive the process: during a restart
//! clients wait in the accept queue, and none is refused.

use listenfd::ListenFd;

use crate::config::Listen;
use crate::server::Listener;

/// The inherited listeners that are not taken yet.
pub(super) struct InheritedListeners(Vec<Listener>);

impl InheritedListeners {
    /// Takes the sockets of `LISTEN_FDS`, if `LISTEN_PID` is this process.
    pub(super) fn from_environment() -> Result<Self, String> {
        let mut sockets_of_environment = ListenFd::from_env();
        let sockets = (0..sockets_of_environment.len()).map(|at| {
            let unusable = |error| format!("socket {at} of LISTEN_FDS can't be used: {error}");
            if let Ok(Some(tcp)) = sockets_of_environment.take_tcp_listener(at) {
                tcp.set_nonblocking(true).map_err(unusable)?;
                return Ok(Listener::Tcp(tcp));
            }
            let unix = sockets_of_environment.take_unix_listener(at).map_err(unusable)?;
            let unix = unix.ok_or_else(|| format!("socket {at} of LISTEN_FDS is missing"))?;
            unix.set_nonblocking(true).map_err(unusable)?;
            Ok(Listener::Unix(unix))
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the listener of this address.
    pub(super) fn take(&mut self, address: &Listen) -> Option<Listener> {
        let at = self.0.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == *address))?;
        Some(self.0.swap_remove(at))
    }

    /// Refuses sockets that no key names: their clients would wait forever.
    pub(super) fn refuse_rest(&self) -> Result<(), String> {
        let Some(socket) = self.0.first() else { return Ok(()) };
        Err(format!(
            "the service manager passed a socket on {socket}, which is neither `listen` nor `admin.listen`\n\
             write the same address in the configuration and in the socket unit"
        ))
    }
}
