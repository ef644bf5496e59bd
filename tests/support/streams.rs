//! A server on loopback that speaks HTTP/2, good or bad, with or without TLS.
//!
//! Another side than ours of the same library: what it takes for a proper request it checks, and what
//! is bad about it is done on purpose. Every request that was read whole is kept. Dropping the server
//! closes everything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;
use ureq::http::{Request, Response};

use super::server::Request as Arrived;

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status, headers and body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// 200, once so many requests have come in all.
    After(usize),
    /// This status, and a body that never ends.
    Endless(u16),
    /// This status, and a body of which nothing comes.
    Mute(u16),
    /// The stream is reset.
    Reset(Reason),
    /// The connection is closed without a word.
    Close,
    /// The connection ends with a farewell: what came before is answered, what comes later is not
    /// looked at.
    Farewell,
    /// Nothing, until the server is dropped.
    Hang,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), b"{}".to_vec())
    }
}

/// How the server is.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// Streams at a time.
    pub(crate) streams: Option<u32>,
    /// What a request may send before it is asked for more.
    pub(crate) window: Option<u32>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

type Script = dyn Fn(usize) -> Reply + Send + Sync;

struct Shared {
    manners: Manners,
    script: Box<Script>,
    asked: AtomicUsize,
    connections: AtomicUsize,
    requests: Mutex<Vec<Arrived>>,
    came: Notify,
}

pub(crate) struct Streams {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Streams {
    /// The script is asked what to do with the request of this number, from 0.
    pub(crate) fn start(
        manners: Manners,
        script: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manners,
            script: Box::new(script),
            asked: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            came: Notify::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = serving.accept(listener) => {}
                }
            });
        };
        let thread = thread::Builder::new().name("test-server".to_owned()).spawn(serve).unwrap();
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// One that is as it should be, and answers 200.
    pub(crate) fn good() -> Self {
        Self::start(Manners::default(), |_| Reply::status(200))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/42/envelope/", self.address)
    }

    /// All requests so far that were read whole.
    pub(crate) fn requests(&self) -> Vec<Arrived> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    async fn accept(self: &Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            stream.set_nodelay(true).unwrap();
            let shared = Arc::clone(self);
            // An error is the client's going away, or its not believing us.
            tokio::spawn(async move {
                match shared.manners.tls.clone() {
                    None => shared.converse(stream, number).await,
                    Some(config) => {
                        let stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
                        shared.converse(stream, number).await
                    }
                }
            });
        }
    }

    async fn converse(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        number: usize,
    ) -> Option<()> {
        let mut builder = Builder::new();
        if let Some(streams) = self.manners.streams {
            builder.max_concurrent_streams(streams);
        }
        if let Some(window) = self.manners.window {
            builder.initial_window_size(window).initial_connection_window_size(window);
        }
        let mut connection = builder.handshake::<_, Bytes>(stream).await.ok()?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted.ok()?;
            let reply = (self.script)(self.asked.fetch_add(1, Ordering::SeqCst));
            match reply {
                Reply::Close => return None,
                Reply::Farewell => connection.graceful_shutdown(),
                _ => {}
            }
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.handle(request, respond, reply, number).await });
        }
        Some(())
    }

    async fn handle(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        reply: Reply,
        connection: usize,
    ) -> Option<()> {
        if let Reply::Reset(reason) = reply {
            respond.send_reset(reason);
            return None;
        }
        let (head, mut stream) = request.into_parts();
        let mut body = Vec::new();
        while let Some(part) = stream.data().await {
            let part = part.ok()?;
            stream.flow_control().release_capacity(part.len()).unwrap();
            body.extend_from_slice(&part);
        }
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let arrived = Arrived {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: headers.collect(),
            body,
            connection,
        };
        self.requests.lock().unwrap().push(arrived);
        self.came.notify_waiters();
        let begin = |status: u16| Response::builder().status(status);
        match reply {
            Reply::Answer(status, headers, body) => {
                let mut answer = begin(status);
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                let mut sender = respond.send_response(answer.body(()).unwrap(), false).ok()?;
                sender.send_data(body.into(), true).ok()?;
            }
            Reply::After(count) => {
                loop {
                    let came = self.came.notified();
                    if self.requests.lock().unwrap().len() >= count {
                        break;
                    }
                    // A word that was said in between is heard a little later.
                    let _ = tokio::time::timeout(Duration::from_millis(20), came).await;
                }
                respond.send_response(begin(200).body(()).unwrap(), true).ok()?;
            }
            Reply::Farewell => {
                respond.send_response(begin(200).body(()).unwrap(), true).ok()?;
            }
            Reply::Mute(status) => {
                let _sender = respond.send_response(begin(status).body(()).unwrap(), false).ok()?;
                std::future::pending::<()>().await;
            }
            Reply::Endless(status) => {
                let mut sender =
                    respond.send_response(begin(status).body(()).unwrap(), false).ok()?;
                loop {
                    sender.reserve_capacity(1024);
                    std::future::poll_fn(|cx| sender.poll_capacity(cx)).await?.ok()?;
                    let room = sender.capacity().min(1024);
                    sender.send_data(vec![b'x'; room].into(), false).ok()?;
                    tokio::task::yield_now().await;
                }
            }
            Reply::Reset(_) | Reply::Close | Reply::Hang => std::future::pending().await,
        }
        Some(())
    }
}
