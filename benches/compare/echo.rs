//! The floor: an epoll server on one thread that does one recv and one send for what came, and has
//! no node behind it. What a proxy costs above this is what being a proxy costs.
//!
//! It runs as a process of its own, so that its CPU time can be read as every other target's is.

use anyhow::{Result, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slotgate::resp::{Limits, RequestScan, RequestScanner};
use std::io::{self, Read as _, Write as _};
use std::str::FromStr;

const LISTENER: Token = Token(usize::MAX);
/// Sees the requests of one turn whole at every workload's pipeline depth.
const SCRATCH: usize = 64 * 1024;

/// The one reply an echo gives to every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Ok,
    /// A bulk string of so many bytes.
    Bulk(usize),
    /// An array of so many bulk strings of so many bytes.
    ArrayOfBulks(usize, usize),
}

impl Reply {
    pub fn bytes(self) -> Vec<u8> {
        let bulk = |size: usize| format!("${size}\r\n{}\r\n", "x".repeat(size));
        match self {
            Reply::Ok => "+OK\r\n".to_owned(),
            Reply::Bulk(size) => bulk(size),
            Reply::ArrayOfBulks(count, size) => format!("*{count}\r\n{}", bulk(size).repeat(count)),
        }
        .into_bytes()
    }

    /// How it is given on the command line.
    pub fn argument(self) -> String {
        match self {
            Reply::Ok => "ok".to_owned(),
            Reply::Bulk(size) => format!("{size}"),
            Reply::ArrayOfBulks(count, size) => format!("{count}x{size}"),
        }
    }
}

impl FromStr for Reply {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Reply> {
        Ok(match text.split_once('x') {
            Some((count, size)) => Reply::ArrayOfBulks(count.parse()?, size.parse()?),
            None if text == "ok" => Reply::Ok,
            None => Reply::Bulk(text.parse()?),
        })
    }
}

struct Client {
    stream: TcpStream,
    scanner: RequestScanner,
    /// The beginning of a request whose end has not come yet.
    unfinished: Vec<u8>,
}

/// Serves until it is killed; prints the port it listens on first.
pub fn serve(reply: &[u8]) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?.port());

    let mut clients = slab::Slab::<Client>::new();
    let mut events = Events::with_capacity(1024);
    let (mut scratch, mut out) = (vec![0; SCRATCH], Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut clients)?;
            } else if let Some(client) = clients.get_mut(event.token().0)
                && !answer(client, &mut scratch, reply, &mut out).unwrap_or(false)
            {
                clients.remove(event.token().0);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, clients: &mut slab::Slab<Client>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                let client = Client { stream, scanner: RequestScanner::default(), unfinished: Vec::new() };
                let token = clients.insert(client);
                poll.registry().register(&mut clients[token].stream, Token(token), Interest::READABLE)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// One recv and one send; `false`: the client has gone. A recv that fills less than the buffer has
/// emptied the socket, so no second one is needed before the next event (epoll(7), edge triggered).
fn answer(client: &mut Client, scratch: &mut [u8], reply: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    loop {
        let len = match client.stream.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        out.clear();
        for _ in 0..count_requests(client, &scratch[..len])? {
            out.extend_from_slice(reply);
        }
        if !out.is_empty() && client.stream.write(out)? < out.len() {
            bail!("a benchmark's client does not read its replies");
        }
        if len < scratch.len() {
            return Ok(true);
        }
    }
}

/// How many requests end in `bytes`; keeps the beginning of the next one.
fn count_requests(client: &mut Client, bytes: &[u8]) -> Result<usize> {
    let is_resuming = !client.unfinished.is_empty();
    if is_resuming {
        client.unfinished.extend_from_slice(bytes);
    }
    let unfinished = std::mem::take(&mut client.unfinished);
    let mut rest = if is_resuming { &unfinished[..] } else { bytes };
    let mut count = 0;
    while !rest.is_empty() {
        match client.scanner.scan(rest, Limits::USUAL)? {
            RequestScan::Complete { len } | RequestScan::Inline { len, .. } => {
                rest = &rest[len..];
                client.scanner.reset();
                count += 1;
            }
            RequestScan::Incomplete { .. } => break,
        }
    }
    client.unfinished = match (is_resuming, count) {
        (true, 0) => unfinished,
        _ => rest.to_vec(),
    };
    Ok(count)
}
