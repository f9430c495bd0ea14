//! `slotgate pause` and `resume`: stop a manager from acting, and let it act again, by a file.

use super::{Ended, Exit, environment};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Keep 'serve --manage' from changing the cluster
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate pause /run/slotgate/pause
  SLOTGATE_PAUSE_FILE=/run/slotgate/pause slotgate pause

Creates the file that was given to 'slotgate serve --manage --pause-file FILE'. From its next step on the
manager only looks and tells (/api/status), until 'slotgate resume' removes the file.")]
pub struct Pause {
    #[command(flatten)]
    file: PauseFile,
}

/// Let 'serve --manage' change the cluster again
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate resume /run/slotgate/pause
  SLOTGATE_PAUSE_FILE=/run/slotgate/pause slotgate resume

Removes the file that 'slotgate pause' created. Fine, too, when there is none.")]
pub struct Resume {
    #[command(flatten)]
    file: PauseFile,
}

#[derive(clap::Args)]
struct PauseFile {
    /// The manager's --pause-file (or SLOTGATE_PAUSE_FILE)
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl PauseFile {
    fn path(&self) -> Result<PathBuf, Ended> {
        let path = self.file.clone().or_else(|| environment("SLOTGATE_PAUSE_FILE").map(PathBuf::from));
        path.ok_or_else(|| Ended::usage("name the manager's pause file, or set SLOTGATE_PAUSE_FILE"))
    }
}

pub fn pause(args: &Pause) -> anyhow::Result<Exit> {
    let path = args.file.path()?;
    // Whoever paused first has a file there; it stays.
    match std::fs::File::options().create(true).append(true).open(&path) {
        Ok(_) => {
            println!("paused: {} exists", path.display());
            Ok(Exit::Fine)
        }
        Err(error) => anyhow::bail!("cannot create {}: {error}; the manager is not paused", path.display()),
    }
}

pub fn resume(args: &Resume) -> anyhow::Result<Exit> {
    let path = args.file.path()?;
    match std::fs::remove_file(&path) {
        Ok(()) => println!("resumed: {} is removed", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => println!("{} did not exist", path.display()),
        Err(error) => anyhow::bail!("cannot remove {}: {error}; the manager stays paused", path.display()),
    }
    Ok(Exit::Fine)
}
