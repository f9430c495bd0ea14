//! kubectl as a child process: what users have, and the same words as theirs.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// What is asked of the API server at once is answered within this, or given up.
const LIMIT: &str = "--request-timeout=20s";
const MISSING: &str = "kubectl was not found: https://kubernetes.io/docs/tasks/tools says how to get it (one file into a folder of PATH)";

/// kubectl for one namespace.
#[derive(Clone)]
pub struct Kubectl {
    namespace: String,
}

impl Kubectl {
    pub fn of(namespace: &str) -> Kubectl {
        Kubectl { namespace: namespace.into() }
    }

    /// What it prints.
    ///
    /// # Errors
    /// It is not there or fails; its own words are in the text.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.run_with(words, "")
    }

    /// The same, with something to read.
    pub fn run_with(&self, words: &[&str], input: &str) -> Result<String> {
        let output = self.output(words, input)?;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "kubectl {}: {}", words.join(" "), format!("{err}{out}").trim());
        Ok(out)
    }

    /// What it prints, however it ends.
    pub fn output(&self, words: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new("kubectl")
            .args(["--namespace", &self.namespace])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => anyhow::anyhow!(MISSING),
                _ => anyhow::anyhow!("kubectl: {error}"),
            })?;
        // It reads all before it prints; one that ended early says why.
        let _ = child.stdin.take().context("kubectl has no input")?.write_all(input.as_bytes());
        Ok(child.wait_with_output()?)
    }

    /// An object, or a list of them.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let words = [&["get", "--output=json", LIMIT], what].concat();
        let text = self.run(&words)?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}", words.join(" ")))
    }

    /// The objects of a kind that a selector finds.
    pub fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        match self.get(&[kind, "--selector", selector])?["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("kubectl get {kind}: no list of items but {other}"),
        }
    }

    /// Creates or changes objects.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.run_with(&["apply", "--filename=-"], &list.to_string()).map(drop)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
