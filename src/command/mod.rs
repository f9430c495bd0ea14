//! FRAME → NAME, KEYS, POLICY: what every command is and which arguments of a request are its keys.
//!
//! Second stop of the data plane: [`Table::lookup`] finds the command's [`Spec`], the router looks at
//! its [`KeyShape`] and, where that is not enough, asks [`extract`]. Knowledge is data: `commands.txt`
//! has a row per command, and a node's own `COMMAND` reply adds what it lacks ([`Table::extend`]).
//! Pure: no IO, no clock; never decides where a request goes.

mod bits;
mod glob;
mod keys;
#[cfg(test)]
mod keys_tests;
mod learn;
mod odd;
mod reply;
mod row;
mod spec;
mod table;
mod tips;
mod tree;

pub use bits::{Access, Categories, Flags};
pub use glob::glob_matches;
pub use keys::{KeyError, KeyRef, extract};
pub use learn::{LearnError, LearnedCommand, parse_command_reply};
pub use odd::sort_patterns;
pub use reply::answer;
pub use spec::{Begin, Find, KeyShape, KeySpec, Range, Spec, check_arity};
pub use table::{CommandIx, Lookup, Table};
pub use tips::{Group, RequestPolicy, ResponsePolicy, Tips};
pub use tree::TreeError;

#[cfg(test)]
mod testing {
    use crate::resp::{Request, Span};

    /// Lends `run` a request of these arguments.
    pub fn with_request<T>(args: &[&[u8]], run: impl FnOnce(&Request) -> T) -> T {
        let mut frame = Vec::new();
        let mut spans = Vec::new();
        for arg in args {
            let start = frame.len() as u32;
            frame.extend_from_slice(arg);
            spans.push(Span { start, end: frame.len() as u32 });
        }
        run(&Request::new(&frame, &spans))
    }

    /// The arguments of a line, by spaces; `""` stands for an empty one.
    pub fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(|word| if word == "\"\"" { &[][..] } else { word.as_bytes() }).collect()
    }
}
