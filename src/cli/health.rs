//! `snapfold health`: whether backups are as they should be.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::args;
use super::failure::{Done, Failure};
use super::global::Global;
use super::layers;
use super::output::{Object, Out, Table, plural, shown};
use super::run::Launcher;
use super::session::Session;
use super::signals;
use crate::base::environment::variable;
use crate::host::health::{self, Finding, Patient};
use crate::host::history::History;
use crate::host::profile::{ConfigFile, Found, shown_files};
use crate::view::stage;

/// Say whether backups are as they should be
///
/// Looks, for the profile that is named or for all, how the last runs and their hooks ended, whether each repository
/// can be reached, how old the newest snapshot, the last check, the last drill and the last copies are, how much room
/// there is, and whether stages were left behind. Limits are those of the profile. Exit code 1 if anything is not as it
/// should be.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold health
  snapfold --profile web health --json | jq .healthy")]
pub struct Health {}

impl Health {
    pub fn run(self, global: &Global, session: &Session) -> Result<Done, Failure> {
        signals::install()?;
        let profiles = profiles(global, session)?;
        let mut examined = Vec::new();
        for found in &profiles {
            examined.push((&*found.name, examine(session, found)?));
            signals::check()?;
        }
        let bad = |findings: &[Finding]| findings.iter().filter(|finding| !finding.ok).count() as u64;
        let ill: u64 = examined.iter().map(|(_, findings)| bad(findings)).sum();
        let mut out = Out::new();
        if session.style().json {
            let mut list = Vec::new();
            for (name, findings) in &examined {
                let findings = serde_json::to_value(findings).map_err(|error| Failure::new(error.to_string()))?;
                let healthy = findings.as_array().is_some_and(|all| all.iter().all(|one| one["ok"] == true));
                let object = Object::new().put("profile", *name).put("healthy", healthy).put("findings", findings);
                list.push(Value::from(object));
            }
            out.json(&Object::message("health").put("healthy", ill == 0).put("profiles", list))?;
        } else {
            let mut table = Table::new(&["PROFILE", "CHECK", "", "WHAT"]);
            for (name, findings) in &examined {
                for finding in findings.iter().filter(|finding| !session.style().quiet || !finding.ok) {
                    let mark = if finding.ok { "ok" } else { "BAD" };
                    let message = shown(finding.message.as_bytes());
                    table.row([(*name).to_owned(), finding.check.clone(), mark.to_owned(), message]);
                }
            }
            if !session.style().quiet || ill > 0 {
                out.table(&table)?;
            }
        }
        out.finish()?;
        let first =
            examined.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one))).find(|(_, one)| !one.ok);
        match first {
            None => Ok(Done::Whole),
            Some((name, one)) => {
                let more = if ill > 1 {
                    format!(" (and {} more)", plural(ill - 1, "finding", "findings"))
                } else {
                    String::new()
                };
                Err(Failure::new(format!("profile {name}: {}: {}{more}", one.check, one.message)))
            }
        }
    }
}

/// The profile that is named, or all there are.
pub fn profiles(global: &Global, session: &Session) -> Result<Vec<Found>, Failure> {
    session.profile().map_or_else(|| all(&layers::files(global, &variable)), |found| Ok(vec![found.clone()]))
}

/// All profiles of all files; of two of one name, the one that commands would take.
pub fn all(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut profiles: Vec<Found> = Vec::new();
    for path in paths {
        let Some(file) = ConfigFile::read(path)? else { continue };
        for (name, profile) in &file.config.profile {
            if profiles.iter().all(|found| found.name != *name) {
                profiles.push(Found { name: name.clone(), profile: profile.clone(), file: file.clone() });
            }
        }
    }
    if profiles.is_empty() {
        return Err(Failure::new("there are no profiles").hint(format!("looked for: {}", shown_files(paths))));
    }
    Ok(profiles)
}

/// Whose snapshots count: that of the profile, or this one.
pub fn host(found: &Found) -> String {
    let named = found.profile.backup.as_ref().and_then(|backup| backup.host.clone());
    named.unwrap_or_else(|| String::from_utf8_lossy(&args::host(None)).into_owned())
}

fn examine(session: &Session, found: &Found) -> Result<Vec<Finding>, Failure> {
    let state = session.state_dir()?;
    let history = History::new(state, &found.name);
    let launcher = Launcher::new(found)?;
    let patient = Patient {
        name: &found.name,
        profile: &found.profile,
        history: &history,
        launch: &|args, tier| launcher.command(args, tier),
        stop: &signals::asked,
        stages: &stage::list(state)?,
        dirs: &[session.cache_dir()?.to_owned(), state.to_owned()],
        host: host(found),
    };
    health::examine(&patient).map_err(|error| Failure::path(history.dir(), error))
}
