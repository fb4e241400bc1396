//! Schedules: units that systemd understands, and lines of a crontab.

use crate::harness::job::Job;
use crate::harness::{leave_out, run, tool};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const NIGHTLY: &str = "schedule = { calendar = \"Mon..Fri 02:30\", cron = \"5 4 * * *\", randomized-delay = \"10m\" }";

#[test]
fn units_are_such_as_systemd_takes() {
    let job = Job::new(NIGHTLY);
    let dir = job.world.mkdir("units");
    let place = ["--unit-dir", dir.to_str().expect("UTF-8")];
    let schedule = |what: &str| job.cli(&[&["schedule", what, "web"], &place[..]].concat());
    assert_eq!(schedule("status").good().stdout, "not in place\n");
    schedule("remove").bad(1, "there is none");
    schedule("install").good();
    // Again is as good.
    schedule("install").good();
    assert_eq!(job.run(&[]).0, 0);
    let said = schedule("status").good().stdout;
    assert!(said.starts_with("in place\nlast run: ") && said.ends_with(", success\n"), "{said}");
    let timer = fs::read_to_string(dir.join("snapfold-web.timer")).expect("a timer");
    for line in ["OnCalendar=Mon..Fri 02:30", "RandomizedDelaySec=600s", "Persistent=true"] {
        assert!(timer.lines().any(|one| one == line), "{line}: {timer}");
    }
    match tool("systemd-analyze") {
        Some(analyze) => {
            let units = ["snapfold-web.service", "snapfold-web.timer"].map(|name| dir.join(name));
            let ran = run(Command::new(analyze).args(["verify", "--man=no"]).args(units)).good();
            assert!(!ran.stderr.contains("snapfold"), "{}", ran.stderr);
        }
        None => eprintln!("left out: no systemd-analyze here"),
    }
    schedule("remove").good();
    assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 0);
}

#[test]
fn a_time_that_makes_no_sense_is_told_with_its_line() {
    let job = Job::new("schedule = { cron = \"whenever\" }");
    job.cli(&["config", "check"]).bad(1, "snapfold.toml:5: schedule.cron: not the five fields");
    if tool("systemd-analyze").is_none() {
        return leave_out("no systemd-analyze here");
    }
    job.set("schedule = { calendar = \"whenever\" }");
    job.cli(&["schedule", "install", "web", "--unit-dir", "/nonexistent"]).bad(1, "snapfold.toml:5: schedule.calendar");
}

#[test]
fn a_crontab_gets_a_line_and_keeps_its_others() {
    let job = Job::new(NIGHTLY);
    // A crontab command of this test's own: nobody's is touched.
    let table = job.world.write("table", b"MAILTO=me\n0 0 * * * true\n");
    let script =
        "#!/bin/sh\nif [ \"$1\" = -l ]; then exec cat ~/table; fi\ncat >~/table.new && mv ~/table.new ~/table\n";
    let program = job.world.write("bin/crontab", script.as_bytes());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = format!("{}:{}", job.world.path("bin").display(), std::env::var("PATH").expect("a path"));
    let schedule = |what: &str| run(job.command(&["schedule", what, "web", "--cron"]).env("PATH", &path));
    let read = || fs::read_to_string(&table).expect("a crontab");
    let before = read();
    assert_eq!(schedule("status").good().stdout, "not in place\n");
    schedule("remove").bad(1, "no line for profile web");
    for _ in 0..2 {
        schedule("install").good();
        let after = read();
        let lines: Vec<&str> = after.strip_prefix(&before).expect("the others").lines().collect();
        assert!(lines[1].starts_with("5 4 * * * '/") && lines[1].ends_with(" --quiet run web"), "{lines:?}");
        assert!(lines[3].starts_with("29 * * * * '/") && lines[3].ends_with(" run web --if-due"), "{lines:?}");
        assert_eq!(lines.len(), 4);
    }
    // What cron would run, runs.
    let line = read().lines().find_map(|line| line.strip_prefix("5 4 * * * ")).expect("when").to_owned();
    let command = job.command(&[]);
    let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    run(Command::new("sh").args(["-c", &line]).env_clear().envs(environment)).good();
    assert_eq!(schedule("status").good().stdout.lines().next(), Some("in place"));
    schedule("remove").good();
    assert_eq!(read(), before);
}

#[test]
fn a_time_that_was_slept_through_is_made_up_for_once() {
    let job = Job::new("schedule.cron = \"* * * * *\"\nbackup = { sources = \"@/site\" }");
    let path = job.world.path("state/profiles/web/history.jsonl");
    let runs = || fs::read_to_string(&path).map_or(0, |history| history.lines().count());
    let look = || {
        job.cli(&["run", "web", "--if-due", "--quiet"]).good();
        runs()
    };
    let set = |cron: &str| job.set(&format!("schedule.cron = \"{cron}\"\nbackup = {{ sources = \"@/site\" }}"));
    // Never run; then run since the first of January, which is as good.
    set("0 0 1 1 *");
    assert_eq!((look(), look()), (1, 1));
    // A year ago: a time has passed since.
    let began = |year: &str| {
        let history = fs::read_to_string(&path).expect("history");
        let last = history.lines().last().expect("a run");
        let run: serde_json::Value = serde_json::from_str(last).expect("JSON");
        let at = run["started"].as_str().expect("a time");
        let other = format!("{year}{}", &at[4..]);
        fs::write(&path, history.replace(&format!("\"started\":\"{at}"), &format!("\"started\":\"{other}")))
            .expect("write");
    };
    began("2001");
    assert_eq!((look(), look()), (2, 2));
    // A clock that was ahead puts nothing off.
    began("2101");
    assert_eq!((look(), look()), (3, 3));
    // A time that there never was.
    set("0 0 31 2 *");
    began("2001");
    assert_eq!(look(), 3);
}
