//! Talking to a target directly: is it serving, fill it with keys, hold idle clients.

use crate::workloads::Keys;
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// A proxy that has to learn a cluster first needs some seconds; longer is a fault.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Far above any reply's time, even on a busy machine.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// Requests in flight while filling: enough to be quick, small enough for any proxy's buffers.
const FILL_BATCH: usize = 64;

pub fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    stream.set_write_timeout(Some(REPLY_LIMIT))?;
    Ok(stream)
}

/// Waits until keys of all shards can be written.
pub fn wait_until_serving(port: u16, mut has_ended: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let error = match try_all_shards(port) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        ensure!(!has_ended(), "the process has ended");
        ensure!(Instant::now() < deadline, "not within {START_LIMIT:?}: {error:#}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// 64 keys miss none of three shards but by a chance of 1 in 10^11.
fn try_all_shards(port: u16) -> Result<()> {
    let mut stream = BufReader::new(connect(port)?);
    for ix in 0..64 {
        write!(stream.get_mut(), "SET probe:{ix} x\r\n")?;
        let mut reply = String::new();
        stream.read_line(&mut reply)?;
        ensure!(reply == "+OK\r\n", "SET was answered with {reply:?}");
    }
    Ok(())
}

/// Writes the keys that redis-benchmark is going to read.
pub fn fill(port: u16, keys: Keys) -> Result<()> {
    let mut stream = connect(port)?;
    let value = "x".repeat(keys.size);
    let mut replies = Vec::new();
    for batch in (0..keys.count).collect::<Vec<_>>().chunks(FILL_BATCH) {
        let mut requests = String::new();
        for ix in batch {
            let _ =
                write!(requests, "*3\r\n$3\r\nSET\r\n$16\r\nkey:{ix:012}\r\n${}\r\n{value}\r\n", keys.size);
        }
        stream.write_all(requests.as_bytes())?;
        let expected = b"+OK\r\n".repeat(batch.len());
        replies.resize(expected.len(), 0);
        stream.read_exact(&mut replies).context("filling with keys")?;
        if replies != expected {
            bail!("filling with keys was answered with {:?}", String::from_utf8_lossy(&replies));
        }
    }
    Ok(())
}

/// Connects a client that does one SET and one GET, and is then idle.
pub fn idle_client(port: u16, ix: usize) -> Result<TcpStream> {
    const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let mut stream = connect(port)?;
    let key = format!("idle:{ix}");
    let len = key.len();
    write!(
        stream,
        "*3\r\n$3\r\nSET\r\n${len}\r\n{key}\r\n$64\r\n{VALUE}\r\n*2\r\n$3\r\nGET\r\n${len}\r\n{key}\r\n"
    )?;
    let expected = format!("+OK\r\n$64\r\n{VALUE}\r\n");
    let mut replies = vec![0; expected.len()];
    stream.read_exact(&mut replies)?;
    ensure!(
        replies == expected.as_bytes(),
        "SET and GET were answered with {:?}",
        String::from_utf8_lossy(&replies)
    );
    Ok(stream)
}

/// Thousands of clients need more open files than a shell's usual 1024, here and in what we start.
pub fn raise_open_files_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or fill the struct that is passed.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
