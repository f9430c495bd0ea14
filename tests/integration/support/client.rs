//! A client that sends raw bytes and reads replies as the exact bytes that came.
//!
//! It finds the end of a reply by itself and not by the gateway's scanner: a test must not trust what
//! it tests.

use super::PATIENCE;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// One plain connection. Every method fails the test on an unexpected end or silence.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        Client::of(stream)
    }

    /// A connection, if there is somebody at `addr`.
    pub fn try_connect(addr: SocketAddr) -> Option<Client> {
        TcpStream::connect(addr).ok().map(Client::of)
    }

    pub fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// How long this client waits for a reply.
    pub fn set_patience(&self, patience: Duration) {
        self.stream().set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.get_mut().write_all(bytes.as_ref()) {
            let mut last_words = Vec::new();
            let _ = self.stream.read_to_end(&mut last_words);
            panic!(
                "the connection takes no bytes, {error}; its last were {:?}",
                last_words.escape_ascii().to_string()
            );
        }
    }

    /// Sends one request and does not wait for its reply.
    #[track_caller]
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(request(args));
    }

    /// Reads the next reply, or push, whole.
    #[track_caller]
    pub fn read(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        if let Err(error) = self.read_value(&mut reply) {
            panic!("no reply, {error}; its bytes so far: {:?}", String::from_utf8_lossy(&reply));
        }
        reply
    }

    /// As [`Client::read`], where the connection may end instead.
    pub fn try_read(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        self.read_value(&mut reply).map(|()| reply)
    }

    /// Sends one request and reads one reply, where the connection may end instead.
    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Vec<u8>> {
        self.stream.get_mut().write_all(&request(args))?;
        self.try_read()
    }

    /// The bytes that come, for replies too large to be kept.
    pub fn reader(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    /// Sends one request and reads one reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(args);
        self.read()
    }

    /// As [`Client::call`], for replies that are text; other bytes are replaced.
    #[track_caller]
    pub fn call_text<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        String::from_utf8_lossy(&self.call(args)).into_owned()
    }

    /// Sends the words of `line` as a request and checks the whole reply, byte for byte.
    #[track_caller]
    pub fn expect(&mut self, line: &str, reply: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(self.call_text(&words), reply, "the reply to {line}");
    }

    /// Ends our side; the other one may still send.
    pub fn shutdown_write(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads what still comes until the other side closes.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection was not closed: {error}"),
        }
        rest
    }

    /// The socket itself, for what only a test does to it.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn read_value(&mut self, reply: &mut Vec<u8>) -> io::Result<()> {
        let begins = reply.len();
        if self.stream.read_until(b'\n', reply)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = &reply[begins..];
        let kind = line[0];
        let number =
            std::str::from_utf8(&line[1..]).ok().and_then(|text| text.trim_end().parse::<i64>().ok());
        match (kind, number) {
            (b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(', _) => Ok(()),
            (b'$' | b'=' | b'!', Some(len)) if len >= 0 => {
                let body = reply.len();
                reply.resize(body + len as usize + 2, 0);
                self.stream.read_exact(&mut reply[body..])
            }
            (b'*' | b'~' | b'>', Some(count)) => self.read_values(count, reply),
            (b'%', Some(pairs)) => self.read_values(pairs * 2, reply),
            (b'|', Some(pairs)) => self.read_values(pairs * 2 + 1, reply),
            (b'$', Some(_)) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "that is not a reply")),
        }
    }

    fn read_values(&mut self, count: i64, reply: &mut Vec<u8>) -> io::Result<()> {
        (0..count).try_for_each(|_| self.read_value(reply))
    }
}

/// A request as clients write it: an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(&bulk(arg));
    }
    bytes
}

/// A bulk string, as a request's argument or a reply.
pub fn bulk(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [format!("${}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}
