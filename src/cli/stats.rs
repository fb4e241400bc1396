//! `snapfold stats`: how much snapshots hold, and how little the repository needs for it.

use std::ffi::OsString;

use clap::Args;

use super::failure::{Done, Failure};
use super::output::{Object, Out, Table, plural, shown_count, shown_time};
use super::progress::{Measure, Progress};
use super::selection::{self, Which};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, ObjectId};
use crate::ops::{self, Stats as Sums};

/// Show how much snapshots hold and what they take
///
/// Counts the files of all snapshots, or of those that are named, and what they take in the repository together, after
/// deduplication and compression. To know that, all their directories are read.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stats
  snapfold stats latest
  snapfold stats --host web1 --json")]
pub struct Stats {
    /// Only these snapshots
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    which: Which,
}

impl Stats {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let snapshots = selection::choose(selection::catalogue(&indexed)?, &self.snapshots, &self.which)?;
        let stored = selection::stored(&indexed);
        let style = session.style();
        let measure = Measure { doing: "counting", bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(style, measure);
        let sums = ops::stats(&indexed, &stored, &snapshots, session.cache_dir()?, &*progress)?;
        progress.finish();

        let mut out = Out::new();
        if style.json {
            out.json(&json(&sums))?;
        } else {
            let mut table = Table::new(&["ID", "TIME", ">FILES", ">DIRS", ">SIZE", ">NEW", ">STORED"]);
            for (one, listed) in sums.snapshots.iter().zip(&snapshots) {
                table.row([
                    one.id.short(),
                    shown_time(listed.snapshot.time),
                    shown_count(one.files),
                    shown_count(one.dirs),
                    format_size(one.bytes),
                    format_size(one.bytes_new),
                    format_size(one.bytes_stored),
                ]);
            }
            if !sums.snapshots.is_empty() {
                out.table(&table)?;
            }
            for line in lines(&sums) {
                out.line(&line)?;
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

fn lines(sums: &Sums) -> Vec<String> {
    let ratio = |of: u64, to: u64| if to == 0 { 1.0 } else { of as f64 / to as f64 };
    let parity = match sums.parity {
        None => String::new(),
        Some((percent, bytes)) => format!("; {} of parity, {percent}% of each pack", format_size(bytes)),
    };
    vec![
        format!(
            "{} of {} in files; {} in {} after deduplication; {} stored: a ratio of {:.2}",
            plural(sums.snapshots.len() as u64, "snapshot", "snapshots"),
            format_size(sums.raw),
            format_size(sums.deduplicated),
            plural(sums.chunks, "chunk", "chunks"),
            format_size(sums.stored),
            ratio(sums.raw, sums.stored),
        ),
        format!("the repository: {} of {}{parity}", plural(sums.packs, "pack", "packs"), format_size(sums.pack_bytes)),
    ]
}

fn json(sums: &Sums) -> Object {
    let snapshots = sums.snapshots.iter().map(|one| {
        let object = Object::new()
            .put("id", one.id.to_string())
            .put("total_file_count", one.files)
            .put("total_dir_count", one.dirs)
            .put("total_size", one.bytes)
            .put("data_added", one.bytes_new)
            .put("data_added_packed", one.bytes_stored);
        serde_json::Value::from(object)
    });
    Object::new()
        .put("snapshots_count", sums.snapshots.len())
        .put("total_size", sums.raw)
        .put("total_chunk_count", sums.chunks)
        .put("total_uncompressed_size", sums.deduplicated)
        .put("total_stored_size", sums.stored)
        .put("pack_count", sums.packs)
        .put("pack_size", sums.pack_bytes)
        .maybe("parity_percent", sums.parity.map(|(percent, _)| percent))
        .maybe("parity_size", sums.parity.map(|(_, bytes)| bytes))
        .put("snapshots", snapshots.collect::<Vec<_>>())
}
