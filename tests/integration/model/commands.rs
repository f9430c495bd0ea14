//! Random commands from a seed: templates filled in, now and then garbled.
//!
//! The keyspace is small so that commands meet keys that exist, mostly of the right type.

use fastrand::Rng;

/// One request: its name and arguments.
pub type Command = Vec<Vec<u8>>;

/// A source of random commands; the same seed gives the same commands.
pub struct Commands {
    rng: Rng,
    templates: Vec<Template>,
    dump: Vec<u8>,
    is_nesting_survived: bool,
    is_spread: bool,
    next_id: u64,
}

struct Template {
    words: Vec<&'static str>,
    is_kept: bool,
    is_tagged: bool,
}

const TYPES: &[&str] = &["str", "hash", "list", "set", "zset", "stream", "hll", "geo"];
const TAGS: &[&[u8]] = &[b"{a}", b"{b}", b"{cd}"];
/// The far future, in seconds.
const YEAR_2100: u64 = 4_102_444_800;

/// Whether a command may wait for data.
fn may_wait(words: &[&str]) -> bool {
    words.contains(&"BLOCK") || (words[0].starts_with('B') && words[0] != "BITOP")
}

impl Commands {
    /// `dump`: what DUMP says of some key, for RESTORE. `is_nesting_survived`: whether a MULTI or a WATCH
    /// in a transaction is an error that leaves the transaction as it was (Redis), or ends it (Valkey).
    /// `is_spread`: commands with several keys, unless they wait, have them in any slots.
    pub fn new(seed: u64, dump: Vec<u8>, is_nesting_survived: bool, is_spread: bool) -> Commands {
        let lines =
            include_str!("templates.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let templates = lines.map(|line| Template {
            words: line.trim_start_matches(['&', '!']).split(' ').collect(),
            is_kept: line.chars().take(2).any(|c| c == '!'),
            is_tagged: line.starts_with('&'),
        });
        let (rng, templates) = (Rng::with_seed(seed), templates.collect());
        Commands { rng, templates, dump, is_nesting_survived, is_spread, next_id: 1 }
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The next commands that belong together: one, or a transaction.
    pub fn next(&mut self) -> Vec<Command> {
        if self.rng.u8(..) < 6 { self.transaction() } else { vec![self.command()] }
    }

    fn command(&mut self) -> Command {
        let at = self.rng.usize(..self.templates.len());
        let template = &self.templates[at];
        let (words, is_kept) = (template.words.clone(), template.is_kept);
        let has_one_slot = template.is_tagged && (!self.is_spread || may_wait(&words));
        let tag = has_one_slot.then(|| self.tag());
        let mut command = self.fill(&words, tag);
        if !is_kept && self.rng.u8(..) < 20 {
            self.garble(&mut command, tag);
        }
        command
    }

    /// MULTI to EXEC or DISCARD, with keys of one slot; sometimes watched, sometimes with an error.
    fn transaction(&mut self) -> Vec<Command> {
        const ORDERED: &[&str] = &[
            "SET", "GET", "INCR", "MSET", "MGET", "HSET", "HGET", "RPUSH", "LRANGE", "LPOP", "ZADD", "DEL",
            "SADD", "TYPE", "PING", "BLPOP",
        ];
        let tag = Some(self.tag());
        let mut commands = Vec::new();
        if self.rng.u8(..4) == 0 {
            commands.push(self.fill(&["WATCH", "<any>", "<str>"], tag));
            if self.rng.bool() {
                commands.push(self.fill(&["APPEND", "<str>", "<v>"], tag));
            }
        }
        commands.push(vec![b"MULTI".to_vec()]);
        for _ in 0..self.rng.usize(..6) {
            let fitting: Vec<usize> = (0..self.templates.len())
                .filter(|at| ORDERED.contains(&self.templates[*at].words[0]))
                .collect();
            let at = self.rng.choice(fitting).expect("there are such templates");
            let words = self.templates[at].words.clone();
            let mut command = self.fill(&words, tag);
            match self.rng.u8(..40) {
                0 => command.truncate(1),
                1 => command[0] = b"NOSUCHCOMMAND".to_vec(),
                2 if self.is_nesting_survived => command = vec![b"MULTI".to_vec()],
                3 if self.is_nesting_survived => command = self.fill(&["WATCH", "<str>"], tag),
                _ => {}
            }
            commands.push(command);
        }
        let end: &[u8] = if self.rng.u8(..5) == 0 { b"DISCARD" } else { b"EXEC" };
        commands.push(vec![end.to_vec()]);
        commands
    }

    fn fill(&mut self, words: &[&str], tag: Option<&'static [u8]>) -> Command {
        words.iter().map(|word| self.word(word, tag)).collect()
    }

    fn word(&mut self, word: &str, tag: Option<&'static [u8]>) -> Vec<u8> {
        let Some((before, rest)) = word.split_once('<') else { return word.replace('~', " ").into_bytes() };
        let Some((name, after)) = rest.split_once('>') else { return word.as_bytes().to_vec() };
        let middle = match name {
            "any" => self.key_of_any_type(tag),
            "v" => self.value(),
            "m" => self.member(),
            "name" => self.client_name(),
            "i" => self.integer(),
            "f" => self.float(),
            "ix" => self.rng.i64(-4..5).to_string().into_bytes(),
            "off" => self.rng.u16(..200).to_string().into_bytes(),
            "bit" => self.rng.u8(..2).to_string().into_bytes(),
            "id" => self.id(),
            "at" => (YEAR_2100 + self.rng.u64(..1000)).to_string().into_bytes(),
            "at-ms" => (YEAR_2100 * 1000 + self.rng.u64(..1_000_000)).to_string().into_bytes(),
            "dump" => self.dump.clone(),
            "dumped" => self.key("dumped", tag),
            // What commands by letters answer is only defined while all scores are the same.
            "lex" => self.key("lex", tag),
            // Now and then a key of another type.
            _ if self.rng.u8(..) < 10 => self.key_of_any_type(tag),
            kind => self.key(kind, tag),
        };
        [before.as_bytes(), &middle, after.as_bytes()].concat()
    }

    fn tag(&mut self) -> &'static [u8] {
        TAGS[self.rng.usize(..TAGS.len())]
    }

    fn key_of_any_type(&mut self, tag: Option<&'static [u8]>) -> Vec<u8> {
        let kind = TYPES[self.rng.usize(..TYPES.len())];
        self.key(kind, tag)
    }

    fn key(&mut self, kind: &str, tag: Option<&'static [u8]>) -> Vec<u8> {
        let number = self.rng.u8(..6);
        let mut key = match tag {
            Some(tag) => [tag, kind.as_bytes()].concat(),
            None if self.rng.u8(..4) == 0 => [self.tag(), kind.as_bytes()].concat(),
            None => kind.as_bytes().to_vec(),
        };
        match number {
            0 => key.extend_from_slice(b"\xff\x00\r\n"),
            1 => key.extend_from_slice(b" {}"),
            // The empty key, which is a string as good as any.
            2 if tag.is_none() && kind == "str" => key.clear(),
            _ => key.push(b'0' + number),
        }
        key
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.u8(..12) {
            0 => Vec::new(),
            1..=3 => self.integer(),
            4 => self.float(),
            5 => b"$3\r\nfoo\r\n*1\r\n-ERR x\r\n".to_vec(),
            6 => (0..self.rng.usize(..40)).map(|_| self.rng.u8(..)).collect(),
            7 if self.rng.u8(..4) == 0 => vec![self.rng.alphabetic() as u8; self.rng.usize(..9000)],
            8 => "\u{fc}ber \u{1f980}".as_bytes().to_vec(),
            _ => (0..self.rng.usize(1..5)).map(|_| self.rng.lowercase() as u8).collect(),
        }
    }

    /// A hash field, an element of a set: few, so that they meet; one is too long for a compact encoding.
    fn member(&mut self) -> Vec<u8> {
        match self.rng.u8(..16) {
            0 => Vec::new(),
            1 => b"\x00\xfe\r\n".to_vec(),
            2 => vec![b'L'; 70],
            3..=5 => self.rng.u8(..5).to_string().into_bytes(),
            _ => vec![b'a' + self.rng.u8(..6)],
        }
    }

    /// Without NUL: servers newer than Redis 7.0 look no further than to the first one.
    fn client_name(&mut self) -> Vec<u8> {
        match self.rng.u8(..8) {
            0 => Vec::new(),
            1 => b"\xfe\r\n".to_vec(),
            2 => b"a b".to_vec(),
            _ => vec![b'a' + self.rng.u8(..6)],
        }
    }

    fn integer(&mut self) -> Vec<u8> {
        match self.rng.u8(..12) {
            0 => b"9223372036854775807".to_vec(),
            1 => b"-9223372036854775808".to_vec(),
            _ => self.rng.i64(-10..30).to_string().into_bytes(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        match self.rng.u8(..10) {
            0 => b"1e300".to_vec(),
            1 => b"inf".to_vec(),
            _ => (f64::from(self.rng.i16(-300..300)) / 8.0).to_string().into_bytes(),
        }
    }

    /// Mostly the next in line, as a stream's ids must grow.
    fn id(&mut self) -> Vec<u8> {
        let id = if self.rng.u8(..4) == 0 {
            self.rng.u64(..self.next_id)
        } else {
            self.next_id += self.rng.u64(1..3);
            self.next_id
        };
        if self.rng.bool() { format!("{id}-1") } else { format!("{id}") }.into_bytes()
    }

    /// One argument too few or too many, or one that is something else; a garbled key keeps its slot.
    fn garble(&mut self, command: &mut Command, tag: Option<&'static [u8]>) {
        let name_len = command[0].len();
        match self.rng.u8(..6) {
            0 => drop(command.pop_if(|_| name_len > 0)),
            1 => command.truncate(1),
            2 => command.push([tag.unwrap_or_default(), &self.value()].concat()),
            3 => command[0].make_ascii_lowercase(),
            4 => command[0] = [b"X", &self.member()[..]].concat(),
            _ => {
                let at = self.rng.usize(1..command.len().max(2));
                if at < command.len() {
                    command[at] = [tag.unwrap_or_default(), &self.value()].concat();
                }
            }
        }
        if command.is_empty() {
            command.push(b"GET".to_vec());
        }
    }
}
