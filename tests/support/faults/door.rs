//! The listening end: open, shut, or too full to get in, always at the same address.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How new connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// As open, with the smallest windows that there are.
    Narrow,
    /// Refused.
    Shut,
    /// They wait, and are not let in.
    Full,
}

/// Only so many connections may wait where none get in: the system takes one more than that.
const FULL_AFTER: i32 = 0;

/// How long a connection on loopback takes at most that comes about at all.
const FILL: Duration = Duration::from_millis(100);

pub(crate) struct Doorway {
    address: SocketAddr,
    /// Bound and not listening: keeps the port while the door is shut.
    _place: Socket,
    listener: Option<Socket>,
    door: Door,
    /// What stands in a full door.
    crowd: Vec<TcpStream>,
}

impl Doorway {
    pub(crate) fn new() -> Self {
        let place = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = place.local_addr().unwrap().as_socket().unwrap();
        let mut doorway =
            Self { address, _place: place, listener: None, door: Door::Shut, crowd: Vec::new() };
        doorway.set(Door::Open);
        doorway
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&mut self, door: Door) {
        if door == self.door {
            return;
        }
        self.door = door;
        self.crowd.clear();
        // Whoever waits there is reset.
        self.listener = None;
        if door == Door::Shut {
            return;
        }
        let listener = bound(self.address);
        if door == Door::Narrow {
            listener.set_recv_buffer_size(1).unwrap();
            #[cfg(unix)]
            listener.set_tcp_mss(536).unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        listener.listen(if door == Door::Full { FULL_AFTER } else { 1024 }).unwrap();
        self.listener = Some(listener);
        if door == Door::Full {
            while let Ok(stream) = TcpStream::connect_timeout(&self.address, FILL) {
                self.crowd.push(stream);
                assert!(self.crowd.len() < 100, "it does not fill");
            }
        }
    }

    /// Whoever waits at an open door.
    pub(crate) fn accept(&self) -> Option<TcpStream> {
        if self.door == Door::Full {
            return None;
        }
        let (socket, _) = self.listener.as_ref()?.accept().ok()?;
        socket.set_nonblocking(false).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        Some(socket.into())
    }
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}
