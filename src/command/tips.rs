//! How a command without one place to run is spread over nodes and its replies merged (redis.io:
//! "Command tips"), and the family a command belongs to. Part of FRAME → NAME, KEYS, POLICY: data for
//! the router, no decision is taken here.

/// Makes an enum whose variants have a server's word each.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$note])* $variant,)* }

        impl $name {
            /// All of them, in the order of their `as usize`.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The server's word.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// The variant of a server's word.
            pub fn from_word(word: &str) -> Option<$name> {
                Self::ALL.iter().copied().find(|known| known.word() == word)
            }
        }
    };
}

words! {
    /// Which nodes a command goes to, other than to the owner of its keys or to any one.
    RequestPolicy {
        /// All nodes, replicas too.
        AllNodes = "all_nodes",
        /// All primaries.
        AllShards = "all_shards",
        /// The owners of its keys, split among them.
        MultiShard = "multi_shard",
        Special = "special",
    }
}

words! {
    /// How the replies of several nodes become one.
    ResponsePolicy {
        /// The first that is not an error.
        OneSucceeded = "one_succeeded",
        /// An error if any is one.
        AllSucceeded = "all_succeeded",
        And = "agg_logical_and",
        Or = "agg_logical_or",
        Min = "agg_min",
        Max = "agg_max",
        Sum = "agg_sum",
        Special = "special",
    }
}

words! {
    /// The family of a command, as `COMMAND DOCS` and the metrics name it.
    Group {
        Generic = "generic",
        String = "string",
        List = "list",
        Set = "set",
        SortedSet = "sorted-set",
        Hash = "hash",
        Array = "array",
        Stream = "stream",
        Bitmap = "bitmap",
        Hyperloglog = "hyperloglog",
        Geo = "geo",
        Pubsub = "pubsub",
        Transactions = "transactions",
        Scripting = "scripting",
        Connection = "connection",
        Server = "server",
        Cluster = "cluster",
        Json = "json",
        Search = "search",
        Suggestion = "suggestion",
        TimeSeries = "timeseries",
        Bloom = "bf",
        Cuckoo = "cf",
        CountMin = "cms",
        TopK = "topk",
        TDigest = "tdigest",
        VectorSet = "vector-set",
        Module = "module",
    }
}

impl Group {
    /// The name of the module that such commands come with, as `MODULE LIST` tells it.
    pub fn module(self) -> Option<&'static str> {
        Some(match self {
            Group::Json => "ReJSON",
            Group::Search | Group::Suggestion => "search",
            Group::TimeSeries => "timeseries",
            Group::Bloom | Group::Cuckoo | Group::CountMin | Group::TopK | Group::TDigest => "bf",
            Group::VectorSet => "vectorset",
            _ => return None,
        })
    }
}

/// The tips of one command.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tips {
    /// `None`: the owner of the keys, or any node when there are none.
    pub request: Option<RequestPolicy>,
    /// `None`: relay, or join in the order of the keys.
    pub response: Option<ResponsePolicy>,
    /// Asking twice may give two answers.
    pub has_random_output: bool,
    /// Asking twice may give the same elements in another order.
    pub has_random_order: bool,
}

impl Tips {
    /// Takes in one tip as a server words it; false when it is none that we know.
    pub fn add(&mut self, tip: &str) -> bool {
        match tip.split_once(':') {
            Some(("request_policy", policy)) => {
                self.request = RequestPolicy::from_word(policy);
                self.request.is_some()
            }
            Some(("response_policy", policy)) => {
                self.response = ResponsePolicy::from_word(policy);
                self.response.is_some()
            }
            None if tip == "nondeterministic_output" => {
                self.has_random_output = true;
                true
            }
            None if tip == "nondeterministic_output_order" => {
                self.has_random_order = true;
                true
            }
            _ => false,
        }
    }

    /// The tips as a server words them: the part before the colon, and the part after it.
    pub fn words(self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let flag = |is_set: bool, word| is_set.then_some((word, None));
        [
            flag(self.has_random_output, "nondeterministic_output"),
            flag(self.has_random_order, "nondeterministic_output_order"),
            self.request.map(|policy| ("request_policy", Some(policy.word()))),
            self.response.map(|policy| ("response_policy", Some(policy.word()))),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tips_are_read_from_the_servers_words() {
        let mut tips = Tips::default();
        assert!(tips.add("request_policy:all_shards") && tips.add("response_policy:agg_sum"));
        assert!(tips.add("nondeterministic_output"));
        assert!(!tips.add("request_policy:elsewhere") && !tips.add("hello"));
        assert_eq!((tips.response, tips.has_random_order), (Some(ResponsePolicy::Sum), false));
    }
}
