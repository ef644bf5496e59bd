//! Whether the server, or the proxy before it, can be reached at all: its name, and a connection.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hotspan::Dsn;

use crate::advice;
use crate::findings::{Findings, Step};

/// The first host on the way.
#[derive(Debug)]
pub(crate) struct Way {
    host: String,
    port: u16,
    is_proxy: bool,
}

impl Way {
    /// To the server, or to the proxy if there is one. `None` if that has no address.
    pub(crate) fn to(dsn: &Dsn, proxy: Option<&str>) -> Option<Self> {
        let (host, port) = match proxy {
            None => (dsn.host(), dsn.port()),
            Some(proxy) => {
                let (_, address) = proxy.split_once("://")?;
                let (host, port) = address.rsplit_once(':')?;
                (host, port.parse().ok()?)
            }
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port, is_proxy: proxy.is_some() })
    }

    /// Looks up the name and connects. `None`: the way ends here.
    pub(crate) fn look_at(&self, timeout: Duration, findings: &mut Findings) -> Option<()> {
        let whose = if self.is_proxy { "the proxy" } else { "the server" };
        let addresses = match self.addresses(timeout) {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => {
                let found = format!("{} has no address", self.host);
                findings.failed(Step::Name, found, advice::NAME);
                return None;
            }
            Err(problem) => {
                findings.failed(Step::Name, format!("{}: {problem}", self.host), advice::NAME);
                return None;
            }
        };
        if self.host.parse::<IpAddr>().is_ok() {
            findings.ok(Step::Name, format!("{whose} is named by its address"));
        } else {
            let listed: Vec<_> = addresses.iter().map(|each| each.ip().to_string()).collect();
            findings.ok(Step::Name, format!("{} is {}", self.host, listed.join(", ")));
        }
        let mut problems = Vec::new();
        for address in &addresses {
            match TcpStream::connect_timeout(address, timeout) {
                Ok(_) => {
                    findings.ok(Step::Connect, format!("{whose} listens at {address}"));
                    return Some(());
                }
                Err(problem) => problems.push((problem.kind(), format!("{address}: {problem}"))),
            }
        }
        let is_refused = problems.iter().all(|(kind, _)| *kind == io::ErrorKind::ConnectionRefused);
        let advice = match (is_refused, self.is_proxy) {
            (_, true) => advice::PROXY,
            (true, false) => advice::REFUSED,
            (false, false) => advice::UNREACHABLE,
        };
        let problems: Vec<_> = problems.into_iter().map(|(_, problem)| problem).collect();
        findings.failed(Step::Connect, problems.join("; "), advice);
        None
    }

    /// Asks the operating system, which knows no time-out, on a thread that is left behind if it
    /// takes too long.
    fn addresses(&self, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        let (sender, receiver) = mpsc::channel();
        let (host, port) = (self.host.clone(), self.port);
        thread::Builder::new().spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let _ = sender.send(found.map(Iterator::collect));
        })?;
        receiver
            .recv_timeout(timeout)
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nobody answers")))
    }
}
