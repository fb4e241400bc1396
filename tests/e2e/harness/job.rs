//! A world with a profile `web` that `snapfold run` runs. Knows nothing of what is tested.

use super::{Ran, World, run, shell};
use std::process::Command;

/// A world whose repository and sources a profile names, and nothing else does.
pub struct Job {
    pub world: World,
}

/// What every such profile begins with: a repository and a source.
const HEAD: &str = "
[profile.web]
repository = \"@/repo\"
password-file = \"@/password\"
";

impl Job {
    /// `@` in the profile is the world's directory.
    pub fn new(profile: &str) -> Self {
        let mut world = World::on_disk();
        world.set("SNAPFOLD_LOG", "info");
        let job = Self { world };
        job.set(profile);
        job.world.ok(super::INIT);
        shell(&job.world.mkdir("site"), "mkdir uploads; echo a >index.html; head -c 100000 /dev/urandom >uploads/one");
        job
    }

    /// Puts another profile in the place of the one there is.
    pub fn set(&self, profile: &str) {
        let root = self.world.path("").to_str().expect("UTF-8").trim_end_matches('/').to_owned();
        let text = format!("{HEAD}{profile}").replace('@', &root);
        self.world.write_private(".config/snapfold/snapfold.toml", text.as_bytes());
    }

    /// `snapfold ARGS...`, with nothing about a repository in the environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env_remove("SNAPFOLD_REPOSITORY").env_remove("SNAPFOLD_PASSWORD_FILE");
        command
    }

    pub fn cli(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Runs the profile, and returns the exit code with the report.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> (i32, serde_json::Value) {
        let ran = self.cli(&[&["run", "web", "--json"], args].concat());
        let report = serde_json::from_str(&ran.stdout);
        (ran.code, report.unwrap_or_else(|error| panic!("{error}: {}\n{}", ran.stdout, ran.stderr)))
    }
}

/// `step=outcome` of each step of a report.
pub fn outcomes(report: &serde_json::Value) -> Vec<String> {
    let steps = report["steps"].as_array().expect("steps").iter();
    steps.map(|step| format!("{}={}", step["step"].as_str().unwrap(), step["outcome"].as_str().unwrap())).collect()
}
