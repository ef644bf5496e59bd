//! A proxy on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A proxy that connects whoever asks for that server by that name, and hands bytes to and fro. Its threads end
/// with the process, or with what they serve.
pub(crate) fn tunnel(server: SocketAddr, host: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |client: TcpStream| -> std::io::Result<()> {
        let (mut reader, mut line) = (BufReader::new(client.try_clone()?), String::new());
        reader.read_line(&mut line)?;
        assert_eq!(line, format!("CONNECT {host}:{} HTTP/1.1\r\n", server.port()));
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let upstream = TcpStream::connect(server)?;
        (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let (from, mut to) = (reader, upstream.try_clone()?);
        let forth = thread::Builder::new().spawn(move || {
            let _ = std::io::copy(&mut { from }, &mut to);
            to.shutdown(Shutdown::Both)
        })?;
        let _ = std::io::copy(&mut { upstream }, &mut &client);
        let _ = client.shutdown(Shutdown::Both);
        drop(forth.join());
        Ok(())
    };
    let accept = move || {
        for client in listener.incoming() {
            let _ = thread::Builder::new().spawn(move || serve(client.unwrap()));
        }
    };
    thread::Builder::new().spawn(accept).unwrap();
    address
}
