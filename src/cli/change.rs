//! What the commands that change a cluster have in common: shown first, asked about, told about.

use super::{Ended, Output, nodes};
use crate::backend::Credentials;
use crate::config::Span;
use crate::control::bootstrap::Progress;
use std::io::{self, Write as _};

/// How a change is made, and shown.
#[derive(clap::Args)]
pub struct Change {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// How long the nodes may take to agree
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
    /// The shape of the answer; with json, progress goes to the standard error and --yes or --dry-run is
    /// needed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Change {
    /// Who we are towards nodes, when the flags go together.
    ///
    /// # Errors
    /// They do not, or the password cannot be had.
    pub fn credentials(&self, login: &nodes::Login) -> Result<Credentials, Ended> {
        if self.is_json() && !self.yes && !self.dry_run {
            return Err(Ended::usage("--output json asks no question; add --yes or --dry-run"));
        }
        login.credentials()
    }

    /// Whether a program reads the answer.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether the shown plan may be carried out; asks unless told not to. A closed standard input is a no.
    ///
    /// # Errors
    /// Printing or reading failed.
    pub fn is_confirmed(&self) -> io::Result<bool> {
        if self.yes { Ok(true) } else { ask() }
    }

    /// A line of progress. A reader that went away does not stop the work.
    pub fn say(&self, progress: Progress) {
        say(progress, self.is_json());
    }
}

/// Whether a person accepts what was shown. A closed standard input is a no.
///
/// # Errors
/// Printing or reading failed.
pub fn ask() -> io::Result<bool> {
    print!("Do this? (type 'yes' to accept): ");
    io::stdout().flush()?;
    let mut answer = String::new();
    let is_closed = io::stdin().read_line(&mut answer)? == 0;
    if is_closed {
        println!();
    }
    let is_yes = answer.trim() == "yes";
    if !is_yes {
        println!("Nothing was changed: the answer was not 'yes'. Without a terminal, add --yes.");
    }
    Ok(is_yes)
}

/// A line of progress, on the standard error when a program reads the standard output.
pub fn say(progress: Progress, is_json: bool) {
    let line = match progress {
        Progress::Step { step, steps, action } => format!("[{step}/{steps}] {action}"),
        Progress::AlreadyDone => "  That had been done before".to_string(),
        Progress::Waiting { what } => format!("Waiting for {what}"),
    };
    let _ = if is_json { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") };
}
