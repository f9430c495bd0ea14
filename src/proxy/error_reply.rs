//! Every error text that a client can see from us, in one file; each with Redis' own code word, and
//! with what to do where that is not plain.
//!
//! Pure. Errors of nodes are relayed and not found here. No text names a node's address.

use super::redirect::Cause;
use crate::resp::{ProtocolError, Request};
use crate::telemetry::Reason;
use crate::topology::Slot;
use std::fmt;
use std::time::Duration;

/// An error reply of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorReply {
    Protocol(ProtocolError),
    UnknownCommand {
        name: String,
        args: String,
    },
    UnknownSubcommand {
        container: String,
        name: String,
    },
    Arity {
        name: String,
    },
    Syntax,
    NoAuth,
    HelloNoAuth,
    WrongPass,
    AuthWithoutPassword,
    NoProto,
    HelloOption {
        option: String,
    },
    DbIndex,
    ClusterDisabled,
    /// `option` would have it served.
    CrossSlot {
        name: String,
        option: Option<&'static str>,
    },
    /// Of a command over several slots: its values are too large.
    CrossSlotTooLarge {
        limit: usize,
    },
    /// Of a SORT: its patterns stand for too many keys.
    TooManyLookups {
        limit: usize,
    },
    /// Of a command over several slots: others change its keys again and again.
    Contended {
        name: String,
    },
    /// A command over several slots was done in part.
    HalfWay {
        name: String,
        why: String,
    },
    CrossSlotMulti,
    NestedMulti,
    ExecWithoutMulti,
    DiscardWithoutMulti,
    WatchInsideMulti,
    ExecAbort,
    /// A node refused one of the commands.
    ExecAbortFor {
        because: String,
    },
    ExecArity,
    NotInMulti {
        name: String,
    },
    MultiTooLarge,
    Refused {
        name: String,
        instead: &'static str,
    },
    /// CONFIG SET of what nodes are found by.
    SettingOfNodes {
        name: String,
    },
    SubscribedMode {
        name: String,
    },
    /// Not run, and the time to hold it is over.
    GaveUp {
        cause: Cause,
        slot: Option<Slot>,
        held: Duration,
    },
    /// Not run, as a later command of the same client for the same slot already was.
    Overtaken,
    TooManyRedirects,
    /// Sent, and the connection was lost before the reply.
    OutcomeUnknown,
    HeldLimit,
    /// PUBLISH to the channel on which gateways hear of planned changes.
    OwnChannel,
    Overloaded,
    RequestTooLarge {
        limit: usize,
    },
    ReplyTooLarge {
        limit: usize,
    },
    UploadMoved,
    Partial {
        failed: usize,
        parts: usize,
        first: String,
    },
    MaxClients,
    BadCursor,
    ClientName,
    /// ACL SETUSER or DELUSER of the user that the gateway itself is.
    OwnUser {
        name: String,
    },
    NoSuchClient,
    /// SYNC needs every primary.
    NoNodeForSync,
    ShuttingDown,
    Invalid {
        what: &'static str,
    },
    /// The same with a client's own words in it.
    Wrong {
        what: String,
    },
}

/// Longest piece of a client's words that is given back.
const QUOTED: usize = 128;

/// A client's words, made fit to stand in an error line.
pub fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The refusal of a command that no table knows, in the words of `src/server.c`: arguments until they
/// make 128 bytes, the last one cut.
pub fn unknown_command(request: &Request) -> ErrorReply {
    let mut args = String::new();
    for arg in request.args().skip(1) {
        let Some(room) = 128usize.checked_sub(args.len()).filter(|room| *room > 0) else { break };
        args.push_str(&format!("'{}' ", quoted(&arg[..arg.len().min(room)])));
    }
    ErrorReply::UnknownCommand { name: quoted(request.arg(0)), args }
}

impl ErrorReply {
    /// The metric's label, of errors that a route ends in.
    pub fn reason(&self) -> Reason {
        match self {
            ErrorReply::Arity { .. } => Reason::Arity,
            ErrorReply::CrossSlot { .. } | ErrorReply::CrossSlotMulti => Reason::CrossSlot,
            ErrorReply::Refused { .. } | ErrorReply::OwnChannel | ErrorReply::SettingOfNodes { .. } => {
                Reason::Unsupported
            }
            _ => Reason::Other,
        }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ErrorReply::*;
        match self {
            Protocol(error) => write!(f, "ERR {error}"),
            UnknownCommand { name, args } => {
                write!(f, "ERR unknown command '{name}', with args beginning with: {args}")
            }
            UnknownSubcommand { container, name } => {
                write!(f, "ERR unknown subcommand '{name}'. Try {} HELP.", container.to_ascii_uppercase())
            }
            Arity { name } => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Syntax => f.write_str("ERR syntax error"),
            NoAuth => f.write_str("NOAUTH Authentication required."),
            HelloNoAuth => f.write_str(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                 AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                 version at the same time",
            ),
            WrongPass => f.write_str("WRONGPASS invalid username-password pair or user is disabled."),
            AuthWithoutPassword => f.write_str(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                 your configuration is correct?",
            ),
            NoProto => f.write_str("NOPROTO unsupported protocol version"),
            HelloOption { option } => write!(f, "ERR Syntax error in HELLO option '{option}'"),
            DbIndex => f.write_str("ERR DB index is out of range"),
            ClusterDisabled => f.write_str("ERR This instance has cluster support disabled"),
            CrossSlot { name, option } => {
                write!(
                    f,
                    "CROSSSLOT Keys in request don't hash to the same slot; '{name}' needs all its keys in one: give \
                     them a common hash tag such as {{user:1}}:a and {{user:1}}:b"
                )?;
                option.map_or(Ok(()), |option| write!(f, ", or start slotgate with {option}"))
            }
            CrossSlotTooLarge { limit } => write!(
                f,
                "ERR not run: the values in several slots are larger than {limit} bytes together, or too many such \
                 commands are under way; give the keys a common hash tag, or slotgate a larger --cross-slot-bytes"
            ),
            TooManyLookups { limit } => {
                write!(f, "ERR not run: the patterns of BY and GET stand for more than {limit} keys; sort less at once")
            }
            Contended { name } => write!(
                f,
                "TRYAGAIN not run: other clients change the keys of '{name}', which lie in several slots, again and \
                 again; try again later, or give them a common hash tag"
            ),
            HalfWay { name, why } => write!(
                f,
                "IOERR done in part: '{name}' has its keys in several slots and was stopped ({why}); what it moves \
                 may be at both places now, never at none; check before you repeat it"
            ),
            CrossSlotMulti => f.write_str(
                "CROSSSLOT Keys in request don't hash to the same slot; all keys of a transaction must be in one: \
                 give them a common hash tag such as {user:1}:a and {user:1}:b, or start slotgate with --cross-slot \
                 emulate",
            ),
            NestedMulti => f.write_str("ERR MULTI calls can not be nested"),
            ExecWithoutMulti => f.write_str("ERR EXEC without MULTI"),
            DiscardWithoutMulti => f.write_str("ERR DISCARD without MULTI"),
            WatchInsideMulti => f.write_str("ERR WATCH inside MULTI is not allowed"),
            ExecAbort => f.write_str("EXECABORT Transaction discarded because of previous errors."),
            ExecAbortFor { because } => write!(f, "EXECABORT Transaction discarded because of: {because}"),
            ExecArity => f.write_str(
                "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
            ),
            NotInMulti { name } => {
                write!(f, "ERR '{name}' cannot be part of a transaction through slotgate; call it before or after")
            }
            MultiTooLarge => f.write_str("ERR the transaction is too large; split it"),
            Refused { name, instead } => write!(f, "ERR '{name}' is not served through slotgate: {instead}"),
            SettingOfNodes { name } if name == "port" => f.write_str(
                "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port: \
                 slotgate's own is given by its --listen, and the nodes' ports are their own",
            ),
            SettingOfNodes { name } => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - it is about the nodes behind \
                 slotgate, which would not find each other any more; change it at each node"
            ),
            SubscribedMode { name } => write!(
                f,
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                 allowed in this context"
            ),
            GaveUp { cause, slot, held } => {
                let (code, why) = match cause {
                    Cause::TryAgain => ("TRYAGAIN", "the keys are being moved"),
                    Cause::Loading => ("LOADING", "the node is loading its data"),
                    Cause::MasterDown => ("MASTERDOWN", "the replica lost its primary"),
                    Cause::ReadOnly => ("READONLY", "the node was demoted and no new primary is known"),
                    Cause::Moved | Cause::Ask => ("CLUSTERDOWN", "the nodes do not agree on who serves it"),
                    Cause::ClusterDown => ("CLUSTERDOWN", "the cluster does not serve it"),
                    Cause::Unreachable => ("CLUSTERDOWN", "its shard has no reachable primary"),
                };
                write!(f, "{code} not run: {why}")?;
                if let Some(slot) = slot {
                    write!(f, " (slot {slot})")?;
                }
                write!(f, "; held for {:.1} s, try again later", held.as_secs_f64())
            }
            Overtaken => f.write_str(
                "TRYAGAIN not run: the slot was unavailable for a moment, and a later command of this connection \
                 for it was served first; send it again",
            ),
            TooManyRedirects => {
                f.write_str("CLUSTERDOWN not run: the nodes do not agree on who serves the slot; try again later")
            }
            OutcomeUnknown => f.write_str(
                "IOERR outcome unknown: the connection to the node was lost after the command was sent, it may or \
                 may not have been executed; it was not repeated, check before you do",
            ),
            OwnChannel => f.write_str(
                "NOPERM this channel is slotgate's own: gateways hear of planned changes there; use another one",
            ),
            HeldLimit => f.write_str(
                "CLUSTERDOWN not run: its shard has no reachable primary and too many requests already wait for \
                 one; try again later",
            ),
            Overloaded => f.write_str("TRYAGAIN not run: the node has too many requests waiting; try again later"),
            RequestTooLarge { limit } => write!(
                f,
                "ERR the request is larger than {limit} bytes and cannot be streamed, as it has several keys or \
                 stands in a transaction; split it"
            ),
            ReplyTooLarge { limit } => write!(
                f,
                "ERR the reply is larger than {limit} bytes and cannot be streamed; ask for less at once"
            ),
            UploadMoved => f.write_str(
                "TRYAGAIN not run: the slot moved, or its node was lost, while the large value was on its way; send \
                 it again",
            ),
            Partial { failed, parts, first } => {
                let (code, text) = first.split_once(' ').unwrap_or(("ERR", first));
                write!(f, "{code} {failed} of {parts} parts failed, the others are done; the first failure: {text}")
            }
            MaxClients => f.write_str("ERR max number of clients reached"),
            BadCursor => f.write_str("ERR invalid cursor"),
            ClientName => f.write_str("ERR Client names cannot contain spaces, newlines or special characters."),
            OwnUser { name } => write!(
                f,
                "ERR '{name}' is the user that slotgate itself is at the nodes, which would not let it in any more; \
                 change it at each node, and slotgate's password with it"
            ),
            NoNodeForSync => f.write_str(
                "CLUSTERDOWN not run: SYNC needs a connection to every primary, and one cannot be had; try again later",
            ),
            NoSuchClient => f.write_str("ERR No such client"),
            ShuttingDown => f.write_str("ERR slotgate is shutting down; connect again"),
            Invalid { what } => write!(f, "ERR {what}"),
            Wrong { what } => write!(f, "ERR {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_words_cannot_break_the_line() {
        assert_eq!(quoted(b"a\r\n+OK"), "a  +OK");
        assert_eq!(quoted(&[b'x'; 999]).len(), QUOTED);
    }

    #[test]
    fn every_reason_to_give_up_says_not_run_and_never_moved() {
        for cause in
            [Cause::Moved, Cause::Ask, Cause::TryAgain, Cause::ClusterDown, Cause::Loading, Cause::ReadOnly]
        {
            let text =
                ErrorReply::GaveUp { cause, slot: Slot::new(7), held: Duration::from_secs(10) }.to_string();
            assert!(
                text.contains("not run") && !text.starts_with("MOVED") && !text.starts_with("ASK"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_partial_failure_keeps_the_code_word() {
        let first = "OOM command not allowed".to_string();
        let text = ErrorReply::Partial { failed: 1, parts: 3, first }.to_string();
        assert_eq!(
            text,
            "OOM 1 of 3 parts failed, the others are done; the first failure: command not allowed"
        );
    }
}
