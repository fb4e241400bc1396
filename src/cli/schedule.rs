//! `snapfold schedule`: having a profile run by itself.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand, ValueHint};

use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out};
use super::session::Session;
use crate::base::environment::{user_dir, variable};
use crate::base::files;
use crate::host::history::History;
use crate::host::profile::Found;
use crate::host::schedule::{self, Start};

/// Have a profile run by itself
///
/// Puts a timer of systemd in place that runs the profile when its table `schedule` says, daily unless told: the
/// system's for root, one of the user's own for others. A run that was missed, since the machine was off or asleep, is
/// made up for. With --cron these are lines of the user's crontab instead.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold schedule install web
  snapfold schedule install web --cron
  snapfold schedule status web
  snapfold schedule remove web")]
pub struct Schedule {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Put it in place, or replace it
    Install(Place),
    /// Take it away again
    Remove(Place),
    /// Say whether it is in place, and when it ran last
    Status(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The profile
    #[arg(value_name = "PROFILE")]
    name: String,
    /// Lines of the crontab, instead of systemd
    #[arg(long, conflicts_with = "unit_dir")]
    cron: bool,
    /// Units in this directory, without telling systemd
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    unit_dir: Option<PathBuf>,
}

impl Schedule {
    fn place(&self) -> &Place {
        let (What::Install(place) | What::Remove(place) | What::Status(place)) = &self.what;
        place
    }

    pub fn profile(&self) -> &str {
        &self.place().name
    }

    pub fn run(self, session: &Session) -> Result<Done, Failure> {
        let Some(found) = session.profile() else { return Err(Failure::new("no profile given")) };
        let place = self.place();
        let said = match (&self.what, place.cron) {
            (What::Install(_), true) => install_cron(found)?,
            (What::Install(_), false) => install_units(found, place)?,
            (What::Remove(_), true) => remove_cron(found)?,
            (What::Remove(_), false) => remove_units(found, place)?,
            (What::Status(_), cron) => return status(session, found, place, cron),
        };
        let mut out = Out::new();
        if session.style().json {
            out.json(&Object::message("schedule").put("profile", found.name.as_str()).put("done", said))?;
        } else if !session.style().quiet {
            out.line(&said)?;
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn with_start<T>(found: &Found, make: impl FnOnce(&Start<'_>) -> T) -> Result<T, Failure> {
    let program = env::current_exe().map_err(|error| Failure::new(format!("where snapfold is: {error}")))?;
    let text = |path: &Path| match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(Failure::new(format!("{}: a schedule cannot name this path", shown_path(path)))),
    };
    let (program, config) = (text(&program)?, text(&found.file.path)?);
    Ok(make(&Start { profile: &found.name, program: &program, config: &config, system: is_root() }))
}

/// Where the units are.
fn unit_dir(place: &Place) -> Result<PathBuf, Failure> {
    if let Some(dir) = &place.unit_dir {
        return Ok(dir.clone());
    }
    if is_root() {
        return Ok("/etc/systemd/system".into());
    }
    let config = user_dir("XDG_CONFIG_HOME", ".config", &variable);
    config.map(|dir| dir.join("systemd/user")).ok_or_else(|| Failure::new("neither XDG_CONFIG_HOME nor HOME is set"))
}

fn install_units(found: &Found, place: &Place) -> Result<String, Failure> {
    if place.unit_dir.is_none() && !Path::new("/run/systemd/system").exists() {
        return Err(Failure::new("systemd does not run here").hint("--cron makes a line of the crontab instead"));
    }
    if let Some(calendar) = &found.profile.schedule.calendar {
        judge(found, calendar)?;
    }
    let dir = unit_dir(place)?;
    fs::create_dir_all(&dir).map_err(|error| Failure::path(&dir, error))?;
    let timer = schedule::unit_name(&found.name, "timer");
    let service = with_start(found, schedule::service)?;
    for (name, text) in [
        (schedule::unit_name(&found.name, "service"), service),
        (timer.clone(), schedule::timer(&found.name, &found.profile.schedule)),
    ] {
        let path = dir.join(name);
        files::replace(&path, text.as_bytes()).map_err(|error| Failure::path(&path, error))?;
    }
    if place.unit_dir.is_none() {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", &timer])?;
    }
    Ok(format!("{} is in place", dir.join(timer).display()))
}

/// Whether systemd understands a time, where it can be asked.
fn judge(found: &Found, calendar: &str) -> Result<(), Failure> {
    let asked = Command::new("systemd-analyze").args(["calendar", "--", calendar]).stdin(Stdio::null()).output();
    match asked {
        Ok(output) if !output.status.success() => {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = why.lines().next().unwrap_or("not a time that systemd knows").to_owned();
            Err(found.file.mistake(&["profile", &found.name, "schedule", "calendar"], why).into())
        }
        Ok(_) => Ok(()),
        Err(error) => {
            log::info!("systemd-analyze: {error}");
            Ok(())
        }
    }
}

fn remove_units(found: &Found, place: &Place) -> Result<String, Failure> {
    let dir = unit_dir(place)?;
    let timer = schedule::unit_name(&found.name, "timer");
    if !dir.join(&timer).exists() {
        return Err(Failure::new(format!("{}: there is none", shown_path(&dir.join(timer)))));
    }
    if place.unit_dir.is_none() {
        systemctl(&["disable", "--now", &timer])?;
    }
    for name in [timer.clone(), schedule::unit_name(&found.name, "service")] {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::path(&path, error)),
            _ => {}
        }
    }
    if place.unit_dir.is_none() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(format!("{} is gone", dir.join(timer).display()))
}

/// The manager of root's units, or of the user's own.
fn systemctl(args: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("systemctl");
    if !is_root() {
        command.arg("--user");
    }
    ran(command.args(args), "systemctl").map(drop)
}

fn ran(command: &mut Command, name: &str) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::new(format!("{name}: cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name}: {}", why.trim().lines().next().unwrap_or("failed without a word"))))
}

/// The user's crontab as it is; nobody has to have one.
fn crontab() -> Result<String, Failure> {
    match ran(Command::new("crontab").arg("-l"), "crontab") {
        Err(failure) if failure.message.contains("no crontab") => Ok(String::new()),
        other => other,
    }
}

fn set_crontab(text: &str) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("crontab: {error}"));
    let mut child = Command::new("crontab").arg("-").stdin(Stdio::piped()).spawn().map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(fail)?;
    }
    match child.wait().map_err(fail)? {
        status if status.success() => Ok(()),
        status => Err(Failure::new(format!("crontab: failed with {status}"))),
    }
}

fn install_cron(found: &Found) -> Result<String, Failure> {
    let lines = with_start(found, |start| schedule::cron_lines(start, &found.profile.schedule))?;
    set_crontab(&(schedule::without(&crontab()?, &found.name) + &lines))?;
    Ok(format!("the crontab has lines for profile {}", found.name))
}

fn remove_cron(found: &Found) -> Result<String, Failure> {
    let before = crontab()?;
    let after = schedule::without(&before, &found.name);
    if after == before {
        return Err(Failure::new(format!("the crontab has no line for profile {}", found.name)));
    }
    set_crontab(&after)?;
    Ok(format!("the crontab has no line for profile {} any more", found.name))
}

fn status(session: &Session, found: &Found, place: &Place, cron: bool) -> Result<Done, Failure> {
    let installed = if cron {
        let table = crontab()?;
        schedule::without(&table, &found.name) != table
    } else {
        unit_dir(place)?.join(schedule::unit_name(&found.name, "timer")).exists()
    };
    let history = History::new(session.state_dir()?, &found.name);
    let runs = history.runs().map_err(|error| Failure::path(history.dir(), error))?;
    let last = runs.last().map(|run| (run.started.to_string(), run.outcome.word()));
    let mut out = Out::new();
    if session.style().json {
        let object = Object::message("schedule").put("profile", found.name.as_str()).put("installed", installed);
        let object = object.maybe("last_run", last.as_ref().map(|(time, _)| time.clone()));
        out.json(&object.maybe("last_outcome", last.map(|(_, word)| word)))?;
    } else {
        out.line(if installed { "in place" } else { "not in place" })?;
        if let Some((time, word)) = last {
            out.line(&format!("last run: {time}, {word}"))?;
        }
    }
    out.finish()?;
    Ok(Done::Whole)
}
