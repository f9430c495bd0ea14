//! The sets that a row of the table speaks in: what a command is, what it does with a key, which ACL
//! categories it belongs to. Part of FRAME → NAME, KEYS; the words are the server's own, as `COMMAND`
//! replies them, and nothing here knows a command.

/// Makes a set of named bits: constants, set arithmetic, and the way from and to the server's words.
macro_rules! bits {
    ($(#[$doc:meta])* $set:ident: $repr:ty { $($(#[$note:meta])* $bit:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $set($repr);

        impl $set {
            bits!(@constants $repr, 0; $($(#[$note])* $bit,)*);

            const WORDS: &[(&str, $set)] = &[$(($word, $set::$bit)),*];

            /// No bit at all.
            pub const NONE: $set = $set(0);

            /// The bit that a server calls `word`, in any letter case.
            pub fn from_word(word: &str) -> Option<$set> {
                Self::WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, bit)| *bit)
            }

            /// The server's words for the bits that are set.
            pub fn words(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::WORDS.iter().filter(move |(_, bit)| self.contains(*bit)).map(|(word, _)| *word)
            }

            /// Whether all bits of `other` are set.
            #[inline]
            pub const fn contains(self, other: $set) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[inline]
            pub const fn intersects(self, other: $set) -> bool {
                self.0 & other.0 != 0
            }

            /// Both sets together.
            #[inline]
            pub const fn with(self, other: $set) -> $set {
                $set(self.0 | other.0)
            }

            /// This set less `other`.
            #[inline]
            pub const fn without(self, other: $set) -> $set {
                $set(self.0 & !other.0)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.words()).finish()
            }
        }
    };
    (@constants $repr:ty, $at:expr; $(#[$note:meta])* $bit:ident, $($rest:tt)*) => {
        $(#[$note])*
        pub const $bit: Self = Self(1 << ($at));
        bits!(@constants $repr, $at + 1; $($rest)*);
    };
    (@constants $repr:ty, $at:expr;) => {};
}

bits! {
    /// What a command is and where it may run (redis.io: COMMAND, "Flags").
    Flags: u32 {
        /// May change data.
        WRITE = "write",
        /// Only reads keys. Beware of [`Flags::MAY_REPLICATE`] before asking a replica.
        READONLY = "readonly",
        DENYOOM = "denyoom",
        /// Came with a module.
        MODULE = "module",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        NOSCRIPT = "noscript",
        /// May wait for another client.
        BLOCKING = "blocking",
        /// Allowed while the data is loaded.
        LOADING = "loading",
        /// Allowed on a replica that has lost its primary.
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        SKIP_COMMANDLOG = "skip_commandlog",
        /// Runs on a node that imports the slot, without ASKING.
        ASKING = "asking",
        FAST = "fast",
        /// Allowed before AUTH.
        NO_AUTH = "no_auth",
        /// Writes to replicas though it is not a write: belongs on a primary. Servers do not report it.
        MAY_REPLICATE = "may_replicate",
        /// Valid without any key.
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        /// First, last and step do not tell all keys.
        MOVABLEKEYS = "movablekeys",
        ALLOW_BUSY = "allow_busy",
        NO_ASYNC_LOADING = "no_async_loading",
        /// Refused between MULTI and EXEC.
        NO_MULTI = "no_multi",
        TOUCHES_ARBITRARY_KEYS = "touches_arbitrary_keys",
        /// Runs a script or a function.
        SCRIPT_RUNNER = "script_runner",
    }
}

bits! {
    /// What a command does with a key (redis.io: "Command key specifications", flags).
    Access: u16 {
        /// Reads the value, may change nothing.
        RO = "RO",
        /// Reads and changes the value.
        RW = "RW",
        /// Overwrites the value, whatever it was.
        OW = "OW",
        /// Removes the key.
        RM = "RM",
        /// The value's data reaches the client or another key.
        ACCESS = "access",
        UPDATE = "update",
        INSERT = "insert",
        DELETE = "delete",
        /// Not a key but a name that hashes to a slot like one: a shard channel.
        NOT_KEY = "not_key",
        /// The spec may miss keys.
        INCOMPLETE = "incomplete",
        /// Other arguments decide what happens to the key.
        VARIABLE_FLAGS = "variable_flags",
    }
}

bits! {
    /// ACL categories (redis.io: ACL CAT), without their `@`.
    Categories: u64 {
        KEYSPACE = "keyspace",
        READ = "read",
        WRITE = "write",
        SET = "set",
        SORTEDSET = "sortedset",
        LIST = "list",
        HASH = "hash",
        STRING = "string",
        ARRAY = "array",
        BITMAP = "bitmap",
        HYPERLOGLOG = "hyperloglog",
        GEO = "geo",
        STREAM = "stream",
        PUBSUB = "pubsub",
        ADMIN = "admin",
        FAST = "fast",
        SLOW = "slow",
        BLOCKING = "blocking",
        DANGEROUS = "dangerous",
        CONNECTION = "connection",
        TRANSACTION = "transaction",
        SCRIPTING = "scripting",
        JSON = "json",
        SEARCH = "search",
        TIMESERIES = "timeseries",
        BLOOM = "bloom",
        CUCKOO = "cuckoo",
        CMS = "cms",
        TOPK = "topk",
        TDIGEST = "tdigest",
        VECTORSET = "vectorset",
    }
}

impl Categories {
    /// The categories that follow from `flags`, given those named outright.
    pub fn implied(flags: Flags, named: Categories) -> Categories {
        let mut all = if flags.contains(Flags::FAST) { Categories::FAST } else { Categories::SLOW };
        for (flag, category) in [
            (Flags::WRITE, Categories::WRITE),
            (Flags::PUBSUB, Categories::PUBSUB),
            (Flags::BLOCKING, Categories::BLOCKING),
            (Flags::ADMIN, Categories::ADMIN.with(Categories::DANGEROUS)),
        ] {
            if flags.contains(flag) {
                all = all.with(category);
            }
        }
        if flags.contains(Flags::READONLY) && !named.contains(Categories::SCRIPTING) {
            all = all.with(Categories::READ);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_the_words_it_was_made_of() {
        let set = Flags::from_word("WRITE").unwrap().with(Flags::from_word("fast").unwrap());
        assert_eq!(set.words().collect::<Vec<_>>(), ["write", "fast"]);
        assert_eq!(Flags::from_word("nonsense"), None);
    }

    #[test]
    fn scripts_that_only_read_are_not_in_the_read_category() {
        let implied = Categories::implied(Flags::READONLY, Categories::SCRIPTING);
        assert_eq!(implied, Categories::SLOW);
    }
}
