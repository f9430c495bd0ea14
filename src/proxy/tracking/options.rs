//! `CLIENT TRACKING` as clients say it, and what a client has chosen so far. Pure.
//!
//! The words are those of the server (`src/networking.c` and `src/tracking.c`).

use crate::proxy::error_reply::{ErrorReply, quoted};
use crate::proxy::pipeline::Ticket;
use crate::resp::Request;

/// Which keys are remembered when a client reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    #[default]
    All,
    /// After CLIENT CACHING YES.
    OptIn,
    /// Not after CLIENT CACHING NO.
    OptOut,
}

/// What a client that tracks has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The client that is told instead; 0: this one.
    pub redirect: u64,
    /// Is told of all keys that begin with one of these, whether read or not.
    pub prefixes: Option<Vec<Box<[u8]>>>,
    pub choice: Choice,
    pub is_noloop: bool,
    /// CLIENT CACHING was said for the next command.
    pub is_caching: bool,
    /// The client that is told instead is gone.
    pub is_broken: bool,
    /// It has read something since it was last told to forget all.
    pub has_read: bool,
    /// Its own writes of late.
    writes: Vec<Write>,
    /// Keys that it read after it wrote them, in one transaction.
    settled: Vec<Write>,
}

/// A key that the client itself writes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    key: Box<[u8]>,
    ticket: Ticket,
    /// When it was sent, in microseconds of the worker's clock.
    at: u64,
}

/// What a client is told of a changed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is its own change, and it wants to hear nothing of these.
    Not,
    /// It is its own change and older than what it read; it is to be told of the next.
    NotYet,
    /// `is_own`: it writes the key itself just now.
    Now { is_own: bool },
}

/// A node tells of a change in the same turn in which it answers; ours come a little later.
const MOMENT: u64 = 10_000;
/// Beyond so many, writes are looked through for those that are long over.
const MOST_WRITES: usize = 1000;

/// What CLIENT TRACKING asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    On(Options),
    Off,
}

fn invalid(what: &'static str) -> ErrorReply {
    ErrorReply::Invalid { what }
}

/// Reads the options, for a client that has chosen `now` before; `is_there`: whether a client has this
/// number.
///
/// # Errors
/// As the server refuses them.
pub fn parse(
    request: &Request,
    now: Option<&Options>,
    is_there: impl Fn(u64) -> bool,
) -> Result<Wish, ErrorReply> {
    let mut wanted = Options::default();
    let mut prefixes: Vec<Box<[u8]>> = Vec::new();
    let (mut is_bcast, mut is_optin, mut is_optout) = (false, false, false);
    let mut args = request.args().skip(3);
    while let Some(option) = args.next() {
        match &*option.to_ascii_lowercase() {
            b"redirect" if args.len() > 0 => {
                if wanted.redirect != 0 {
                    return Err(invalid("A client can only redirect to a single other client"));
                }
                let id = args.next().and_then(|id| std::str::from_utf8(id).ok()?.parse::<i64>().ok());
                let id = id.ok_or(invalid("value is not an integer or out of range"))?;
                wanted.redirect = u64::try_from(id)
                    .ok()
                    .filter(|id| is_there(*id))
                    .ok_or(invalid("The client ID you want redirect to does not exist"))?;
            }
            b"prefix" if args.len() > 0 => prefixes.extend(args.next().map(Box::from)),
            b"bcast" => is_bcast = true,
            b"optin" => is_optin = true,
            b"optout" => is_optout = true,
            b"noloop" => wanted.is_noloop = true,
            _ => return Err(ErrorReply::Syntax),
        }
    }
    match &*request.arg(2).to_ascii_lowercase() {
        b"on" => {}
        b"off" => return Ok(Wish::Off),
        _ => return Err(ErrorReply::Syntax),
    }
    if !is_bcast && !prefixes.is_empty() {
        return Err(invalid("PREFIX option requires BCAST mode to be enabled"));
    }
    if now.is_some_and(|now| now.prefixes.is_some() != is_bcast) {
        return Err(invalid(
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    if is_bcast && (is_optin || is_optout) {
        return Err(invalid("OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if is_optin && is_optout {
        return Err(invalid("You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let before = now.map(|now| now.choice).unwrap_or_default();
    if (is_optin && before == Choice::OptOut) || (is_optout && before == Choice::OptIn) {
        return Err(invalid(
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    if is_bcast {
        let known = now.and_then(|now| now.prefixes.clone()).unwrap_or_default();
        check_overlaps(&prefixes, &known)?;
        if prefixes.is_empty() {
            prefixes.push(Box::default());
        }
        let mut all = known;
        all.extend(prefixes.into_iter().filter(|prefix| !all.contains(prefix)).collect::<Vec<_>>());
        all.sort_unstable();
        wanted.prefixes = Some(all);
    }
    wanted.choice = match (is_optin, is_optout) {
        (true, _) => Choice::OptIn,
        (_, true) => Choice::OptOut,
        _ => Choice::All,
    };
    Ok(Wish::On(wanted))
}

/// Prefixes of one client must not overlap: it would be told twice.
fn check_overlaps(given: &[Box<[u8]>], known: &[Box<[u8]>]) -> Result<(), ErrorReply> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (at, prefix) in given.iter().enumerate() {
        let existing = known.iter().map(|other| (other, "an existing"));
        let provided = given[at + 1..].iter().map(|other| (other, "another provided"));
        if let Some((other, which)) = existing.chain(provided).find(|(other, _)| overlap(prefix, other)) {
            let what = format!(
                "Prefix '{}' overlaps with {which} prefix '{}'. Prefixes for a single client must not overlap.",
                quoted(prefix),
                quoted(other)
            );
            return Err(ErrorReply::Wrong { what });
        }
    }
    Ok(())
}

/// CLIENT CACHING.
///
/// # Errors
/// As the server refuses it.
pub fn cache(word: &[u8], now: Option<&mut Options>) -> Result<(), ErrorReply> {
    let Some(now) = now else {
        return Err(invalid(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    match (&*word.to_ascii_lowercase(), now.choice) {
        (b"yes", Choice::OptIn) | (b"no", Choice::OptOut) => now.is_caching = true,
        (b"yes", _) => {
            return Err(invalid("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
        }
        (b"no", _) => {
            return Err(invalid("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
        }
        _ => return Err(ErrorReply::Syntax),
    }
    Ok(())
}

impl Options {
    /// A command is on its way that writes these keys.
    pub fn note_writes(&mut self, written: Vec<Box<[u8]>>, settled: Vec<Box<[u8]>>, ticket: Ticket, at: u64) {
        let write = |key| Write { key, ticket, at };
        self.writes.extend(written.into_iter().map(write));
        // Who hears of all keys and of all changes hears of these, too.
        if self.prefixes.is_none() || self.is_noloop {
            self.settled.extend(settled.into_iter().map(write));
        }
        if self.writes.len() > MOST_WRITES {
            self.writes.retain(|write| at - write.at < MOMENT);
        }
    }

    /// What to tell of a key that has changed, by what the client did itself; `is_owed`: whether a command of
    /// its has no reply yet.
    pub fn judge(&mut self, key: &[u8], now: u64, mut is_owed: impl FnMut(Ticket) -> bool) -> Told {
        let mut is_fresh = |write: &Write| now.saturating_sub(write.at) < MOMENT || is_owed(write.ticket);
        self.writes.retain(&mut is_fresh);
        self.settled.retain(&mut is_fresh);
        let own = self.writes.iter().find(|write| *write.key == *key).map(|write| write.ticket);
        if let Some(at) = self.settled.iter().position(|write| *write.key == *key) {
            self.settled.swap_remove(at);
            self.forget_write(key, own);
            return Told::NotYet;
        }
        if self.is_noloop && own.is_some() {
            self.forget_write(key, own);
            Told::Not
        } else {
            Told::Now { is_own: own.is_some() }
        }
    }

    /// A command changes a key once for those who hear of it: what comes next is another change.
    fn forget_write(&mut self, key: &[u8], ticket: Option<Ticket>) {
        self.writes.retain(|write| Some(write.ticket) != ticket || *write.key != *key);
    }

    /// Whether the keys that the next command reads are remembered.
    pub fn wants_reads(&self) -> bool {
        self.prefixes.is_none()
            && match self.choice {
                Choice::All => true,
                Choice::OptIn => self.is_caching,
                Choice::OptOut => !self.is_caching,
            }
    }

    /// The words of `CLIENT TRACKINGINFO`.
    pub fn flags(&self) -> Vec<&'static str> {
        let is_in = self.choice == Choice::OptIn;
        let is_out = self.choice == Choice::OptOut;
        [
            (true, "on"),
            (self.prefixes.is_some(), "bcast"),
            (is_in, "optin"),
            (is_in && self.is_caching, "caching-yes"),
            (is_out, "optout"),
            (is_out && self.is_caching, "caching-no"),
            (self.is_noloop, "noloop"),
            (self.is_broken, "broken_redirect"),
        ]
        .into_iter()
        .filter_map(|(is_so, word)| is_so.then_some(word))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner, write_request};

    fn parsed(line: &str, now: Option<&Options>) -> Result<Wish, String> {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, Limits::USUAL).unwrap();
        parse(&Request::new(&frame, scanner.args()), now, |id| id == 7).map_err(|error| error.to_string())
    }

    fn on(line: &str, now: Option<&Options>) -> Options {
        match parsed(line, now) {
            Ok(Wish::On(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        let options = on("CLIENT TRACKING on NOLOOP redirect 7 OPTIN", None);
        assert_eq!((options.redirect, options.choice, options.is_noloop), (7, Choice::OptIn, true));
        assert_eq!(options.flags(), ["on", "optin", "noloop"]);
        assert_eq!(parsed("CLIENT TRACKING OFF", Some(&options)), Ok(Wish::Off));
        let all = on("CLIENT TRACKING ON BCAST", None);
        assert_eq!(all.prefixes, Some(vec![Box::from(&b""[..])]));
    }

    #[test]
    fn prefixes_add_up_and_never_overlap() {
        let first = on("CLIENT TRACKING ON BCAST PREFIX a: PREFIX b:", None);
        let both = on("CLIENT TRACKING ON BCAST PREFIX c:", Some(&first));
        assert_eq!(both.prefixes.map(|prefixes| prefixes.len()), Some(3));
        for (line, now, what) in [
            ("PREFIX FOOBAR PREFIX FOO", None, "'FOOBAR' overlaps with another provided prefix 'FOO'"),
            ("PREFIX FOO PREFIX FOOBAR", None, "'FOO' overlaps with another provided prefix 'FOOBAR'"),
            ("PREFIX a", Some(&first), "'a' overlaps with an existing prefix 'a:'"),
        ] {
            let error = parsed(&format!("CLIENT TRACKING ON BCAST {line}"), now).unwrap_err();
            assert_eq!(error, format!("ERR Prefix {what}. Prefixes for a single client must not overlap."),);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_as_by_a_server() {
        let plain = on("CLIENT TRACKING ON", None);
        let optin = on("CLIENT TRACKING ON OPTIN", None);
        for (line, now, error) in [
            ("ON PREFIX a", None, "ERR PREFIX option requires BCAST mode to be enabled"),
            ("ON BCAST OPTIN", None, "ERR OPTIN and OPTOUT are not compatible with BCAST"),
            ("ON OPTIN OPTOUT", None, "ERR You can't specify both OPTIN mode and OPTOUT mode"),
            ("ON REDIRECT 8", None, "ERR The client ID you want redirect to does not exist"),
            ("ON REDIRECT x", None, "ERR value is not an integer or out of range"),
            ("ON REDIRECT 7 REDIRECT 7", None, "ERR A client can only redirect to a single other client"),
            ("ON REDIRECT", None, "ERR syntax error"),
            ("maybe", None, "ERR syntax error"),
            (
                "ON BCAST",
                Some(&plain),
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ),
            (
                "ON OPTOUT",
                Some(&optin),
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ),
        ] {
            assert_eq!(parsed(&format!("CLIENT TRACKING {line}"), now).unwrap_err(), error, "{line}");
        }
    }

    #[test]
    fn caching_counts_where_the_client_has_to_say_so() {
        let mut optin = on("CLIENT TRACKING ON OPTIN", None);
        assert!(!optin.wants_reads());
        assert!(cache(b"no", Some(&mut optin)).is_err() && cache(b"x", Some(&mut optin)).is_err());
        assert!(cache(b"YES", Some(&mut optin)).is_ok() && optin.wants_reads());
        assert_eq!(optin.flags(), ["on", "optin", "caching-yes"]);
        let mut optout = on("CLIENT TRACKING ON OPTOUT", None);
        assert!(optout.wants_reads() && cache(b"no", Some(&mut optout)).is_ok() && !optout.wants_reads());
        assert!(cache(b"yes", None).is_err());
    }

    #[test]
    fn with_noloop_a_client_hears_of_the_changes_of_others_only() {
        let mut options = on("CLIENT TRACKING ON NOLOOP", None);
        let key = || vec![Box::from(&b"k"[..])];
        options.note_writes(key(), vec![], 5, 1000);
        assert_eq!(options.judge(b"k", 2000, |_| false), Told::Not);
        assert_eq!(options.judge(b"other", 2000, |_| false), Told::Now { is_own: false });
        // Its own change was heard of: this one is another's.
        assert_eq!(options.judge(b"k", 2001, |_| false), Told::Now { is_own: false });
        options.note_writes(key(), vec![], 5, 1000);
        assert_eq!(options.judge(b"k", 900_000, |ticket| ticket == 5), Told::Not);
        options.note_writes(key(), vec![], 6, 1000);
        assert_eq!(options.judge(b"k", 900_000, |_| false), Told::Now { is_own: false });
        let mut options = on("CLIENT TRACKING ON", None);
        options.note_writes(key(), vec![], 5, 1000);
        assert_eq!(options.judge(b"k", 2000, |_| true), Told::Now { is_own: true });
    }

    #[test]
    fn a_key_that_was_read_after_its_change_is_told_of_at_the_next() {
        let mut options = on("CLIENT TRACKING ON", None);
        let key = || vec![Box::from(&b"k"[..])];
        options.note_writes(key(), key(), 5, 1000);
        assert_eq!(options.judge(b"k", 2000, |_| false), Told::NotYet);
        assert_eq!(options.judge(b"k", 2000, |_| false), Told::Now { is_own: false });
    }

    #[test]
    fn with_noloop_a_key_that_expires_in_the_transaction_that_wrote_it_is_told_of_alone() {
        let mut options = on("CLIENT TRACKING ON BCAST NOLOOP", None);
        let keys = |names: &[&[u8]]| names.iter().map(|name| Box::from(*name)).collect();
        options.note_writes(keys(&[b"k", b"other"]), keys(&[b"k"]), 5, 1000);
        assert_eq!(options.judge(b"other", 2000, |_| true), Told::Not);
        assert_eq!(options.judge(b"k", 2000, |_| true), Told::NotYet);
        assert_eq!(options.judge(b"k", 2000, |_| true), Told::Now { is_own: false });
    }

    #[test]
    fn who_hears_of_all_keys_hears_of_what_it_wrote_and_read_in_one_transaction() {
        let mut options = on("CLIENT TRACKING ON BCAST", None);
        let key = || vec![Box::from(&b"k"[..])];
        options.note_writes(key(), key(), 5, 1000);
        assert_eq!(options.judge(b"k", 2000, |_| true), Told::Now { is_own: true });
    }
}
