//! Health and drills: green where all is well, red where it is not, and what a drill leaves alone.

use crate::harness::http::Server;
use crate::harness::job::{Job, outcomes};
use crate::harness::{Random, run, shell};
use std::fs;
use std::path::Path;

/// What is bad, as `check: message`.
fn ills(job: &Job) -> Vec<String> {
    let ran = job.cli(&["--profile", "web", "health", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let findings = report["profiles"][0]["findings"].as_array().expect("findings").iter();
    let bad: Vec<String> = findings
        .filter(|finding| finding["ok"] == false)
        .map(|finding| format!("{}: {}", finding["check"].as_str().unwrap(), finding["message"].as_str().unwrap()))
        .collect();
    assert_eq!((ran.code, report["healthy"].as_bool()), (i32::from(!bad.is_empty()), Some(bad.is_empty())), "{report}");
    if !bad.is_empty() {
        assert!(ran.stderr.contains("exit_error") && ran.stderr.contains("profile web: "), "{}", ran.stderr);
    }
    bad
}

/// Each of these is bad, and nothing else is.
#[track_caller]
fn only(job: &Job, says: &[&str]) {
    let found = ills(job);
    assert_eq!(found.len(), says.len(), "{found:?}");
    for (found, say) in found.iter().zip(says) {
        assert!(found.starts_with(say), "{found:?} begins with {say:?}");
    }
}

const WELL: &str = "
backup = { sources = \"@/site\" }
check = {}
drill = { sample = \"all\", verify-command = \"grep -q a index.html\" }
health = { max-age = \"1h\", max-check-age = \"1d\", max-drill-age = \"7d\", min-free = \"1M\" }
";

#[test]
fn health_is_green_after_a_run_and_red_when_it_should_be() {
    let job = Job::new(WELL);
    only(&job, &["snapshot: none of host", "check: none so far", "drill: none so far"]);
    let (code, report) = job.run(&[]);
    assert_eq!((code, &*outcomes(&report)[4]), (0, "drill=success"), "{report}");
    only(&job, &[]);
    let said = job.cli(&["health"]).good().stdout;
    assert!(said.contains("reachable") && said.contains("the newest is ") && !said.contains("BAD"), "{said}");

    // Too old, too little room.
    job.set(&WELL.replace("\"1h\"", "\"1ms\"").replace("\"1M\"", "\"100%\""));
    let found = ills(&job);
    assert!(found[0].starts_with("snapshot: the newest is ") && found[0].ends_with("1ms at most"), "{found:?}");
    assert!(found.len() > 1 && found[1..].iter().all(|one| one.starts_with("space: ") && one.contains("at least")));

    // A drill whose command finds it of no use.
    job.set(&WELL.replace("grep -q a", "echo not fine >&2; grep -q nothing"));
    assert_eq!(job.run(&[]).0, 1);
    let failed = "drill: the last one failed: verify command";
    only(&job, &["run: the last run ended with error: drill: verify command", failed]);

    // A check that failed.
    job.set(WELL);
    assert_eq!(job.run(&[]).0, 0);
    only(&job, &[]);
    let name = job.world.objects().largest("packs");
    let pack = job.world.objects().get(&name);
    job.world.objects().delete(&name);
    job.set(&WELL.replace("backup", "#").replace("drill =", "#"));
    assert_eq!(job.run(&[]).0, 1);
    let found = ills(&job);
    let failed = "check: the last one failed: the repository is damaged";
    assert!(found[0].starts_with("run: ") && found[1].starts_with(failed), "{found:?}");
    job.world.objects().put(&name, &pack);

    // Out of reach.
    job.set(WELL);
    assert_eq!(job.run(&[]).0, 0);
    fs::rename(job.world.path("repo"), job.world.path("away")).expect("mv");
    only(&job, &["store: "]);
    fs::rename(job.world.path("away"), job.world.path("repo")).expect("mv");
    only(&job, &[]);
}

#[test]
fn a_failing_hook_and_a_clock_that_jumped_are_red() {
    let server = Server::start();
    let hook = format!("[[profile.web.hook]]\non = [\"snapshot-success\"]\nwebhook.url = \"{}/500\"", server.url);
    let job = Job::new(&format!("backup = {{ sources = \"@/site\" }}\n{hook}"));
    assert_eq!(job.run(&[]).0, 0, "ignored");
    only(&job, &["hooks: hook webhook on snapshot-success: the server answered 500"]);
    job.set("backup = { sources = \"@/site\" }");
    assert_eq!(job.run(&[]).0, 0);
    only(&job, &[]);
    job.cli(&["--profile", "web", "backup", "--time", "2100-01-01"]).good();
    only(&job, &["snapshot: the newest is of the future"]);
    // What was done by a clock that has been set back since is not taken for recent.
    let job = Job::new("check = {}\nhealth.max-check-age = \"1d\"\nbackup = { sources = \"@/site\" }");
    assert_eq!(job.run(&[]).0, 0);
    let path = job.world.path("state/profiles/web/history.jsonl");
    let future = fs::read_to_string(&path).expect("history").replace("\"started\":\"20", "\"started\":\"21");
    fs::write(&path, future).expect("write");
    only(&job, &["check: the last one is of the future"]);
    assert_eq!(job.run(&[]).0, 0);
    only(&job, &[]);
}

#[test]
fn a_store_that_never_answers_is_told_in_time() {
    let server = Server::start();
    let job = Job::new("health.timeout = \"500ms\"");
    let place = format!("s3:{}/hang/x", server.url);
    let mut command = job.command(&["--profile", "web", "health", "--json"]);
    command.env("SNAPFOLD_REPOSITORY", place).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let ran = run(&mut command);
    assert!(ran.code == 1 && ran.stdout.contains("no answer within 0.5 s"), "{} {}", ran.stdout, ran.stderr);
}

#[test]
fn a_stage_that_was_left_behind_is_red() {
    if !crate::harness::root() {
        return;
    }
    let job = Job::new("health.max-stage-age = \"0s\"");
    let point = job.world.mkdir("point");
    job.cli(&["--profile", "web", "stage", point.to_str().expect("UTF-8")]).good();
    shell(&point, "echo x >file");
    only(&job, &[]);
    for pid in job.world.processes() {
        crate::harness::kill(pid, libc::SIGKILL);
    }
    crate::harness::detach(&point);
    crate::harness::wait_until("its daemon is gone", || job.world.processes().is_empty());
    // Counted in whole seconds.
    let told = || ills(&job).iter().any(|one| one.starts_with("stages: 1 without a mount"));
    crate::harness::wait_until("it is told", told);
}

fn drill(job: &Job, args: &[&str]) -> (i32, serde_json::Value, String) {
    let ran = job.cli(&[&["--profile", "web", "drill", "--json"], args].concat());
    (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_default(), ran.stderr)
}

fn scratch_is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("a directory").next().is_none()
}

#[test]
fn a_drill_compares_with_the_snapshot_and_with_the_source_and_touches_neither() {
    let job = Job::new("backup = { sources = \"@/site\" }\ndrill = { scratch = \"@/scratch\", sample = \"all\" }");
    let scratch = job.world.mkdir("scratch");
    for number in 0..50 {
        job.world.write(&format!("site/many/file {number} [x]*"), &Random::new(number).bytes(1000));
    }
    job.cli(&["--profile", "web", "backup"]).good();
    let before = shell(&job.world.path("site"), "find . -printf '%p %T@ %C@ %s\\n' | sort | sha256sum");
    let (code, report, said) = drill(&job, &[]);
    assert_eq!(code, 0, "{said}");
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((count("files"), count("compared")), (52, 52), "{report}");
    assert_eq!((count("changed_since"), count("differing")), (0, 0), "{report}");
    assert!(scratch_is_empty(&scratch));
    assert_eq!(before, shell(&job.world.path("site"), "find . -printf '%p %T@ %C@ %s\\n' | sort | sha256sum"));

    // A sample is a part, and one file at least.
    let (_, report, _) = drill(&job, &["--sample", "50%"]);
    assert!((5..48).contains(&report["files"].as_u64().unwrap()), "{report}");
    let (_, report, _) = drill(&job, &["--sample", "1"]);
    assert_eq!(report["files"].as_u64(), Some(1), "{report}");
    assert!(report["whole_restore_seconds"].as_f64() > report["restore_seconds"].as_f64());

    // What changed since is not compared; what only looks unchanged is told of.
    let site = job.world.path("site");
    shell(&site, "echo other >'many/file 1 [x]*'; rm 'many/file 2 [x]*'");
    shell(&site, "f='many/file 3 [x]*'; touch -r \"$f\" stamp; head -c 1000 /dev/zero >\"$f\"; touch -r stamp \"$f\"");
    let (code, report, said) = drill(&job, &[]);
    let counts = (report["changed_since"].as_u64(), report["differing"].as_u64());
    assert_eq!((code, counts), (1, (Some(2), Some(1))), "{report}");
    assert!(said.contains("file 3") && said.contains("looks unchanged"), "{said}");
    assert!(scratch_is_empty(&scratch));
}

#[test]
fn a_drill_runs_the_users_command_and_knows_its_target() {
    let job = Job::new("backup = { sources = \"@/site\" }\ndrill = { scratch = \"@/scratch\", sample = \"all\" }");
    let scratch = job.world.mkdir("scratch");
    job.cli(&["--profile", "web", "backup"]).good();
    let (code, report, _) = drill(&job, &["--verify-command", "test -s uploads/one -a -d \"$SNAPFOLD_DRILL_DIR\""]);
    assert_eq!((code, report["verified"].as_bool()), (0, Some(true)));
    let (code, report, said) = drill(&job, &["--verify-command", "echo broken >&2; exit 4"]);
    assert_eq!((code, report["verified"].as_bool()), (1, Some(false)));
    assert!(said.contains("exit status: 4: broken"), "{said}");
    let (code, _, said) = drill(&job, &["--verify-command", "sleep 1000", "--verify-timeout", "200ms"]);
    assert!(code == 1 && said.contains("was ended after 0.2 s"), "{said}");
    let (code, _, said) = drill(&job, &["--verify-command", "yes | head -c 20000000", "-v"]);
    assert!(code == 0 && said.contains("verify command: the rest of its output is left out"), "{code}");
    assert!(said.len() < 100_000, "{}", said.len());
    assert!(scratch_is_empty(&scratch));
    let (code, report, _) = drill(&job, &["--target-time", "0"]);
    assert_eq!((code, report["target_missed"].as_bool()), (3, Some(true)));
    assert_eq!(drill(&job, &["--target-time", "1d"]).0, 0);
    let (code, report, _) = drill(&job, &["--keep"]);
    let kept = Path::new(report["path"].as_str().expect("a path"));
    assert!(code == 0 && kept.starts_with(&scratch) && kept.join("index.html").exists(), "{report}");
}

#[test]
fn a_drill_finds_damage_and_says_what_it_lacks() {
    let job = Job::new("backup = { sources = \"@/site\" }\ndrill = { scratch = \"@/scratch\", sample = \"all\" }");
    let scratch = job.world.mkdir("scratch");
    job.cli(&["--profile", "web", "drill"]).bad(1, "snapshot");
    job.cli(&["--profile", "web", "backup"]).good();
    let name = job.world.objects().largest("packs");
    job.world.objects().flip(&name, 50_000);
    let (code, report, said) = drill(&job, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(report["error_count"].as_u64() > Some(0) && scratch_is_empty(&scratch), "{report}");
    job.cli(&["--profile", "web", "drill", "--scratch", "/proc/nowhere"]).bad(1, "/proc/nowhere");
    let ran = job.cli(&["--profile", "web", "drill", "--sample", "some"]);
    assert!(ran.code == 1 && ran.stderr.contains("not a sample such as"), "{}", ran.stderr);
}

/// A small web application: files that are generated, uploads, a configuration.
fn service(server: &Server) -> Job {
    let job = Job::new(&format!(
        "backup = {{ sources = [\"@/site\", \"@/etc\"], exclude = \"sessions\", tag = \"app\" }}
         forget = {{ keep-last = 3 }}
         check = {{ read-data-subset = \"100%\" }}
         tier.far = {{ repository = \"@/far\", keep-last = 2 }}
         drill = {{ sample = \"all\", verify-command = \"grep -q 'root = ' etc/app.conf\" }}
         health = {{ max-age = \"1d\", max-check-age = \"1d\", max-drill-age = \"1d\" }}
         [[profile.web.hook]]\non = [\"snapshot-start\"]\non-error = \"fatal\"\ncommand = \"touch @/frozen\"
         [[profile.web.hook]]\non = [\"snapshot-end\"]\ncommand = \"rm @/frozen\"
         [[profile.web.hook]]\nping.url = \"{}/ping\"",
        server.url
    ));
    job.cli(&["--profile", "web", "--tier", "far", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    job.world.write("etc/app.conf", b"root = /srv\n");
    job
}

/// What happens in a day, and its backup.
fn night(job: &Job, night: usize) -> i32 {
    shell(
        &job.world.path("site"),
        &format!(
            "mkdir -p pages sessions; for i in $(seq 20); do echo page $i of {night} >pages/$i.html; done
            head -c 200000 /dev/urandom >uploads/{night}; ln -sf pages/{}.html index; echo s >sessions/{night}",
            night + 1
        ),
    );
    job.run(&[]).0
}

#[test]
fn a_service_is_backed_up_every_night_lost_and_brought_back() {
    let server = Server::start();
    let job = service(&server);
    assert_eq!((0..4).map(|number| night(&job, number)).collect::<Vec<_>>(), [0; 4]);
    assert!(!job.world.path("frozen").exists(), "thawed");
    assert_eq!(server.asked().iter().filter(|asked| asked.path == "/ping").count(), 4);
    only(&job, &[]);

    // Disaster. What is left out of a backup changes the time of its directory when it goes.
    shell(&job.world.path(""), "mkdir kept; cp -a site etc kept/; rm -rf kept/site/sessions site etc");
    assert_eq!(job.run(&[]).0, 1);
    assert!(server.asked().iter().any(|asked| asked.path == "/ping/fail"));
    only(&job, &["run: the last run ended with error: sources: "]);
    let target = job.world.path("back");
    job.cli(&["--profile", "web", "restore", "latest", "--target", target.to_str().unwrap(), "--verify"]).good();
    crate::harness::compare::same_by_rsync_untimed(&job.world.path("kept"), &target);
    // From the other place, too, by way of a mount and of cp.
    if crate::harness::root() {
        let point = job.world.mkdir("point");
        job.cli(&["--profile", "web", "--tier", "far", "mount", point.to_str().unwrap()]).good();
        shell(&job.world.path(""), "cp -a point/latest/. copied; cp -a copied/site copied/etc .");
        job.cli(&["umount", point.to_str().unwrap()]).good();
        crate::harness::compare::same_by_rsync_untimed(&job.world.path("kept"), &job.world.path("copied"));
        let (code, report) = job.run(&[]);
        assert_eq!(code, 0, "{report}");
        only(&job, &[]);
    }
}

#[test]
fn the_owner_of_a_service_is_told_what_is_wrong_with_its_backups() {
    let server = Server::start();
    let job = service(&server);
    let told = || server.asked().iter().filter(|asked| asked.path == "/ping/fail").count();
    let drills = || job.cli(&["--profile", "web", "drill"]).code;
    assert_eq!((night(&job, 0), drills(), told()), (0, 0, 0));
    only(&job, &[]);
    let config = job.world.path(".config/snapfold/snapfold.toml");
    let sound = fs::read_to_string(&config).expect("a profile");
    let change = |from: &str, to: &str| {
        assert!(sound.contains(from), "{from}");
        job.world.write_private(".config/snapfold/snapfold.toml", sound.replace(from, to).as_bytes());
    };

    // A snapshot that is too old.
    change("max-age = \"1d\"", "max-age = \"1ms\"");
    only(&job, &["snapshot: the newest is "]);
    // A hook that fails: the backup is not made, and that is told.
    change("command = \"touch ", "command = \"false ");
    assert_eq!((night(&job, 1), told()), (1, 1));
    only(&job, &["run: the last run ended with error: backup: a hook failed on snapshot-start", "hooks: hook command"]);
    // Out of reach, both for a run and for a drill.
    job.world.write_private(".config/snapfold/snapfold.toml", sound.as_bytes());
    fs::rename(job.world.path("repo"), job.world.path("away")).expect("mv");
    assert_eq!((night(&job, 2), told(), drills()), (1, 2, 10));
    only(&job, &["run: the last 2 runs did not end well: connect: ", "store: "]);
    fs::rename(job.world.path("away"), job.world.path("repo")).expect("mv");
    assert_eq!((night(&job, 3), told(), drills()), (0, 2, 0));
    only(&job, &[]);
    // A check that finds damage, of snapshots that there were: the new one has everything anew.
    let name = job.world.objects().largest("packs");
    job.world.objects().delete(&name);
    assert_eq!((night(&job, 4), told(), drills()), (1, 3, 0));
    let found = ills(&job);
    assert!(found.len() == 2 && found[0].starts_with("run: ") && found[1].starts_with("check: the last "), "{found:?}");
    // A drill after which the service would not come up.
    change("grep -q 'root = '", "grep -q 'nothing = '");
    assert_eq!((night(&job, 5), told(), drills()), (1, 4, 1));
    let found = ills(&job);
    assert!(found.iter().any(|one| one.starts_with("drill: the last one failed: verify command")), "{found:?}");
}
