//! What lies between `h2`, which reads and writes as futures do, and a socket that blocks.
//!
//! Both sides of it are memory. `h2` takes from what came and adds to what is to go, and never
//! waits: where nothing is there it says that it is pending, and whoever drives it does the waiting
//! ([`Connection`](super::connection::Connection)). So there is no runtime, and many frames leave
//! by one system call.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Once so much is to go, it has to go before there is more.
const GOING_MAX: usize = 32 * 1024;

/// One end of it; the other one is a clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    came: Vec<u8>,
    /// Of these, so many are taken.
    taken: usize,
    /// Nothing more comes.
    is_ended: bool,
    going: Vec<u8>,
}

impl Pipe {
    /// Exchanges an empty buffer for what is to go.
    pub(super) fn empty_into(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        std::mem::swap(buffer, &mut self.lock().going);
    }

    /// Something came; nothing, if it has ended.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut inside = self.lock();
        if inside.taken == inside.came.len() {
            inside.taken = 0;
            inside.came.clear();
        }
        inside.came.extend_from_slice(bytes);
        inside.is_ended |= bytes.is_empty();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let mut inside = self.lock();
        let left = inside.came.get(inside.taken..).unwrap_or_default();
        if left.is_empty() && !inside.is_ended {
            return Poll::Pending;
        }
        let part = left.get(..buffer.remaining()).unwrap_or(left);
        buffer.put_slice(part);
        inside.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let going = &mut self.lock().going;
        if going.len() >= GOING_MAX {
            return Poll::Pending;
        }
        going.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let going = &mut self.lock().going;
        let before = going.len();
        if before >= GOING_MAX {
            return Poll::Pending;
        }
        slices.iter().for_each(|slice| going.extend_from_slice(slice));
        Poll::Ready(Ok(going.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Who drives it takes what is to go, without being told.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(pipe: &mut Pipe, most: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(pipe).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer) {
            Poll::Ready(result) => result.map(|()| Some(buffer.filled().to_vec())).unwrap(),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_comes_is_read_in_order_and_its_end_last() {
        let outer = Pipe::default();
        let mut inner = outer.clone();
        assert_eq!(read(&mut inner, 9), None);
        outer.feed(b"abc");
        assert_eq!(read(&mut inner, 2).unwrap(), b"ab");
        outer.feed(b"de");
        assert_eq!(read(&mut inner, 9).unwrap(), b"cde");
        assert_eq!(read(&mut inner, 9), None);
        outer.feed(b"f");
        outer.feed(b"");
        assert_eq!(read(&mut inner, 9).unwrap(), b"f");
        assert_eq!(read(&mut inner, 9).unwrap(), b"");
    }

    #[test]
    fn what_is_to_go_is_bounded() {
        let outer = Pipe::default();
        let mut inner = outer.clone();
        let mut cx = Context::from_waker(Waker::noop());
        let mut write = |bytes: &[u8]| Pin::new(&mut inner).poll_write(&mut cx, bytes).is_ready();
        assert!(write(&[1; GOING_MAX - 1]) && write(&[2; 2]));
        assert!(!write(&[3]));
        let mut buffer = vec![7; 5];
        outer.empty_into(&mut buffer);
        assert_eq!((buffer.len(), buffer.last()), (GOING_MAX + 1, Some(&2)));
        assert!(write(b"x"));
        outer.empty_into(&mut buffer);
        assert_eq!(buffer, b"x");
    }
}
