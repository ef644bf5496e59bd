//! The same server for HTTP/2 (RFC 9113): as much of it as it takes to let requests in, to know
//! where each ends, and to say 200.
//!
//! The client is a well-behaved one, and known: what it says in its headers is not looked at, and
//! its windows are never used up by answers without a body.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::TAKEN;

/// With this a client begins.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;

// Types of frames, and flags (sections 6 and 4.1).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// Names of settings, with values: nobody is to wait for a window here.
const MAX_CONCURRENT_STREAMS: (u16, u32) = (3, 1000);
const INITIAL_WINDOW_SIZE: (u16, u32) = (4, 16 << 20);

/// `:status: 200`, the eighth of the static table (RFC 7541, appendix A).
const STATUS_200: &[u8] = &[0x88];

/// Answers until the other side hangs up. `begun` is what it has said, the preface included.
pub(super) fn converse(mut stream: TcpStream, begun: &[u8]) -> std::io::Result<()> {
    let mut out = Vec::new();
    let settings: Vec<u8> = [MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE]
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(&mut out, SETTINGS, 0, 0, &settings);
    frame(&mut out, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    stream.write_all(&out)?;
    let mut buffer = begun.get(PREFACE.len()..).unwrap_or_default().to_vec();
    let mut filled = buffer.len();
    buffer.resize(1 << 20, 0);
    // Of the connection's window, so much is used up.
    let mut used: u32 = 0;
    loop {
        out.clear();
        let mut rest = buffer.get(..filled).unwrap_or_default();
        let mut taken = 0;
        while let Some((head, behind)) = rest.split_at_checked(HEAD) {
            let &[a, b, c, kind, flags, d, e, f, g] = head else { break };
            let length = u32::from_be_bytes([0, a, b, c]);
            let id = u32::from_be_bytes([d, e, f, g]);
            let Some((payload, next)) = behind.split_at_checked(length as usize) else { break };
            match kind {
                SETTINGS if flags & ACK == 0 => frame(&mut out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut out, PING, ACK, 0, payload),
                DATA | HEADERS => {
                    used += if kind == DATA { length } else { 0 };
                    if flags & END_STREAM != 0 {
                        TAKEN.fetch_add(1, Ordering::Relaxed);
                        frame(&mut out, HEADERS, END_STREAM | END_HEADERS, id, STATUS_200);
                    }
                }
                _ => {}
            }
            taken += HEAD + length as usize;
            rest = next;
        }
        if used > 1 << 28 {
            frame(&mut out, WINDOW_UPDATE, 0, 0, &used.to_be_bytes());
            used = 0;
        }
        if !out.is_empty() {
            stream.write_all(&out)?;
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        match stream.read(buffer.get_mut(filled..).unwrap_or_default())? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
}

/// A frame with a short payload.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    out.extend_from_slice(&[0, 0, length, kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}
