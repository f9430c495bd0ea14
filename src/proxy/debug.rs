//! DEBUG: which node a subcommand goes to. Pure.
//!
//! Whether DEBUG may be used at all is the nodes' own matter (`enable-debug-command`); they say so themselves.

use super::error_reply::{ErrorReply, quoted};
use super::reports::Report;
use super::router::{All, Route};
use crate::resp::Request;
use crate::topology::Slot;

/// Where a subcommand goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// To the owner of the key that this argument is.
    Key(usize),
    /// To the owner of all keys from this argument on.
    Keys(usize),
    /// To all primaries, the replies merged.
    All(All),
    Refused,
}

/// The subcommands that any node will not do for; what is not here is one node's own business and asked of
/// any.
static SUBCOMMANDS: &[(&str, At)] = {
    use At::{All as To, Key, Keys, Refused};
    &[
        ("object", Key(2)),
        ("listpack", Key(2)),
        ("ziplist", Key(2)),
        ("quicklist", Key(2)),
        ("sdslen", Key(2)),
        ("htstats-key", Key(2)),
        ("mallocsize", Key(2)),
        ("client-enforce-reply-list", To(All::AllSucceed)),
        ("digest-value", Keys(2)),
        ("digest", To(All::Report(Report::Digest))),
        ("reload", To(All::AllSucceed)),
        ("loadaof", To(All::AllSucceed)),
        ("sleep", To(All::AllSucceed)),
        ("jmap", To(All::AllSucceed)),
        ("set-active-expire", To(All::AllSucceed)),
        ("quicklist-packed-threshold", To(All::AllSucceed)),
        ("set-disable-deny-scripts", To(All::AllSucceed)),
        ("dict-resizing", To(All::AllSucceed)),
        ("hashing-algorithm", To(All::AllSucceed)),
        ("pause-cron", To(All::AllSucceed)),
        ("replybuffer", To(All::AllSucceed)),
        ("dict-stats", To(All::AllSucceed)),
        ("config-rewrite-force-all", To(All::AllSucceed)),
        ("change-repl-id", To(All::AllSucceed)),
        ("log", To(All::AllSucceed)),
        ("leak", Refused),
        ("segfault", Refused),
        ("panic", Refused),
        ("assert", Refused),
        ("oom", Refused),
        ("restart", Refused),
        ("crash-and-recover", Refused),
        ("drop-cluster-packet-filter", Refused),
        ("close-cluster-link-on-packet-drop", Refused),
        ("replicate", Refused),
    ]
};

/// Where a DEBUG request goes.
pub fn route(request: &Request) -> Route {
    let name = quoted(request.get(1).unwrap_or_default()).to_ascii_lowercase();
    let at = SUBCOMMANDS.iter().find(|(known, _)| *known == name).map(|(_, at)| *at);
    match at {
        Some(At::Key(at)) if request.len() > at => {
            Route::One { slot: Slot::of_key(request.arg(at)), has_many_keys: false }
        }
        Some(At::Keys(from)) if request.len() > from => {
            let first = Slot::of_key(request.arg(from));
            if request.args().skip(from).all(|key| Slot::of_key(key) == first) {
                Route::One { slot: first, has_many_keys: request.len() > from + 1 }
            } else {
                Route::Refuse(ErrorReply::CrossSlot { name: format!("debug {name}"), option: None })
            }
        }
        Some(At::All(all)) => Route::All(all),
        Some(At::Refused) => Route::Refuse(ErrorReply::Refused {
            name: format!("debug {name}"),
            instead: "it harms the node that runs it; connect to that node itself",
        }),
        _ => Route::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner, write_request};

    fn routed(line: &str) -> Route {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, Limits::USUAL).unwrap();
        route(&Request::new(&frame, scanner.args()))
    }

    #[test]
    fn what_is_about_a_key_goes_to_its_owner() {
        let slot = Slot::of_key(b"k");
        assert_eq!(routed("DEBUG object k"), Route::One { slot, has_many_keys: false });
        assert_eq!(routed("DEBUG DIGEST-VALUE k {k}2"), Route::One { slot, has_many_keys: true });
        assert!(matches!(routed("DEBUG DIGEST-VALUE k other"), Route::Refuse(ErrorReply::CrossSlot { .. })));
        // Any node says what is missing.
        assert_eq!(routed("DEBUG OBJECT"), Route::Any);
    }

    #[test]
    fn what_is_about_the_server_goes_to_all_and_what_kills_it_nowhere() {
        assert_eq!(routed("DEBUG RELOAD NOSAVE"), Route::All(All::AllSucceed));
        assert_eq!(routed("DEBUG DIGEST"), Route::All(All::Report(Report::Digest)));
        assert_eq!(routed("DEBUG PROTOCOL attrib"), Route::Any);
        let Route::Refuse(refused) = routed("DEBUG SEGFAULT") else { panic!("refused") };
        assert_eq!(
            refused.to_string(),
            "ERR 'debug segfault' is not served through slotgate: it harms the node that runs it; connect to that \
             node itself"
        );
    }
}
