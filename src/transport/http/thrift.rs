//! A connection that makes as few system calls as a request needs.
//!
//! For small envelopes the kernel is most of what sending costs. `ureq` writes the head of a
//! request and its body one after the other, sets the time-outs of the socket to what is left
//! before each, and looks whether the connection is open when it puts it away and again when it
//! takes it out: twelve calls, of which two remain, and three more once in 50 ms.
//!
//! * The head waits for the body: one packet, one record of TLS, where both fit into the buffer.
//! * What is left of a request's time is rounded down, so that it is mostly what the socket is set
//!   to already.
//! * Whether a connection is still good is asked once in 50 ms. One that was closed since is
//!   noticed by the request, which is then sent again (H1). What a server says without being asked
//!   is found by that look alone, so it must not be put off for long: it would pass for the next
//!   answer.
//!
//! # Invariants
//! * T1: nothing is held back while somebody waits for an answer.
//! * T2: a time-out is never longer than `ureq` wants it, and shorter by a 32nd at most.

use std::mem;
use std::time::Duration as StdDuration;

use ureq::Error;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use crate::shared::clock;

/// A connection that was good is taken to be for so long.
const TRUST: StdDuration = StdDuration::from_millis(50);

/// A transport that is used sparingly.
#[derive(Debug)]
pub(super) struct Thrift<T> {
    inner: T,
    /// The head of a request, until its body comes.
    head: Vec<u8>,
    /// Nothing was written since the last answer, or at all: what comes is a head.
    is_fresh: bool,
    /// When the connection was last found to be good, on the monotonic clock.
    looked: Option<StdDuration>,
}

impl<T: Transport> Thrift<T> {
    pub(super) const fn new(inner: T) -> Self {
        Self { inner, head: Vec::new(), is_fresh: true, looked: None }
    }

    fn is_open_at(&mut self, now: StdDuration) -> bool {
        let is_young = |looked| now.saturating_sub(looked) < TRUST;
        if self.looked.is_some_and(is_young) {
            return true;
        }
        let is_open = self.inner.is_open();
        self.looked = is_open.then_some(now);
        is_open
    }

    /// Puts the head in front of `amount` bytes of the output; how many these are then. Where they
    /// have no room together it is sent alone.
    fn join(&mut self, amount: usize, timeout: NextTimeout) -> Result<usize, Error> {
        let head = self.head.len();
        let output = self.inner.buffers().output();
        if head + amount <= output.len() {
            output.copy_within(..amount, head);
            if let Some(front) = output.get_mut(..head) {
                front.copy_from_slice(&self.head);
            }
            self.head.clear();
            return Ok(head + amount);
        }
        self.swap_head();
        self.inner.transmit_output(head, timeout)?;
        self.swap_head();
        self.head.clear();
        Ok(amount)
    }

    /// Exchanges the head and what lies at the front of the output.
    fn swap_head(&mut self) {
        let output = self.inner.buffers().output();
        if let Some(front) = output.get_mut(..self.head.len()) {
            front.swap_with_slice(&mut self.head);
        }
    }
}

impl<T: Transport> Transport for Thrift<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = rounded(timeout);
        if mem::take(&mut self.is_fresh) {
            let head = self.inner.buffers().output().get(..amount);
            self.head.extend_from_slice(head.unwrap_or_default());
            return Ok(());
        }
        let amount = if self.head.is_empty() { amount } else { self.join(amount, timeout)? };
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = rounded(timeout);
        if !self.head.is_empty() {
            // T1: a request without a body.
            let head = self.join(0, timeout)?;
            self.inner.transmit_output(head, timeout)?;
        }
        self.is_fresh = true;
        let came = self.inner.await_input(timeout);
        if !matches!(came, Ok(true)) {
            self.looked = None;
        }
        came
    }

    fn is_open(&mut self) -> bool {
        self.is_open_at(clock::monotonic())
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// T2.
pub(super) fn rounded(mut timeout: NextTimeout) -> NextTimeout {
    const BITS: u32 = 6;
    if let Duration::Exact(exact) = timeout.after
        && let Ok(nanos) = u64::try_from(exact.as_nanos())
    {
        let superfluous = (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS);
        let nanos = nanos >> superfluous << superfluous;
        timeout.after = Duration::Exact(StdDuration::from_nanos(nanos));
    }
    timeout
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    const OUTPUT: usize = 64;

    /// Notes what it is told to do.
    #[derive(Debug)]
    struct Inner {
        buffers: LazyBuffers,
        sent: Vec<Vec<u8>>,
        looks: u32,
        timeouts: Vec<Duration>,
        is_silent: bool,
        is_closed: bool,
    }

    impl Transport for Inner {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
            self.sent.push(self.buffers.output()[..amount].to_vec());
            self.timeouts.push(timeout.after);
            Ok(())
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            self.timeouts.push(timeout.after);
            Ok(!self.is_silent)
        }

        fn is_open(&mut self) -> bool {
            self.looks += 1;
            !self.is_closed
        }
    }

    fn thrift() -> Thrift<Inner> {
        let buffers = LazyBuffers::new(16, OUTPUT);
        Thrift::new(Inner {
            buffers,
            sent: Vec::new(),
            looks: 0,
            timeouts: Vec::new(),
            is_silent: false,
            is_closed: false,
        })
    }

    fn write(thrift: &mut Thrift<Inner>, bytes: &[u8]) {
        thrift.buffers().output()[..bytes.len()].copy_from_slice(bytes);
        thrift.transmit_output(bytes.len(), NextTimeout::default()).unwrap();
    }

    fn answer(thrift: &mut Thrift<Inner>) {
        assert!(thrift.await_input(NextTimeout::default()).unwrap());
    }

    #[test]
    fn head_and_body_leave_together() {
        let mut thrift = thrift();
        for body in [&b"body"[..], &[b'x'; OUTPUT - 4]] {
            write(&mut thrift, b"head");
            assert!(thrift.inner.sent.is_empty());
            write(&mut thrift, body);
            assert_eq!(mem::take(&mut thrift.inner.sent), [[b"head", body].concat()]);
            write(&mut thrift, b"more of the body");
            assert_eq!(mem::take(&mut thrift.inner.sent), [b"more of the body"]);
            answer(&mut thrift);
            assert!(thrift.inner.sent.is_empty());
        }
    }

    #[test]
    fn a_head_leaves_before_a_body_that_fills_the_buffer() {
        let mut thrift = thrift();
        let body: Vec<u8> = (0..64).collect();
        assert_eq!(body.len(), OUTPUT);
        write(&mut thrift, b"head");
        write(&mut thrift, &body);
        write(&mut thrift, b"rest");
        assert_eq!(thrift.inner.sent, [&b"head"[..], &body, b"rest"]);
    }

    #[test]
    fn a_head_without_a_body_leaves_before_the_answer_is_awaited() {
        let mut thrift = thrift();
        for _ in 0..2 {
            write(&mut thrift, b"head");
            answer(&mut thrift);
            assert_eq!(mem::take(&mut thrift.inner.sent), [b"head"]);
        }
    }

    #[test]
    fn it_is_looked_once_in_a_while_however_many_answers_come() {
        let mut thrift = thrift();
        let start = StdDuration::from_secs(1);
        let mut looks = Vec::new();
        for step in 0..=10 {
            write(&mut thrift, b"head");
            answer(&mut thrift);
            assert!(thrift.is_open_at(start + TRUST / 5 * step));
            looks.push(thrift.inner.looks);
        }
        assert_eq!(looks, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]);
        let now = start + TRUST * 2;
        thrift.inner.is_silent = true;
        assert!(!thrift.await_input(NextTimeout::default()).unwrap());
        assert!(thrift.is_open_at(now));
        assert_eq!(thrift.inner.looks, 4, "the other side hung up");
        thrift.inner.is_closed = true;
        assert!(thrift.is_open_at(now), "it cannot know");
        for looks in 5..7 {
            assert!(!thrift.is_open_at(now + TRUST) && thrift.inner.looks == looks);
        }
    }

    #[test]
    fn time_outs_are_rounded_down_a_little() {
        let round = |nanos| {
            let after = Duration::Exact(StdDuration::from_nanos(nanos));
            match rounded(NextTimeout { after, ..NextTimeout::default() }).after {
                Duration::Exact(rounded) => u64::try_from(rounded.as_nanos()).unwrap(),
                Duration::NotHappening => u64::MAX,
            }
        };
        for nanos in (0..u64::BITS).flat_map(|shift| [1 << shift, u64::MAX >> shift, 3 << shift]) {
            let rounded = round(nanos);
            assert!(rounded <= nanos && nanos - rounded <= nanos / 32, "{nanos} to {rounded}");
        }
        let second = 1_000_000_000;
        assert_eq!(round(10 * second - 1_000), round(10 * second - 30_000_000));
        assert_eq!(rounded(NextTimeout::default()), NextTimeout::default());
        let mut thrift = thrift();
        let after = Duration::Exact(StdDuration::from_nanos(second + 1));
        let timeout = NextTimeout { after, ..NextTimeout::default() };
        thrift.transmit_output(1, timeout).unwrap();
        thrift.transmit_output(1, timeout).unwrap();
        thrift.await_input(timeout).unwrap();
        assert!(
            thrift.inner.timeouts.len() == 2 && thrift.inner.timeouts.iter().all(|it| *it != after)
        );
    }
}
