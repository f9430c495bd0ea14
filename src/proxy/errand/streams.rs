//! XREAD and XREADGROUP of streams in several slots, without BLOCK: each stream is read where it is, and
//! the client gets them in the order in which it named them. Pure.

use super::exchange::{answered, given_up, half_way, is_error, single};
use super::{Ask, Manner, Plan, Step};
use crate::command::KeyRef;
use crate::proxy::fanout::array;
use crate::resp::{ReplyWriter, Request, Version};
use crate::topology::Slot;

#[derive(Debug)]
pub struct Streams {
    /// The arguments up to STREAMS.
    head: Vec<Vec<u8>>,
    /// The streams and where to begin to read them.
    streams: Vec<(Vec<u8>, Vec<u8>)>,
    version: Version,
    has_asked: bool,
    /// Whether reading is noted at the nodes: XREADGROUP.
    is_noted: bool,
}

impl Streams {
    /// Of a request whose keys are `keys`; an id for each follows them.
    pub fn new(request: &Request, keys: &[KeyRef], version: Version) -> Streams {
        let arg = |at: usize| request.get(at).unwrap_or_default().to_vec();
        let first = keys.first().map_or(request.len(), |key| key.index as usize);
        let stream = |key: &KeyRef| {
            let at = key.index as usize;
            (arg(at), arg(at + keys.len()))
        };
        Streams {
            head: (0..first).map(arg).collect(),
            streams: keys.iter().map(stream).collect(),
            version,
            has_asked: false,
            is_noted: request.arg(0).len() > b"XREAD".len(),
        }
    }

    fn ask(&self, (key, id): &(Vec<u8>, Vec<u8>)) -> Ask {
        let mut args: Vec<&[u8]> = self.head.iter().map(|arg| &arg[..]).collect();
        args.extend([&key[..], id]);
        single(Manner::Own, Slot::of_key(key), &args)
    }
}

impl Plan for Streams {
    fn step(&mut self, replies: &[Vec<u8>]) -> Step {
        if !std::mem::replace(&mut self.has_asked, true) {
            return Step::Ask(self.streams.iter().map(|stream| self.ask(stream)).collect());
        }
        let failed = replies.iter().filter(|reply| is_error(reply)).count();
        if let Some(error) = replies.iter().find(|reply| is_error(reply)) {
            let is_half = self.is_noted && failed < replies.len();
            return if is_half { half_way("xreadgroup", error) } else { given_up(error) };
        }
        // A list of pairs in RESP2, a map in RESP3, and null where there is nothing.
        let found: Vec<&[u8]> = replies
            .iter()
            .filter(|reply| !reply.starts_with(b"*-1") && !reply.starts_with(b"_"))
            .map(|reply| array(reply).1)
            .collect();
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: self.version };
        match (found.len(), self.version) {
            (0, _) => reply.null_array(),
            (count, Version::Resp2) => reply.array(count),
            (count, Version::Resp3) => reply.map(count),
        }
        found.into_iter().for_each(|elements| out.extend_from_slice(elements));
        answered(out)
    }

    fn must_end(&self) -> bool {
        false
    }

    fn keeps(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: Version, replies: &[&str]) -> String {
        let mut streams = Streams {
            head: vec![b"XREAD".to_vec(), b"STREAMS".to_vec()],
            streams: vec![(b"a".to_vec(), b"0".to_vec()), (b"b".to_vec(), b"1".to_vec())],
            version,
            has_asked: false,
            is_noted: false,
        };
        let Step::Ask(asks) = streams.step(&[]) else { panic!("nothing is asked") };
        assert_eq!(asks[1].frames, b"*4\r\n$5\r\nXREAD\r\n$7\r\nSTREAMS\r\n$1\r\nb\r\n$1\r\n1\r\n");
        let replies: Vec<Vec<u8>> = replies.iter().map(|reply| reply.as_bytes().to_vec()).collect();
        let Step::Answer(answer) = streams.step(&replies) else { panic!("there is no answer") };
        String::from_utf8(answer.reply).unwrap()
    }

    #[test]
    fn streams_come_in_the_order_of_the_request() {
        let [a, b] = ["*1\r\n*2\r\n+a\r\n*0\r\n", "*1\r\n*2\r\n+b\r\n*0\r\n"];
        assert_eq!(read(Version::Resp2, &[a, b]), "*2\r\n*2\r\n+a\r\n*0\r\n*2\r\n+b\r\n*0\r\n");
        assert_eq!(read(Version::Resp2, &["*-1\r\n", b]), b);
        assert_eq!(read(Version::Resp2, &["*-1\r\n", "*-1\r\n"]), "*-1\r\n");
        assert_eq!(read(Version::Resp3, &["_\r\n", "%1\r\n+b\r\n*0\r\n"]), "%1\r\n+b\r\n*0\r\n");
        assert_eq!(read(Version::Resp3, &["_\r\n", "_\r\n"]), "_\r\n");
        assert_eq!(read(Version::Resp2, &[a, "-WRONGTYPE no\r\n"]), "-WRONGTYPE no\r\n");
    }
}
