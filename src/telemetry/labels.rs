//! The values that metric labels can take: small enums, so that counting is an array index.
//!
//! Pure data. A label value that users' dashboards know is never renamed.

/// An enum whose variants are label values and array indices.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values, in the order of their indices.
            pub const ALL: [$name; [$($text),+].len()] = [$($name::$variant),+];

            /// The label's text.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value's place in [`Self::ALL`].
            #[inline]
            pub(super) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// A group of commands, as `COMMAND DOCS` names it.
    Family {
        String => "string",
        Hash => "hash",
        List => "list",
        Set => "set",
        SortedSet => "sorted-set",
        Stream => "stream",
        Bitmap => "bitmap",
        Geo => "geo",
        HyperLogLog => "hyperloglog",
        Generic => "generic",
        Pubsub => "pubsub",
        Scripting => "scripting",
        Transactions => "transactions",
        Connection => "connection",
        Server => "server",
        Cluster => "cluster",
        /// What came with a module, whatever group it calls its own.
        Module => "module",
        /// Unknown commands, and groups that came after this list.
        Other => "other",
    }
}

impl Family {
    /// The family of a command group, written as in `COMMAND DOCS` (`sorted-set`) or in the servers'
    /// command files (`sorted_set`); [`Family::Other`] for a group that is not known.
    pub fn from_group(group: &str) -> Family {
        let group = group.to_ascii_lowercase().replace('_', "-");
        if MODULE_GROUPS.contains(&group.as_str()) {
            return Family::Module;
        }
        Family::ALL.into_iter().find(|family| family.as_str() == group).unwrap_or(Family::Other)
    }
}

/// The groups of the modules that ship with Redis 8 (Redis documentation, "Commands").
const MODULE_GROUPS: [&str; 10] =
    ["bf", "cf", "cms", "json", "search", "suggestion", "tdigest", "timeseries", "topk", "vector-set"];

label! {
    /// How a request ended, as its client saw it.
    Outcome {
        /// A reply that is no error.
        Ok => "ok",
        /// A node's error reply, relayed.
        Error => "error",
        /// The gateway answered with an error and nothing was executed.
        Refused => "refused",
        /// The gateway answered with an error after a node may have executed it.
        Failed => "failed",
    }
}

label! {
    /// Why a node's answer, or the lack of one, sent a request elsewhere or made it wait.
    RedirectKind {
        Moved => "moved",
        Ask => "ask",
        TryAgain => "tryagain",
        ClusterDown => "clusterdown",
        Loading => "loading",
        ReadOnly => "readonly",
        MasterDown => "masterdown",
    }
}

label! {
    /// Why the gateway answered a request with an error of its own.
    Reason {
        /// The bytes are no frame.
        Protocol => "protocol",
        /// The client has not authenticated.
        NoAuth => "noauth",
        /// No node knows the command.
        UnknownCommand => "unknown-command",
        /// Too few or too many arguments.
        Arity => "arity",
        /// Keys of several slots in a command that cannot be split.
        CrossSlot => "crossslot",
        /// A command that makes no sense through a gateway.
        Unsupported => "unsupported",
        /// Over a limit on size.
        TooLarge => "too-large",
        /// A queue, or the room for held requests, is full.
        Overloaded => "overloaded",
        /// No reachable primary within the time to hold.
        Unreachable => "unreachable",
        /// More redirects than one request may take.
        Redirects => "redirects",
        /// No reply within the deadline.
        Timeout => "timeout",
        /// The connection was lost after the request was sent and repeating it may do harm.
        UnknownOutcome => "unknown-outcome",
        /// The gateway is going down.
        Draining => "draining",
        Other => "other",
    }
}

label! {
    /// How a command whose keys lie in several slots ended.
    ErrandResult {
        Done => "done",
        /// With an error, and nothing was changed.
        Error => "error",
        /// The values were too large, or too many at once.
        TooLarge => "too-large",
        /// Done in part.
        HalfWay => "half-way",
        /// `--cross-slot` does not allow it.
        Refused => "refused",
    }
}

label! {
    /// Why a client's connection ended.
    Close {
        /// The client closed it, or sent QUIT.
        Client => "client",
        /// Nothing came for longer than the idle timeout.
        Idle => "idle",
        /// It did not read its replies and they passed the hard limit.
        Output => "output",
        /// It sent bytes that are no frame.
        Protocol => "protocol",
        /// The gateway went down.
        Drain => "drain",
        /// CLIENT KILL of another client.
        Killed => "killed",
        /// The socket failed.
        Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_in_both_spellings() {
        assert_eq!(Family::from_group("sorted-set"), Family::SortedSet);
        assert_eq!(Family::from_group("sorted_set"), Family::SortedSet);
        assert_eq!(Family::from_group("vector_set"), Family::Module);
        assert_eq!(Family::from_group("rate_limit"), Family::Other);
    }

    #[test]
    fn an_index_leads_back_to_its_value() {
        for (ix, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family.index(), ix);
        }
    }
}
