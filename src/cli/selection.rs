//! Flags that choose snapshots, and the snapshots they choose. Shared by the commands that read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::tz::TimeZone;

use super::args;
use super::failure::{Failure, shown_path};
use super::output::{Object, json_paths, shown};
use crate::base::ObjectId;
use crate::ops::{Catalogue, Filter, Listed, OpError, SelectError, Selected, Selector};
use crate::repo::{Indexed, Repository};
use crate::tree::Stored;

use super::signals::BySignals;

/// Which snapshots count.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only snapshots of this host (may be repeated)
    #[arg(long, short = 'H', value_name = "HOST")]
    pub host: Vec<OsString>,
    /// Only snapshots with this tag, or with all of several joined by commas (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]")]
    pub tag: Vec<String>,
    /// Only snapshots made of this path (may be repeated: of all of them)
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
}

impl Which {
    pub fn filter(&self) -> Result<Filter, Failure> {
        let path = |path: &PathBuf| Ok(args::absolute(path)?.as_os_str().as_bytes().to_vec());
        Ok(Filter {
            hosts: self.host.iter().map(|host| host.as_bytes().to_vec()).collect(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(path).collect::<Result<_, Failure>>()?,
        })
    }
}

/// All snapshots; those that are damaged are warned about.
pub fn catalogue(repository: &Repository) -> Result<Catalogue, Failure> {
    let catalogue = Catalogue::load(repository, &BySignals)?;
    for (id, error) in catalogue.damaged() {
        log::warn!("snapshot {} cannot be read: {error}", id.short());
    }
    Ok(catalogue)
}

/// The snapshot, and the path in it, that `text` names.
pub fn select(catalogue: &Catalogue, text: &OsStr) -> Result<Selected, Failure> {
    let parse = |text: &[u8]| Selector::parse(text, &TimeZone::system()).map_err(OpError::from);
    match parse(text.as_bytes())?.select(catalogue) {
        // In `latest:WORD` a word that is no host is a path that was written without its slash.
        Err(OpError::Select(error @ SelectError::NoHost { .. })) => {
            let bytes = text.as_bytes();
            let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
                return Err(OpError::Select(error).into());
            };
            let (before, after) = bytes.split_at(colon + 1);
            Ok(parse(&[before, b"/", after].concat())?.select(catalogue)?)
        }
        selected => Ok(selected?),
    }
}

/// The snapshots that all of `texts` name, or where there are none, all that the filter lets through.
pub fn choose(mut catalogue: Catalogue, texts: &[OsString], which: &Which) -> Result<Vec<Listed>, Failure> {
    catalogue.retain(&which.filter()?);
    if texts.is_empty() {
        return Ok(catalogue.snapshots().to_vec());
    }
    let one = |text: &OsString| {
        let selected = select(&catalogue, text)?;
        if selected.path.is_empty() {
            return Ok(Listed { id: selected.id, snapshot: selected.snapshot });
        }
        Err(Failure::new(format!("{}: a snapshot is wanted here, without a path", shown_path(text.as_ref()))))
    };
    texts.iter().map(one).collect()
}

/// The same, the oldest first and none twice.
pub fn choose_once(catalogue: Catalogue, texts: &[OsString], which: &Which) -> Result<Vec<Listed>, Failure> {
    let mut chosen = choose(catalogue, texts, which)?;
    chosen.sort_by_key(|listed| (listed.snapshot.time, listed.id));
    chosen.dedup_by_key(|listed| listed.id);
    Ok(chosen)
}

/// A reader of trees with the usual cache.
pub fn stored(indexed: &Arc<Indexed>) -> Arc<Stored> {
    Arc::new(Stored::new(indexed.clone(), Stored::PAGE_BUDGET))
}

/// What JSON says of a snapshot, put after the members of `object`.
pub fn snapshot_json(object: Object, listed: &Listed) -> Object {
    let snapshot = &listed.snapshot;
    let totals = &snapshot.totals;
    let summary = Object::new()
        .put("total_files_processed", totals.files)
        .put("total_dirs_processed", totals.dirs)
        .put("total_bytes_processed", totals.bytes)
        .put("data_added", totals.bytes_new)
        .put("data_added_packed", totals.bytes_stored)
        .put("error_count", totals.problems)
        .put("total_duration", snapshot.duration_ms as f64 / 1000.0);
    object
        .put("id", listed.id.to_string())
        .put("short_id", listed.id.short())
        .time("time", snapshot.time)
        .text("hostname", "hostname_hex", &snapshot.host)
        .text("username", "username_hex", &snapshot.user)
        .put("paths", json_paths(&snapshot.paths))
        .put("tags", snapshot.tags.clone())
        .maybe("parent", snapshot.parent.map(|id| id.to_string()))
        .maybe("stage", snapshot.stage.map(|id| id.to_string()))
        .put("program_version", snapshot.program.as_str())
        .put("summary", summary)
}

/// Paths for people, on one line.
pub fn shown_paths(paths: &[Vec<u8>]) -> String {
    paths.iter().map(|path| shown(path)).collect::<Vec<_>>().join(", ")
}
