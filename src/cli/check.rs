//! `snapfold check`: whether everything is there and whole.

use clap::Args;

use super::failure::{Done, Failure};
use super::nodes::rooted;
use super::output::{Object, Out, one_line, plural, shown};
use super::progress::{Measure, Progress};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, ObjectId};
use crate::ops::{self, CheckRequest, Finding};

/// Check the repository for damage
///
/// Looks whether every snapshot, directory, chunk and pack that is needed is there, and says what of it is not as it
/// should be, and which snapshots and paths that costs. With --read-data every byte of every pack is read and
/// authenticated, too. Nothing is changed. Damage gives exit code 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold check
  snapfold check --read-data")]
pub struct Check {
    /// Read and authenticate all data as well
    #[arg(long)]
    read_data: bool,
}

impl Check {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let style = session.style();
        let measure = Measure { doing: "checking", bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(style, measure);
        let mut out = Out::new();
        let mut failed: Option<Failure> = None;
        let mut each = |finding: Finding| {
            if failed.is_none() {
                failed = show(&mut out, style.json, &finding).err();
            }
        };
        let report = ops::check(&indexed, CheckRequest { read_data: self.read_data }, &mut each, &*progress)?;
        progress.finish();
        if let Some(failure) = failed {
            return Err(failure);
        }
        if style.json {
            out.json(
                &Object::message("summary")
                    .put("snapshots", report.snapshots)
                    .put("packs", report.packs)
                    .put("unlisted_packs", report.unlisted_packs)
                    .put("dirs", report.dirs)
                    .put("files", report.files)
                    .put("bytes_read", report.bytes_read)
                    .put("error_count", report.findings),
            )?;
        } else if !style.quiet {
            out.line(&format!(
                "{}, {}, {}, {}; {} read",
                plural(report.snapshots, "snapshot", "snapshots"),
                plural(report.dirs, "directory", "directories"),
                plural(report.files, "file", "files"),
                plural(report.packs, "pack", "packs"),
                format_size(report.bytes_read),
            ))?;
            if report.unlisted_packs > 0 {
                let what = plural(report.unlisted_packs, "pack is", "packs are");
                out.line(&format!("{what} left over from an interrupted backup, which does no harm"))?;
            }
            if report.findings == 0 {
                out.line("no damage found")?;
            }
        }
        out.finish()?;
        if report.findings > 0 {
            return Err(Failure::new(format!(
                "the repository is damaged: {}",
                plural(report.findings, "finding", "findings")
            )));
        }
        Ok(Done::Whole)
    }
}

fn show(out: &mut Out, json: bool, finding: &Finding) -> Result<(), Failure> {
    if json {
        let object = Object::message("error")
            .maybe("object", finding.object.clone())
            .maybe("block", finding.block)
            .maybe("snapshot", finding.snapshot.map(|id| id.to_string()));
        let object = match &finding.path {
            Some(path) => object.path(&rooted(path)),
            None => object,
        };
        return out.json(&object.put("message", finding.what.as_str()));
    }
    let mut places = Vec::new();
    if let Some(object) = &finding.object {
        places.push(match finding.block {
            Some(block) => format!("{object}, block {block}"),
            None => object.clone(),
        });
    }
    if let Some(id) = &finding.snapshot {
        let path = finding.path.as_deref().map(|path| format!(":{}", shown(&rooted(path)))).unwrap_or_default();
        places.push(format!("snapshot {}{path}", id.short()));
    }
    places.push(one_line(&finding.what));
    out.line(&format!("damage: {}", places.join(": ")))
}
