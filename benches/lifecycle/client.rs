//! A plain client: one connection, one request after the other.

use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any request may be held; a client that waits for ever would hide that.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(addr: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Sends a request; the reply's line, or the body of a bulk.
    pub fn call(&mut self, words: &[&str]) -> Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.0.get_mut().write_all(request.as_bytes())?;
        let line = self.line()?;
        match line.strip_prefix('$').and_then(|size| size.parse::<usize>().ok()) {
            Some(size) => {
                let mut body = vec![0; size + 2];
                std::io::Read::read_exact(&mut self.0, &mut body)?;
                body.truncate(size);
                Ok(String::from_utf8_lossy(&body).into_owned())
            }
            None => Ok(line),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let size = self.0.read_line(&mut line)?;
        ensure!(size > 0, "the connection was closed");
        Ok(line.trim_end().to_string())
    }
}
