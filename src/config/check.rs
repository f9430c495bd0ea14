//! What no field can check alone: values that contradict each other, or are well formed and make no
//! sense. Pure.

use super::Settings;
use super::layers::{Layers, Problem};
use std::time::Duration;

/// Below, the nodes are asked without pause.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);

/// Below, owning a connection costs more than the copy that it saves.
const SMALLEST_STREAM: usize = 16 << 10;

/// Every contradiction, at the place where one of its sides was written.
pub fn contradictions(layers: &Layers) -> Vec<Problem> {
    let settings = layers.settings();
    let refusals = [
        shares_a_port(&settings)
            .then_some(("admin", "clients and the admin server cannot share a port; give admin another one")),
        (settings.output_soft_limit > settings.output_hard_limit).then_some((
            "output-soft-limit",
            "must not be above output-hard-limit, or clients are cut before they are paused",
        )),
        settings
            .refresh
            .is_some_and(|refresh| refresh.0 < SHORTEST_REFRESH)
            .then_some(("refresh", "must be at least 100ms, or the nodes are asked without pause")),
        settings
            .request_timeout
            .is_some_and(|timeout| timeout.0.is_zero())
            .then_some(("request-timeout", "must be above zero, or no request succeeds")),
        settings.stream_threshold.is_some_and(|threshold| threshold.0 < SMALLEST_STREAM).then_some((
            "stream-threshold",
            "must be at least 16kb; below, owning a connection costs more than the copy that it saves",
        )),
    ];
    refusals.into_iter().flatten().map(|(key, message)| layers.problem(key, message)).collect()
}

fn shares_a_port(settings: &Settings) -> bool {
    let (Some(listen), Some(admin)) = (settings.listen, settings.admin) else { return false };
    let (listen, admin) = (listen.0, admin.0);
    let overlap = listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
    overlap && listen.port() == admin.port() && listen.port() != 0
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let file = File::parse(std::path::Path::new("s.toml"), text).unwrap();
        let layers = Layers::gather(&Settings::default(), &|_| None, Some(file)).unwrap();
        contradictions(&layers).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_do_not_contradict_each_other() {
        assert_eq!(problems(""), [""; 0]);
    }

    #[test]
    fn contradictions_are_named_with_field_and_line() {
        for (text, expected) in [
            ("workers = 1\noutput-soft-limit = \"65mb\"\n", "s.toml:2: output-soft-limit: must not be above"),
            ("admin = \"127.0.0.1:6379\"\n", "s.toml:1: admin: clients and the admin server cannot share"),
            ("refresh = \"0s\"\n", "s.toml:1: refresh: must be at least 100ms"),
            ("request-timeout = \"0s\"\n", "s.toml:1: request-timeout: must be above zero"),
            ("stream-threshold = \"1kb\"\n", "s.toml:1: stream-threshold: must be at least 16kb"),
        ] {
            let problems = problems(text);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
        }
    }

    #[test]
    fn one_port_on_two_addresses_is_fine() {
        assert_eq!(problems("listen = \"127.0.0.1:7\"\nadmin = \"127.0.0.2:7\"\n"), [""; 0]);
        assert_eq!(problems("listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n"), [""; 0]);
    }
}
