//! `snapfold cat`: the data of a file in a snapshot.

use std::ffi::OsString;

use clap::Args;

use super::failure::{Done, Failure};
use super::nodes::{kind, rooted};
use super::output::{Object, Out, shown};
use super::selection;
use super::session::Session;
use super::signals;
use crate::ops;
use crate::tree::Body;

/// Print a file of a snapshot
///
/// Writes the data of a file to standard output; several files one after the other. With --json, where the data is and
/// how long it is, as JSON, and no data.
#[derive(Debug, Args)]
#[command(
    visible_alias = "dump",
    after_long_help = "\
Examples:
  snapfold cat latest:/etc/fstab
  snapfold cat 1a2b3c4d:/var/db.dump | psql"
)]
pub struct Cat {
    /// The snapshot, and the file in it
    #[arg(value_name = "SNAPSHOT:PATH", required = true)]
    files: Vec<OsString>,
}

impl Cat {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let catalogue = selection::catalogue(&indexed)?;
        let stored = selection::stored(&indexed);
        let mut out = Out::new();
        let mut buffer = vec![0; 1 << 20];
        for text in &self.files {
            let selected = selection::select(&catalogue, text)?;
            let node = ops::resolve(&stored, &selected)?;
            let Body::File(content) = &node.body else {
                let path = shown(&rooted(&selected.path));
                return Err(Failure::new(format!("{path}: not a file but a {}", kind(&node))));
            };
            let reader = stored.content(content);
            if session.style().json {
                let object = Object::new().put("snapshot", selected.id.to_string()).path(&rooted(&selected.path));
                out.json(&object.put("size", reader.length()))?;
                continue;
            }
            let mut offset = 0;
            while offset < reader.length() {
                signals::check()?;
                // What comes next is fetched while this is written.
                reader.hint(offset, 4 * buffer.len() as u64)?;
                let count = reader.read_at(offset, &mut buffer)?;
                if count == 0 {
                    break;
                }
                out.raw(&buffer[..count])?;
                offset += count as u64;
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}
