//! `snapfold discard`: the end of a stage without a snapshot.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::failure::{Done, Failure};
use super::output::{Object, Out};
use super::session::Session;
use super::stage::named;
use crate::base::ObjectId;
use crate::view::stage;

/// Drop a stage and what was written to it
///
/// Deletes stages that are not mounted, with everything that was written to them and is not in a snapshot. Of a stage
/// that became a snapshot, the record of that is deleted; the snapshot stays. There is no way back.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stages
  snapfold discard 1a2b3c4d")]
pub struct Discard {
    /// The beginning of a stage's id
    #[arg(value_name = "STAGE", required = true)]
    stages: Vec<OsString>,
    /// Stages are below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
}

impl Discard {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        if let Some(spool) = &self.spool {
            session.use_state_dir(spool)?;
        }
        // All are known before the first is gone.
        let infos = self.stages.iter().map(|text| named(&session, text)).collect::<Result<Vec<_>, _>>()?;
        let mut out = Out::new();
        for info in infos {
            stage::discard(&info)?;
            if session.style().json {
                out.json(&Object::message("discarded").put("stage", info.id.to_string()))?;
            } else if !session.style().quiet {
                out.line(&format!("stage {} discarded", info.id.short()))?;
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}
