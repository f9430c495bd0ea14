//! Tests of the replication link against sources that say what Redis says, in pieces.

use super::*;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A source that answers PING and REPLCONF, then says `script` piece by piece; what it heard after that
/// can be received.
async fn source(script: Vec<Vec<u8>>) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (heard, hearing) = mpsc::channel(16);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = [0; 4096];
        for answer in ["+PONG\r\n", "+OK\r\n"] {
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        let len = stream.read(&mut request).await.unwrap();
        let _ = heard.send(request[..len].to_vec()).await;
        for piece in script {
            stream.write_all(&piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        while let Ok(len @ 1..) = stream.read(&mut request).await {
            let _ = heard.send(request[..len].to_vec()).await;
        }
    });
    (addr, hearing)
}

async fn open(addr: SocketAddr, place: Option<&Place>) -> Result<(Link, Opening), ReplicationError> {
    Link::open(addr, &Credentials::default(), Duration::from_secs(10), place).await
}

async fn snapshot(link: &mut Link) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = link.read_snapshot().await.unwrap() {
        assert!(piece.len() <= MAX_CHUNK, "{}", piece.len());
        all.extend_from_slice(&piece);
    }
    all
}

const FULL: &[u8] = b"+FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 100\r\n";

#[tokio::test]
async fn a_snapshot_of_known_length_and_the_changes_after_it_are_told_apart() {
    let body: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut rest = [b"\n\n$200000\r\n".as_slice(), &body].concat();
    rest.extend_from_slice(b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\n\n\r\n$2\r\n\r\n\r\n");
    let (addr, mut heard) = source(vec![b"\n".to_vec(), FULL.to_vec(), rest]).await;
    let (mut link, opening) = open(addr, None).await.unwrap();
    assert_eq!(opening, Opening::Snapshot);
    assert_eq!(link.place().offset, 100);
    assert_eq!(snapshot(&mut link).await, body);
    assert_eq!(link.next_change().await.unwrap().offset, 114);
    let change = link.next_change().await.unwrap();
    assert_eq!(change.words, [&b"SET"[..], b"\n", b"\r\n"]);
    assert_eq!(change.offset, 114 + 28);
    assert_eq!(heard.recv().await.unwrap(), b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    let ack = b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n";
    assert!(heard.recv().await.unwrap().starts_with(ack), "it never says that it stored anything");
}

#[tokio::test]
async fn the_mark_after_a_snapshot_is_found_wherever_it_is_cut() {
    let mark = b"0123456789abcdef0123456789abcdef01234567";
    let body = [b"REDIS0010".as_slice(), &mark[..39], b"x"].concat();
    for cut in [1, 39, 40, 41, 60, 80] {
        let tail = [&body[..], &mark[..], b"*1\r\n$4\r\nPING\r\n"].concat();
        let (head, tail) = tail.split_at(cut);
        let head = [b"$EOF:".as_slice(), mark, b"\r\n", head].concat();
        let (addr, _heard) = source(vec![FULL.to_vec(), head, tail.to_vec()]).await;
        let (mut link, _) = open(addr, None).await.unwrap();
        assert_eq!(snapshot(&mut link).await, body, "cut at {cut}");
        assert_eq!(link.next_change().await.unwrap().words, [&b"PING"[..]]);
    }
}

#[tokio::test]
async fn a_known_place_is_continued_from() {
    let said = b"+CONTINUE newhistory\r\n*1\r\n$4\r\nPING\r\n".to_vec();
    let (addr, mut heard) = source(vec![said]).await;
    let place = Place { history: "oldhistory".into(), offset: 41 };
    let (mut link, opening) = open(addr, Some(&place)).await.unwrap();
    assert_eq!(opening, Opening::Changes);
    assert_eq!(link.next_change().await.unwrap().offset, 55);
    assert_eq!(*link.place(), Place { history: "newhistory".into(), offset: 55 });
    assert!(heard.recv().await.unwrap().ends_with(b"$10\r\noldhistory\r\n$2\r\n42\r\n"));
}

#[tokio::test]
async fn a_source_that_refuses_is_told_with_the_next_step() {
    for (said, says) in [
        ("-NOPERM this user has no permissions to run 'psync'", "ACL SETUSER"),
        ("-LOADING Redis is loading the dataset in memory", "still loading"),
        ("-ERR unknown command 'PSYNC'", "managed services"),
        ("-NOMASTERLINK Can't SYNC while not connected with my master", "name the primary"),
        ("+WHAT", "unexpected"),
    ] {
        let (addr, _heard) = source(vec![format!("{said}\r\n").into_bytes()]).await;
        let error = open(addr, None).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{said}: {error}");
    }
    let (addr, _heard) = source(vec![FULL.to_vec(), b"-ERR out of disk\r\n".to_vec()]).await;
    let (mut link, _) = open(addr, None).await.unwrap();
    assert!(matches!(link.read_snapshot().await, Err(ReplicationError::NoSnapshot { .. })));
}
