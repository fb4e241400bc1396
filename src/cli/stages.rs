//! `snapfold stages`: what stages there are on this machine.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out, Table, json_paths, plural, shown, shown_time};
use super::session::Session;
use crate::base::{ObjectId, SnapshotId};
use crate::ops::Listed;
use crate::repo::Repository;
use crate::view::stage::{self, StageInfo, StageState};

/// List the stages on this machine
///
/// Lists stages: those that are mounted, and those that can be resumed or committed since their daemon ended before
/// they became a snapshot; with --all also those that did. No repository and no password are needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stages
  snapfold stages --json | jq -r '.[] | select(.state == \"resumable\").id'")]
pub struct Stages {
    /// List the stages below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
    /// List also those that became a snapshot
    #[arg(long, short)]
    all: bool,
}

impl Stages {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        if let Some(spool) = &self.spool {
            session.use_state_dir(spool)?;
        }
        let mut stages = stage::list(session.state_dir()?)?;
        stages.retain(|info| self.all || !matches!(info.state, StageState::Committed { .. }));
        let mut out = Out::new();
        let style = session.style();
        if style.json {
            out.json(&stages.iter().map(json).collect::<Vec<_>>())?;
        } else {
            if !stages.is_empty() {
                out.table(&table(&stages))?;
            }
            if !style.quiet {
                out.line(&plural(stages.len() as u64, "stage", "stages"))?;
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

fn state(info: &StageInfo) -> (&'static str, String) {
    match &info.state {
        StageState::Open { mountpoint: Some(point), .. } => ("mounted", format!("at {}", shown_path(point))),
        StageState::Open { pid, mountpoint: None } => ("open", format!("in process {pid}")),
        StageState::Resumable => ("resumable", String::new()),
        StageState::Committed { snapshot: Some(id) } => ("committed", format!("as snapshot {}", id.short())),
        StageState::Committed { snapshot: None } => ("committed", "nothing had changed".to_owned()),
    }
}

fn table(stages: &[StageInfo]) -> Table {
    let mut table = Table::new(&["ID", "CREATED", "FROM", "REPOSITORY", "STATE"]);
    for info in stages {
        let base = info.new.base.as_ref().map_or_else(String::new, |base| {
            let path = if base.path.is_empty() { String::new() } else { format!(":/{}", shown(&base.path)) };
            format!("{}{path}", base.snapshot.short())
        });
        let (word, more) = state(info);
        table.row([
            info.id.short(),
            shown_time(info.created),
            base,
            shown(info.new.place.as_bytes()),
            format!("{word} {more}"),
        ]);
    }
    table
}

fn json(info: &StageInfo) -> Object {
    let object = Object::new()
        .put("id", info.id.to_string())
        .put("short_id", info.id.short())
        .time("created", info.created)
        .put("state", state(info).0)
        .put("overlay", info.new.keeper.is_overlay())
        .put("repository", info.new.place.as_str())
        .put("repository_id", info.new.repository.to_string())
        .text("directory", "directory_hex", info.dir.as_os_str().as_bytes())
        .put("paths", json_paths(&info.new.paths))
        .put("tags", info.new.tags.clone())
        .maybe("base", info.new.base.as_ref().map(|base| base.snapshot.to_string()));
    match &info.state {
        StageState::Open { pid, mountpoint } => {
            let object = object.put("pid", *pid);
            match mountpoint {
                Some(point) => object.text("mountpoint", "mountpoint_hex", point.as_os_str().as_bytes()),
                None => object,
            }
        }
        StageState::Committed { snapshot } => object.maybe("snapshot_id", snapshot.map(|id| id.to_string())),
        StageState::Resumable => object,
    }
}
/// The snapshots on which stages of this user stand that are not over.
pub fn bases(session: &Session, repository: &Repository) -> Result<Vec<SnapshotId>, Failure> {
    let stages = stage::list(session.state_dir()?)?;
    let open = stages.into_iter().filter(|info| !matches!(info.state, StageState::Committed { .. }));
    let here = open.filter(|info| info.new.repository == repository.id());
    Ok(here.filter_map(|info| Some(info.new.base?.snapshot)).collect())
}

/// # Errors
/// Where one of these snapshots is such a base.
pub fn none_stands_on(bases: &[SnapshotId], listed: &[Listed]) -> Result<(), Failure> {
    match listed.iter().find(|one| bases.contains(&one.id)) {
        None => Ok(()),
        Some(one) => Err(Failure::new(format!("snapshot {}: a stage stands on it", one.id.short()))
            .hint("`snapfold stages` lists the stages; commit or discard it first")),
    }
}
