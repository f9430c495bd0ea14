//! One client as CLIENT LIST and CLIENT INFO show it, and which clients a filter means.

use super::core::Core;
use super::error_reply::quoted;
use super::flight::SessionKey;
use super::pubsub::Kind;
use super::session::{Busy, Session};
use super::stats::ClientInfo;
use crate::command::CommandIx;
use crate::resp::Version;
use rustc_hash::FxHashMap;

/// The commands that clients wait for.
pub type UnderWay = FxHashMap<SessionKey, CommandIx>;

/// Which clients are meant: those that fit all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// One of these numbers.
    pub ids: Option<Vec<u64>>,
    pub kind: Option<ClientKind>,
    pub addr: Option<String>,
    pub laddr: Option<String>,
    /// Not this client.
    pub but: Option<u64>,
}

/// What a client's connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    Normal,
    Pubsub,
    /// Another server, which never is a client here.
    Server,
}

impl ClientKind {
    /// By the word of `TYPE`.
    pub fn from_word(word: &str) -> Option<ClientKind> {
        Some(match word {
            "normal" => ClientKind::Normal,
            "pubsub" => ClientKind::Pubsub,
            "master" | "primary" | "replica" | "slave" => ClientKind::Server,
            _ => return None,
        })
    }
}

impl Filter {
    pub fn fits(&self, session: &Session, info: &ClientInfo) -> bool {
        let kind = if session.state.subscriptions > 0 { ClientKind::Pubsub } else { ClientKind::Normal };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.addr.as_ref().is_none_or(|addr| *addr == info.addr.to_string())
            && self.laddr.as_ref().is_none_or(|laddr| *laddr == info.laddr.to_string())
            && self.but != Some(session.id)
    }
}

impl Core {
    /// The line of a client of this worker; `asking`: the command that it runs to be shown this, and the length
    /// of it; `under_way`: what clients wait for.
    pub fn client_line(
        &self,
        ix: usize,
        info: &ClientInfo,
        asking: Option<(CommandIx, usize)>,
        under_way: &UnderWay,
    ) -> String {
        let session = &self.sessions[ix];
        let (state, key) = (&session.state, self.key_of(ix));
        let [channels, patterns, sharded] =
            [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| self.subscriptions.count(key, kind));
        let multi = state.transaction.as_ref().map_or(-1, |transaction| i64::from(transaction.count));
        let queued = state.transaction.as_ref().map_or(0, |transaction| transaction.frames.len());
        let command = asking.map(|(command, _)| command).or(under_way.get(&key).copied());
        let cmd = command.map_or("NULL", |command| &*self.table.get(command).name);
        let buffered = asking.map_or(session.tail.len(), |(_, length)| length);
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db=0 sub={channels} psub={patterns} ssub={sharded} \
             multi={multi} qbuf={buffered} qbuf-free={} argv-mem=0 multi-mem={queued} rbs={} rbp={} obl=0 oll=0 \
             omem={} tot-mem={} events={} cmd={cmd} user=default redir={} resp={} lib-name={} lib-ver={}\n",
            session.id,
            info.addr,
            info.laddr,
            info.fd,
            quoted(&state.name),
            info.connected_at.elapsed().as_secs(),
            self.now_us.saturating_sub(session.heard_at) / 1_000_000,
            flags(session),
            session.tail.capacity() - session.tail.len(),
            session.out.capacity(),
            session.out.len(),
            session.unwritten() + session.pipeline.stored(),
            std::mem::size_of::<Session>() + session.tail.capacity() + session.out.capacity() + queued,
            if session.unwritten() > 0 { "rw" } else { "r" },
            state.tracking.as_ref().map_or(-1, |options| options.redirect as i64),
            if state.version == Version::Resp3 { 3 } else { 2 },
            quoted(&state.lib_name),
            quoted(&state.lib_ver),
        )
    }

    /// What the clients of this worker wait for just now.
    pub fn under_way(&self) -> UnderWay {
        let flights = self.backends.iter().flat_map(|(_, backend)| backend.wire.flights.iter());
        flights.map(|flight| (flight.tag.session, flight.tag.command)).collect()
    }
}

/// The letters of `flags`, as redis.io has them at CLIENT LIST.
fn flags(session: &Session) -> String {
    let state = &session.state;
    let letters: String = [
        (state.is_monitor, 'O'),
        (state.subscriptions > 0, 'P'),
        (state.transaction.is_some(), 'x'),
        (session.busy == Some(Busy::Blocked) || session.is_paused, 'b'),
        (session.closing.is_some(), 'c'),
        (state.tracking.is_some(), 't'),
        (state.tracking.as_ref().is_some_and(|options| options.is_broken), 'R'),
        (state.tracking.as_ref().is_some_and(|options| options.prefixes.is_some()), 'B'),
        (state.is_no_evict, 'e'),
        (state.is_no_touch, 'T'),
    ]
    .into_iter()
    .filter_map(|(is_so, letter)| is_so.then_some(letter))
    .collect();
    if letters.is_empty() { "N".to_string() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_filter_means_those_who_fit_all_of_it() {
        let (addr, laddr) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:6379".parse().unwrap());
        let info = ClientInfo { addr, laddr, fd: 3, worker: 0, connected_at: Instant::now() };
        let session = Session::new(0, 5, true, 0);
        let fits = |filter: Filter| filter.fits(&session, &info);
        assert!(fits(Filter::default()));
        assert!(fits(Filter {
            ids: Some(vec![4, 5]),
            addr: Some("127.0.0.1:7".into()),
            ..Filter::default()
        }));
        assert!(!fits(Filter { ids: Some(vec![4]), ..Filter::default() }));
        assert!(!fits(Filter { kind: ClientKind::from_word("pubsub"), ..Filter::default() }));
        assert!(!fits(Filter { kind: ClientKind::from_word("replica"), ..Filter::default() }));
        assert!(!fits(Filter { laddr: Some("127.0.0.1:7".into()), ..Filter::default() }));
        assert!(!fits(Filter { but: Some(5), ..Filter::default() }));
    }

    #[test]
    fn a_client_without_anything_special_is_normal() {
        let mut session = Session::new(0, 5, true, 0);
        assert_eq!(flags(&session), "N");
        session.state.is_monitor = true;
        session.is_paused = true;
        assert_eq!(flags(&session), "Ob");
    }
}
