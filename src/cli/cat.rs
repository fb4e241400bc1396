//! `snapfold cat`: the data of a file in a snapshot.

use std::ffi::OsString;
use std::io;

use clap::{Args, ValueEnum};

use super::failure::{Done, Failure};
use super::nodes::{kind, rooted};
use super::output::{Object, Out, shown};
use super::selection;
use super::session::Session;
use super::signals::{self, BySignals};
use crate::ops::{self, ArchiveError, OpError};
use crate::tree::{Body, Node, Stored};

/// Print a file of a snapshot
///
/// Writes the data of a file to standard output; several files one after the other. With --json, where the data is and
/// how long it is, as JSON, and no data. With --archive, a directory and all below it, as an archive.
#[derive(Debug, Args)]
#[command(
    visible_alias = "dump",
    after_long_help = "\
Examples:
  snapfold cat latest:/etc/fstab
  snapfold cat 1a2b3c4d:/var/db.dump | psql
  snapfold cat --archive tar latest:/srv/www | tar -tv"
)]
pub struct Cat {
    /// The snapshot, and the file in it
    #[arg(value_name = "SNAPSHOT:PATH", required = true)]
    files: Vec<OsString>,
    /// Print one directory, or file, as an archive of this form
    #[arg(long, value_name = "FORM", conflicts_with = "json")]
    archive: Option<Form>,
}

/// A form of archives.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Tar,
}

/// Standard output, for those who write.
struct Sink<'a> {
    out: &'a mut Out,
    failed: Option<Failure>,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.raw(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failed = Some(failure);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
            if let Some(Form::Tar) = self.archive {
                if self.files.len() > 1 {
                    return Err(Failure::new("an archive is of one directory"));
                }
                archive(&stored, &node, &selected.path, &mut out)?;
                continue;
            }
            let Body::File(content) = &node.body else {
                let hint = node.is_dir().then(|| "--archive tar prints a directory as an archive".to_owned());
                let path = shown(&rooted(&selected.path));
                return Err(Failure::new(format!("{path}: not a file but a {}", kind(&node))).maybe_hint(hint));
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

/// Prints an archive in which everything is below the last name of the path.
fn archive(stored: &Stored, node: &Node, path: &[u8], out: &mut Out) -> Result<(), Failure> {
    let name = path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty()).unwrap_or(b".");
    let mut sink = Sink { out, failed: None };
    match ops::archive(stored, node, name, &mut sink, &BySignals) {
        Ok(()) => Ok(()),
        Err(ArchiveError::Read { source: source @ OpError::Interrupted(_), .. }) => Err(source.into()),
        Err(error) => Err(sink.failed.unwrap_or_else(|| Failure::new(error.to_string()))),
    }
}
