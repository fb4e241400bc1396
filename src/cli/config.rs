//! `snapfold config`: whether profiles are sound, and what is in force.

use std::env;

use clap::{Args, CommandFactory, Subcommand};
use serde_json::Value;

use super::Cli;
use super::failure::{Done, Failure};
use super::global::Global;
use super::layers::{self, Before};
use super::output::{Object, Out, Table, plural, shown};
use super::session::Session;
use crate::base::environment::variable;
use crate::host::profile::{ACCESS, ConfigFile, Found, settings, shown_files};
use crate::host::value::HIDDEN;

/// Check profiles, or show what is in force
///
/// A profile of snapfold.toml says what is to be backed up, where to, how long it is kept, and who is told. It stands
/// in for flags that were not given: a flag goes before the environment, and that before a profile.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold config check
  snapfold --profile web config show
  snapfold --profile web snapshots")]
pub struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check all profiles: every key and every value
    Check,
    /// Show what is in force, and where it comes from; secrets are not shown
    Show,
}

impl Config {
    pub fn run(self, global: &Global, session: &Session) -> Result<Done, Failure> {
        match self.what {
            What::Check => check(global, session),
            What::Show => show(session),
        }
    }
}

fn check(global: &Global, session: &Session) -> Result<Done, Failure> {
    let paths = layers::files(global, &variable);
    let mut out = Out::new();
    let mut seen = 0;
    for path in &paths {
        let Some(file) = ConfigFile::read(path)? else { continue };
        seen += 1;
        let names: Vec<String> = file.config.profile.keys().cloned().collect();
        for (name, profile) in &file.config.profile {
            judge(&Found { name: name.clone(), profile: profile.clone(), file: file.clone() })?;
        }
        if session.style().json {
            let object = Object::message("config").path(path.as_os_str().as_encoded_bytes());
            out.json(&object.put("profiles", names))?;
        } else if !session.style().quiet {
            let number = plural(names.len() as u64, "profile", "profiles");
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            out.line(&format!("{}: {number}{names}", path.display()))?;
        }
    }
    out.finish()?;
    if seen == 0 {
        return Err(Failure::new("there is no snapfold.toml").hint(format!("looked for: {}", shown_files(&paths))));
    }
    Ok(Done::Whole)
}

/// Whether the options of commands take what a profile says.
fn judge(found: &Found) -> Result<(), Failure> {
    let command = Cli::command();
    for name in ["init", "backup", "forget", "prune", "check", "drill"] {
        layers::judge(&command, found, name, &settings(&found.profile, name, None))?;
    }
    for tier in found.profile.tier.keys() {
        for name in ["init", "copy"] {
            layers::judge(&command, found, name, &settings(&found.profile, name, Some(tier)))?;
        }
    }
    Ok(())
}

fn show(session: &Session) -> Result<Done, Failure> {
    let Some(found) = session.profile() else {
        return Err(Failure::new("no profile given").hint("use --profile NAME, or set SNAPFOLD_PROFILE"));
    };
    judge(found)?;
    let mut rows = Vec::new();
    let given = Cli::command().try_get_matches_from(env::args_os()).map_err(|error| Failure::new(error.to_string()))?;
    let own: Vec<_> = settings(&found.profile, "", None);
    for option in ACCESS {
        let setting = own.iter().find(|setting| setting.option == option);
        let Some(before) = setting.and_then(|setting| layers::before(setting, &given, &variable)) else { continue };
        let (value, source) = match before {
            Before::Flag(flag) => (layers::given(&given, &flag), format!("flag --{flag}")),
            Before::Variable("SNAPFOLD_PASSWORD") => (vec![HIDDEN.into()], "environment SNAPFOLD_PASSWORD".to_owned()),
            Before::Variable(name) => (variable(name).into_iter().collect(), format!("environment {name}")),
        };
        let value: Vec<_> = value.iter().map(|value| value.to_string_lossy().into_owned()).collect();
        rows.push((option.to_owned(), value.join(", "), source));
    }
    // The profile serializes as it is written, with a placeholder for each secret.
    let profile = serde_json::to_value(&found.profile).map_err(|error| Failure::new(error.to_string()))?;
    let mut leaves = Vec::new();
    flatten(&profile, &mut Vec::new(), &mut leaves);
    for (key, value) in leaves {
        if rows.iter().any(|(row, _, _)| *row == key.join(".")) {
            continue;
        }
        let path: Vec<&str> = ["profile", &found.name].into_iter().chain(key.iter().map(String::as_str)).collect();
        let line = found.file.line(&path).map_or_else(String::new, |line| format!(":{line}"));
        rows.push((key.join("."), value, format!("{}{line}", found.file.path.display())));
    }
    let mut out = Out::new();
    if session.style().json {
        let object = |(key, value, from): &(String, String, String)| {
            Value::from(Object::new().put("key", key.as_str()).put("value", value.as_str()).put("from", from.as_str()))
        };
        out.json(
            &Object::message("config")
                .put("profile", found.name.as_str())
                .put("settings", rows.iter().map(object).collect::<Vec<_>>()),
        )?;
    } else {
        let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
        for (key, value, from) in rows {
            table.row([shown(key.as_bytes()), shown(value.as_bytes()), shown(from.as_bytes())]);
        }
        out.table(&table)?;
    }
    out.finish()?;
    Ok(Done::Whole)
}

/// The values of a tree of tables, each with the keys that lead to it; what is not set is left out.
fn flatten(value: &Value, at: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, value) in members {
                at.push(key.clone());
                flatten(value, at, found);
                at.pop();
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (place, value) in list.iter().enumerate() {
                at.push(place.to_string());
                flatten(value, at, found);
                at.pop();
            }
        }
        Value::Array(list) if list.is_empty() => {}
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().map(text).collect();
            found.push((at.clone(), texts.join(", ")));
        }
        other => found.push((at.clone(), text(other))),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
