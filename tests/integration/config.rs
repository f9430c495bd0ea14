//! Settings as a user meets them: the real binary, a real environment, real files.

use std::path::PathBuf;
use std::process::{Command, Output};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Runs the binary with these words and nothing of ours in the environment but `variables`.
fn slotgate(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotgate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLOTGATE_")) {
        command.env_remove(name);
    }
    command.args(args).envs(variables.iter().copied()).output().expect("the built binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn flags_beat_the_environment_beats_the_file_and_show_says_so() {
    let files = Files::new();
    let file = files.write("s.toml", "hold = \"1s\"\nrefresh = \"1s\"\nmax-clients = 7\n");
    let file = file.to_str().unwrap();
    let variables = [("SLOTGATE_CONFIG", file), ("SLOTGATE_HOLD", "2s"), ("SLOTGATE_REFRESH", "2s")];
    let output = slotgate(&["config", "show", "--output", "json", "--hold", "3s"], &variables);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry = |key: &str| (shown[key]["value"].clone(), shown[key]["source"].as_str().unwrap().to_string());
    assert_eq!(entry("hold"), ("3s".into(), "flag --hold".to_string()));
    assert_eq!(entry("refresh"), ("2s".into(), "environment SLOTGATE_REFRESH".to_string()));
    assert_eq!(entry("max-clients"), (7.into(), format!("{file}:3")));
    assert_eq!(entry("log-format"), ("text".into(), "default".to_string()));
}

#[test]
fn check_names_every_wrong_field_with_its_line() {
    let files = Files::new();
    for (name, content) in
        [("s.toml", "hold = \"soon\"\n\nmax-client = 3\n"), ("s.yaml", "hold: soon\n\nmax-client: 3\n")]
    {
        let file = files.write(name, content);
        let output = slotgate(&["config", "check", file.to_str().unwrap()], &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("{name}:1: hold: not a duration: \"soon\"")), "{error}");
        assert!(
            error.contains(&format!("{name}:3: max-client: unknown setting; did you mean max-clients?")),
            "{error}"
        );
    }
}

#[test]
fn check_passes_a_good_file_and_mentions_a_password_file_that_is_elsewhere() {
    let files = Files::new();
    let file = files.write("s.yaml", "seed: [redis-0:6379]\nuser: gate\npassword-file: /no/such/secret\n");
    let output = slotgate(&["config", "check", file.to_str().unwrap()], &[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        shown.contains("note: ") && shown.contains("/no/such/secret") && shown.ends_with("fine\n"),
        "{shown}"
    );
}

#[test]
fn serve_without_a_seed_says_what_to_give() {
    let output = slotgate(&["serve"], &[]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--seed HOST:PORT") && error.contains("--seed-file"), "{error}");
}

#[test]
fn serve_names_the_password_file_that_it_cannot_read() {
    let output = slotgate(&["serve", "--seed", "a:1", "--password-file", "/no/such/secret"], &[]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("flag --password-file: password-file: /no/such/secret: cannot read it"),
        "{error}"
    );
}

#[test]
fn a_password_is_never_shown() {
    let variables = [("SLOTGATE_PASSWORD", "hunter2"), ("SLOTGATE_REQUIRE_PASSWORD", "hunter2")];
    for words in [
        &["config", "show"][..],
        &["config", "show", "--output", "json"],
        &["config", "show", "--refresh", "0s"],
        &["serve", "--help"],
    ] {
        let output = slotgate(words, &variables);
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
    }
    let shown = text(&slotgate(&["config", "show"], &variables).stdout);
    assert!(shown.contains("environment SLOTGATE_PASSWORD, not shown"), "{shown}");
}

#[test]
fn workers_are_the_cores_that_the_process_may_use() {
    let output = Command::new("taskset")
        .args(["-c", "0", env!("CARGO_BIN_EXE_slotgate"), "config", "show", "--output", "json"])
        .env_remove("SLOTGATE_WORKERS")
        .output()
        .expect("taskset was not found (Debian, Ubuntu: apt-get install util-linux)");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["workers"], serde_json::json!({ "value": 1, "source": "default" }));
}
