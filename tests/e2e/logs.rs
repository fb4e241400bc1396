//! The log: a file, the journal, text and JSON, whose lines are whose, and what is in none of them.

use crate::harness::http::Server;
use crate::harness::job::Job;
use crate::harness::{World, run, tool, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_log_has_what_the_terminal_was_told_and_more() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    world.write("source/a", b"a");
    let source = source.to_str().expect("UTF-8");
    let ran = world.run(&["--log-to", "log", "backup", source, "/nonexistent"]);
    assert_eq!(ran.code, 3);
    assert_eq!(
        ran.said(),
        ["warning: /nonexistent: No such file or directory (os error 2)"],
        "no more than without a log"
    );
    let log = read(&world, "log");
    let line = log.lines().find(|line| line.contains("warning: /nonexistent: No such file")).expect(&log);
    // 2026-11-21T10:00:00.000Z [1234] warning: ...
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && rest.starts_with('['), "{line}");

    // A failure is the last line, in either form, and the log is gone on with.
    run(world.command(&["cat", "latest:/none"]).env("SNAPFOLD_LOG_TO", "log")).bad(1, "none");
    let log = read(&world, "log");
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    assert!(last[0].ends_with("] info: snapfold cat: exit code 1") && last[1].contains("] error: "), "{log}");
    let ran = world.run(&["--log-to", "log", "--log-format", "json", "--json", "cat", "latest:/none"]);
    assert!(ran.code == 1 && ran.stderr.starts_with("{\"message_type\":\"exit_error\""), "{}", ran.stderr);
    let log = read(&world, "log");
    let last: Value = serde_json::from_str(log.lines().rev().nth(1).expect("a line")).expect("JSON");
    assert_eq!((&last["message_type"], &last["level"]), (&"log".into(), &"error".into()), "{last}");
    assert!(last["message"].as_str().unwrap().contains("none") && last["pid"].as_u64().is_some(), "{last}");
    // Who asks is told more, in the log and on a terminal without one.
    world.ok(&["--log-to", "deep", "--log-level", "warn,snapfold=trace", "snapshots"]);
    let without = world.run(&["--log-level", "loud", "snapshots"]);
    assert!(without.code == 1 && without.stderr.contains("not a level such as debug"), "{}", without.stderr);
}

#[test]
fn a_place_that_takes_no_lines_is_told_before_anything_is_done() {
    let world = World::with_repository();
    let dir = world.mkdir("source");
    world.fails(&["--log-to", dir.to_str().expect("UTF-8"), "backup", "source"], 1, "source: Is a directory");
    world.fails(&["--log-to", "/proc/nowhere/log", "backup", "source"], 1, "/proc/nowhere/log: ");
    for (name, value) in [("SNAPFOLD_LOG", "debgu"), ("SNAPFOLD_LOG_FORMAT", "xml")] {
        run(world.command(&["backup", "source"]).env(name, value)).bad(1, name);
    }
    assert!(world.snapshots().is_empty());
    // A disk that fills up costs the log alone.
    let ran = world.ok(&["--log-to", "/dev/full", "--log-level", "debug", "backup", "source"]);
    assert_eq!(ran.stderr.matches("warning: log: /dev/full: No space left").count(), 1, "{}", ran.stderr);
    assert_eq!(world.snapshots().len(), 1);
}

const LOGGED: &str = r#"
log-to = "@/log"
backup = { files-from = "@/list" }
check = {}
[[profile.web.hook]]
on = ["snapshot-warning"]
command = "echo a hook speaks"
"#;

/// What the profile backs up: something, and something that is not there.
fn list(job: &Job) {
    job.world.write("list", format!("{0}/site\n{0}/none\n", job.world.path("").display()).as_bytes());
}

#[test]
fn lines_of_a_run_of_its_steps_and_of_its_hooks_bear_its_id() {
    let job = Job::new(LOGGED);
    list(&job);
    let (code, report) = job.run(&[]);
    assert_eq!(code, 3, "{report}");
    let log = read(&job.world, "log");
    let whose = format!(" [web {}] ", report["run_id"].as_str().expect("an id"));
    for says in [
        "info: it begins",
        "warning: backup: ",
        "info: backup: warning",
        "info: hook command: a hook speaks",
        "info: check: success",
        "info: it has ended: warning",
    ] {
        assert!(log.contains(&format!("{whose}{says}")), "{says}: {log}");
    }
    assert!(log.lines().all(|line| line.contains(&whose)), "{log}");

    // As JSON, by a variable, which goes before the profile.
    let mut command = job.command(&["run", "web", "--json"]);
    let ran =
        run(command.env("SNAPFOLD_LOG_FORMAT", "json").env("SNAPFOLD_LOG_TO", "other").env("SNAPFOLD_LOG", "debug"));
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let lines: Vec<Value> =
        read(&job.world, "other").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        assert_eq!((&line["run_id"], &line["profile"]), (&report["run_id"], &"web".into()), "{line}");
    }
    let of_step =
        |line: &Value| line["level"] == "warning" && line["message"].as_str().unwrap().contains("/none: No such file");
    assert!(lines.iter().any(of_step), "{lines:?}");
    assert_eq!(read(&job.world, "log"), log, "nothing was added");
    // What is typed by hand is logged there, too.
    job.cli(&["--profile", "web", "cat", "latest:/none"]).bad(1, "none");
    assert!(read(&job.world, "log").lines().rev().nth(1).expect("a line").contains("] error: "));
}

#[test]
fn a_daemon_logs_where_it_is_told_to() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    world.write("source/a", b"a");
    world.backup(&source);
    let unmounted =
        |name: &str| fs::read_to_string(world.path(name)).is_ok_and(|log| log.contains("] info: unmounted"));
    world.mount(&["--log-to", "log"]).umount();
    wait_until("the end is in the log", || unmounted("log"));
    assert!(!world.path("state/mount.log").exists());
    world.mount::<&str>(&[]).umount();
    wait_until("the end is in its own log", || unmounted("state/mount.log"));
}

#[test]
fn the_journal_gets_entries_with_levels_and_whose_they_are() {
    if !crate::harness::root() {
        return;
    }
    let Some(unshare) = tool("unshare") else { return crate::harness::leave_out("no unshare here") };
    let job = Job::new(&LOGGED.replace("\"@/log\"", "\"journald\""));
    list(&job);
    let dir = job.world.mkdir("journal");
    let socket = UnixDatagram::bind(dir.join("socket")).expect("a socket");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    // A journal of this test's own, in a mount namespace of its own.
    let own = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal &&
         mount --bind {} /run/systemd/journal && exec \"$@\"",
        dir.display()
    );
    let command = job.command(&["run", "web", "--json"]);
    let mut inside = Command::new(unshare);
    inside.args(["--mount", "sh", "-c", &own, "sh"]).arg(command.get_program()).args(command.get_args());
    inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = run(inside.current_dir(job.world.path("")));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    let mut entries = Vec::new();
    let mut buf = vec![0; 1 << 16];
    while let Ok(length) = socket.recv(&mut buf) {
        entries.push(String::from_utf8(buf[..length].to_vec()).expect("UTF-8"));
    }
    let id = format!("SNAPFOLD_RUN_ID={}\n", report["run_id"].as_str().expect("an id"));
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.contains(&id)), "{entries:?}");
    let warned = |entry: &&String| entry.contains("PRIORITY=4\n") && entry.contains("SNAPFOLD_PROFILE=web\n");
    assert!(entries.iter().filter(warned).any(|entry| entry.starts_with("MESSAGE=backup: ")), "{entries:?}");

    // Without one, that is said.
    let ran = job.cli(&["run", "web"]);
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        assert!(ran.code == 1 && ran.stderr.starts_with("snapfold: journald: "), "{}", ran.stderr);
    }
}

#[test]
fn no_secret_is_in_any_log_however_much_is_logged() {
    let server = Server::start();
    let job = Job::new(&format!(
        "log-to = \"@/log\"

         backup = {{ sources = \"@/site\" }}
         drill = {{}}
         s3.access-key-id = \"AKID\"
         s3.secret-access-key = \"hunter2-s3\"
         tier.far = {{ repository = \"s3:{0}/500/bucket\", password-command = \"echo hunter2-password\", retry = 0 }}
         [[profile.web.hook]]\nping.url = \"{0}/hunter2-ping\"
         [[profile.web.hook]]\non = [\"run-start\"]\nslack.url = \"{0}/redirect/hunter2-slack\"
         [[profile.web.hook]]\non = [\"run-start\"]\ndiscord.url = \"{0}/500/hunter2-discord\"
         [[profile.web.hook]]\non = [\"run-start\"]\nwecom.url = \"{0}/refuse/hunter2-wecom\"
         [[profile.web.hook]]\non = [\"run-start\"]\ndingtalk.url = \"http://hunter2:hunter2@127.0.0.1:9/x?k=hunter2\"
         [[profile.web.hook]]\non = [\"run-start\"]\nwebhook.url = \"https://127.0.0.1:9/hunter2\"
         [[profile.web.hook]]\non = [\"run-start\"]\ngotify = {{ url = \"{0}\", token = \"hunter2-token\" }}
         [[profile.web.hook]]\non = [\"run-start\"]
         webhook = {{ url-file = \"@/url\", headers.Authorization = \"Bearer hunter2-bearer\" }}",
        server.url
    ));
    job.world.write("url", format!("{}/redirect/hunter2-file\n", server.url).as_bytes());
    let mut command = job.command(&["run", "web", "-vvv"]);
    command.env("SNAPFOLD_LOG", "trace").env("AWS_SESSION_TOKEN", "hunter2-session");
    let ran = run(&mut command);
    assert_eq!(ran.code, 1, "the far tier cannot be reached: {}", ran.stderr);

    // A terminal without a log is told everything itself.
    let told =
        job.cli(&["--profile", "web", "--tier", "far", "snapshots", "--log-to", "stderr", "--log-level", "trace"]);
    assert!(told.stderr.contains("trace: "), "{}", told.stderr);
    // Keys of the environment, and of the files that are usual for them.
    let far = format!("s3:{}/500/bucket", server.url);
    let beside = |command: &mut Command| run(command.env("SNAPFOLD_REPOSITORY", &far).env("SNAPFOLD_LOG", "trace"));
    let args = ["snapshots", "--retry", "0"];
    let of_environment = beside(
        job.world.command(&args).env("AWS_ACCESS_KEY_ID", "AKENV").env("AWS_SECRET_ACCESS_KEY", "hunter2-environment"),
    );
    job.world
        .write(".aws/credentials", b"[nightly]\naws_access_key_id = AKFILE\naws_secret_access_key = hunter2-aws\n");
    let of_file = beside(job.world.command(&args).env("AWS_PROFILE", "nightly"));
    let asked = server.asked();
    let came = |what: &str| asked.iter().any(|asked| format!("{asked:?}").contains(what));
    for what in ["hunter2-ping", "moved/hunter2-slack", "hunter2-token", "hunter2-bearer", "AKID", "AKENV", "AKFILE"] {
        assert!(came(what), "{what} was sent: {asked:?}");
    }
    let log = read(&job.world, "log");
    assert!(log.lines().any(|line| line.contains(" trace: ")) && log.contains("starting new connection"), "{log}");
    let history = read(&job.world, "state/profiles/web/history.jsonl");
    for text in [&log, &history, &ran.stdout, &ran.stderr, &told.stderr, &of_environment.stderr, &of_file.stderr] {
        for secret in ["hunter2", "correct horse"] {
            assert!(!text.contains(secret), "{:?}", text.lines().find(|line| line.contains(secret)));
        }
    }
}
