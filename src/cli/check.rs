//! `snapfold check`: whether everything is there and whole.

use clap::Args;

use super::args::{self, parse_size, parse_span};
use super::failure::{Done, Failure};
use super::nodes::rooted;
use super::output::{Object, Out, one_line, plural, shown};
use super::progress::{Measure, Progress};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, ObjectId};
use crate::ops::{self, CheckRequest, Cure, Finding, ReadData, Subset};

/// Check the repository for damage
///
/// Looks whether every snapshot, directory, chunk, pack, index segment and keyslot that is needed is there, compares
/// packs with their tables, and says what is not as it should be, and which snapshots and paths that costs. With
/// --read-data every byte of every pack is read and authenticated, too; with --read-data-subset, those of some packs.
/// Damage gives exit code 1.
///
/// Nothing is changed unless --mend is given. In a repository with parity, it puts objects that are damaged back as
/// they were, as far as parity can tell, and makes parity that is missing or damaged anew.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold check
  snapfold check --read-data
  snapfold check --read-data --max-age 30d
  snapfold check --read-data-subset 5%
  snapfold check --read-data --mend")]
pub struct Check {
    /// Read and authenticate all data as well
    #[arg(long)]
    read_data: bool,
    /// Read a part of the data: a share or a SIZE of it, those packs first that this machine did not read for longest;
    /// or the Nth of M parts
    #[arg(long, value_name = "PERCENT%|N/M|SIZE", value_parser = parse_subset, conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,
    /// Do not read again what this machine has read and found whole within that time, as in 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    max_age: Option<jiff::Span>,
    /// Mend what parity can: what is found, and what was found damaged before on this machine
    #[arg(long)]
    mend: bool,
}

/// `5%`, `2/7`, or a size.
fn parse_subset(text: &str) -> Result<Subset, String> {
    let refuse = || format!("not a part of the data such as 5%, 2/7 or 10G: {text:?}");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
        return percent.map(Subset::Percent).ok_or_else(refuse);
    }
    if let Some((n, of)) = text.split_once('/') {
        let (n, of) = n.parse().ok().zip(of.parse().ok()).filter(|(n, of)| (1..=*of).contains(n)).ok_or_else(refuse)?;
        return Ok(Subset::Part { n, of });
    }
    parse_size(text).ok().filter(|bytes| *bytes > 0).map(Subset::Bytes).ok_or_else(refuse)
}

impl Check {
    fn request(&self) -> Result<CheckRequest, Failure> {
        let subset = match self.read_data_subset {
            None if self.read_data => Some(Subset::All),
            other => other,
        };
        if subset.is_none() && self.max_age.is_some() {
            return Err(Failure::new("--max-age is about reading data: use it with --read-data or --read-data-subset"));
        }
        let since =
            self.max_age.map(|age| jiff::Zoned::now().checked_sub(age).map(|time| time.timestamp().as_second()));
        let since = since.transpose().map_err(|error| Failure::new(format!("--max-age: {error}")))?;
        Ok(CheckRequest { data: subset.map(|subset| ReadData { subset, since }), mend: self.mend })
    }

    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        let request = self.request()?;
        signals::install()?;
        session.bypass_cache();
        let indexed = session.open_indexed()?;
        let lease = match self.mend {
            false => None,
            true => {
                indexed.refuse_write_only()?;
                if indexed.parity().is_none() {
                    return Err(Failure::new("the repository has no parity to mend by")
                        .hint("`snapfold repair parity 5%` makes some, of what is whole"));
                }
                Some(args::lease(&indexed, "check")?)
            }
        };
        let style = session.style();
        let measure = Measure { doing: "checking", bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(style, measure);
        let mut out = Out::new();
        let mut failed: Option<Failure> = None;
        let mut curable = false;
        let mut each = |finding: Finding| {
            if failed.is_none() {
                curable |= finding.cure == Some(Cure::Can);
                failed = show(&mut out, style.json, &finding).err();
            }
        };
        let report = ops::check(&indexed, request, &mut each, &*progress)?;
        progress.finish();
        drop(lease);
        if let Some(failure) = failed {
            return Err(failure);
        }
        if style.json {
            out.json(
                &Object::message("summary")
                    .put("snapshots", report.snapshots)
                    .put("packs", report.packs)
                    .put("unlisted_packs", report.unlisted_packs)
                    .put("packs_read", report.packs_read)
                    .put("packs_passed_over", report.packs_passed_over)
                    .put("keyslots", report.keyslots)
                    .put("dirs", report.dirs)
                    .put("files", report.files)
                    .put("bytes_read", report.bytes_read)
                    .put("mended", report.mended)
                    .put("error_count", report.findings),
            )?;
        } else if !style.quiet {
            out.line(&format!(
                "{}, {}, {}, {}",
                plural(report.snapshots, "snapshot", "snapshots"),
                plural(report.dirs, "directory", "directories"),
                plural(report.files, "file", "files"),
                plural(report.packs, "pack", "packs"),
            ))?;
            if request.data.is_some() {
                let passed_over = match report.packs_passed_over {
                    0 => String::new(),
                    count => format!("; {} not", plural(count, "pack", "packs")),
                };
                let read = plural(report.packs_read, "pack", "packs");
                out.line(&format!("{read} read, {}{passed_over}", format_size(report.bytes_read)))?;
            }
            if report.unlisted_packs > 0 {
                let what = plural(report.unlisted_packs, "pack is", "packs are");
                out.line(&format!("{what} left over from an interrupted backup, which does no harm"))?;
            }
            if report.mended > 0 {
                out.line(&format!("{} mended", plural(report.mended, "object", "objects")))?;
            } else if report.findings == 0 {
                out.line("no damage found")?;
            }
        }
        out.finish()?;
        if report.findings > 0 {
            let found = plural(report.findings, "finding", "findings");
            let failure = Failure::new(format!("the repository is damaged: {found}"));
            return Err(match curable {
                true => failure.hint("`snapfold check --mend` mends what parity can"),
                false => failure,
            });
        }
        Ok(Done::Whole)
    }
}

fn show(out: &mut Out, json: bool, finding: &Finding) -> Result<(), Failure> {
    if json {
        let (message, cure) = match &finding.cure {
            None => ("error", None),
            Some(Cure::Can) => ("error", Some("can".to_owned())),
            Some(Cure::Mended) => ("mended", None),
            Some(Cure::Cannot(why) | Cure::Failed(why)) => ("error", Some(why.clone())),
        };
        let object = Object::message(message)
            .maybe("object", finding.object.clone())
            .maybe("block", finding.block)
            .maybe("snapshot", finding.snapshot.map(|id| id.to_string()));
        let object = match &finding.path {
            Some(path) => object.path(&rooted(path)),
            None => object,
        };
        return out.json(&object.put("message", finding.what.as_str()).maybe("parity", cure));
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
    let (kind, end) = match &finding.cure {
        None => ("damage", String::new()),
        Some(Cure::Can) => ("damage", "; parity can mend it".to_owned()),
        Some(Cure::Cannot(why)) => ("damage", format!("; {why}")),
        Some(Cure::Failed(why)) => ("damage", format!("; not mended: {why}")),
        Some(Cure::Mended) => ("mended", String::new()),
    };
    places.push(one_line(&(finding.what.clone() + &end)));
    out.line(&format!("{kind}: {}", places.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_data_are_shares_fractions_and_sizes() {
        assert_eq!(parse_subset("5%"), Ok(Subset::Percent(5.0)));
        assert_eq!(parse_subset("0.5%"), Ok(Subset::Percent(0.5)));
        assert_eq!(parse_subset("2/7"), Ok(Subset::Part { n: 2, of: 7 }));
        assert_eq!(parse_subset("10G"), Ok(Subset::Bytes(10 << 30)));
        for bad in ["", "%", "0%", "101%", "-5%", "nan%", "0/7", "8/7", "1/0", "/", "1/x", "0", "all"] {
            assert!(parse_subset(bad).is_err(), "{bad}");
        }
    }
}
