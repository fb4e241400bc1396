//! `snapfold run`: steps in their order, what stands between them, two runs at once, and runs that do not end.

use crate::harness::job::{Job, outcomes};
use crate::harness::{kill, shell, wait_until};
use std::fs;
use std::process::Stdio;

const WHOLE: &str = r#"
backup = { sources = "@/site", tag = "web" }
forget = { keep-last = 2 }
prune = {}
check = { read-data-subset = "100%" }
tier.far = { repository = "@/far", keep-last = 1 }
"#;

fn with_tier(profile: &str) -> Job {
    let job = Job::new(profile);
    job.cli(&["--profile", "web", "--tier", "far", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    job
}

#[test]
fn a_run_does_all_that_the_profile_says_and_keeps_a_report() {
    let job = with_tier(WHOLE);
    for number in 0..3 {
        job.world.write("site/index.html", format!("{number}").as_bytes());
        let (code, report) = job.run(&[]);
        assert_eq!(code, 0, "{report}");
        let all = ["connect", "connect:far", "sources", "backup", "forget", "prune", "check", "copy:far"];
        assert_eq!(outcomes(&report), all.map(|step| format!("{step}=success")), "{report}");
        assert_eq!((&report["message_type"], &report["outcome"]), (&"run".into(), &"success".into()));
        assert_eq!(report["steps"][3]["summary"]["snapshot_id"].as_str(), job.world.newest().as_deref());
    }
    assert_eq!(job.world.snapshots().len(), 2);
    assert!(job.cli(&["--profile", "web", "--tier", "far", "snapshots"]).good().stdout.contains("1 snapshot"));
    let history = fs::read_to_string(job.world.path("state/profiles/web/history.jsonl")).expect("a history");
    assert_eq!(history.lines().count(), 3);
    assert!(!job.world.path("state/profiles/web/current.json").exists());
    let said = job.cli(&["run", "web"]).good().stdout;
    assert!(said.contains("STEP") && said.contains("copy:far") && said.contains(": success, 0:0"), "{said}");
}

#[test]
fn what_fails_stops_what_needs_it_and_nothing_else() {
    let job = with_tier(WHOLE);
    fs::rename(job.world.path("site"), job.world.path("gone")).expect("mv");
    let (code, report) = job.run(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        outcomes(&report),
        [
            "connect=success",
            "connect:far=success",
            "sources=error",
            "backup=skipped",
            "forget=skipped",
            "prune=skipped",
            "check=success",
            "copy:far=skipped"
        ]
    );
    let ran = job.cli(&["run", "web"]);
    assert!(
        ran.stderr.contains("snapfold: profile web: sources: ") && ran.stderr.contains("/site: "),
        "{}",
        ran.stderr
    );
    assert!(job.world.snapshots().is_empty());

    // A tier that cannot be reached costs the copies to it.
    fs::rename(job.world.path("gone"), job.world.path("site")).expect("mv");
    fs::rename(job.world.path("far"), job.world.path("away")).expect("mv");
    let (code, report) = job.run(&[]);
    assert_eq!(code, 1);
    let outcomes = outcomes(&report);
    assert!(outcomes.contains(&"connect:far=error".into()) && outcomes.contains(&"copy:far=skipped".into()));
    assert!(outcomes.contains(&"backup=success".into()) && outcomes.contains(&"check=success".into()), "{outcomes:?}");
}

#[test]
fn what_could_not_be_read_and_what_looks_unmounted_is_a_warning() {
    let job = Job::new("backup = { sources = [\"@/site\", \"@/empty\"] }");
    job.world.mkdir("empty");
    let (code, report) = job.run(&[]);
    assert_eq!(
        (code, outcomes(&report)),
        (3, vec!["connect=success".into(), "sources=warning".into(), "backup=success".into()])
    );
    assert!(report["steps"][1]["warnings"][0].as_str().unwrap().contains("empty"), "{report}");
}

#[test]
fn a_step_is_done_no_more_often_than_it_is_due() {
    let job = Job::new("check = {}\nbackup = { sources = \"@/site\" }\nsteps.check.every = \"7d\"");
    assert_eq!(outcomes(&job.run(&[]).1)[3], "check=success");
    let (code, report) = job.run(&[]);
    assert_eq!((code, &*outcomes(&report)[3]), (0, "check=not-due"));
    // A clock that was set back does not put it off for good.
    let path = job.world.path("state/profiles/web/history.jsonl");
    let future = fs::read_to_string(&path).expect("history").replace("\"started\":\"20", "\"started\":\"21");
    fs::write(&path, future).expect("write");
    assert_eq!(outcomes(&job.run(&[]).1)[3], "check=success");
    // Nor does it have it done again and again.
    assert_eq!(outcomes(&job.run(&[]).1)[3], "check=not-due");
}

#[test]
fn a_step_has_a_time_and_is_tried_again() {
    let job = Job::new(
        "backup = { stdin-from-command = \"echo x >>@/tries; exec sleep 1000\", stdin-filename = \"dump\" }
         steps.backup = { timeout = \"1s\", retry = 1, retry-after = \"10ms\", nice = 5 }",
    );
    let (code, report) = job.run(&[]);
    let backup = &report["steps"][2];
    assert_eq!((code, backup["tries"].as_u64()), (1, Some(2)), "{report}");
    assert!(backup["message"].as_str().unwrap().contains("its timeout"), "{report}");
    assert_eq!(fs::read_to_string(job.world.path("tries")).unwrap(), "x\nx\n");
    assert!(job.world.processes().is_empty());
}

#[test]
fn a_dump_is_stored_by_its_command_and_a_failing_one_is_an_error() {
    let job = Job::new("backup = { stdin-from-command = \"cat @/dump\", stdin-filename = \"all.sql\" }");
    job.world.write("dump", b"insert\n");
    assert_eq!(job.run(&[]).0, 0);
    assert_eq!(job.cli(&["--profile", "web", "cat", "latest:/all.sql"]).good().stdout, "insert\n");
    fs::remove_file(job.world.path("dump")).expect("rm");
    let (code, report) = job.run(&[]);
    assert_eq!((code, &*outcomes(&report)[2]), (1, "backup=error"));
    assert_eq!(job.world.snapshots().len(), 1);
}

const WAITING: &str = r#"
backup = { sources = "@/site" }
check = {}
[[profile.web.hook]]
on = ["check-start"]
command = "touch @/here; while [ ! -e @/go ]; do sleep 0.02; done"
[[profile.web.hook]]
on = ["snapshot-end", "run-end"]
command = "echo $SNAPFOLD_CONDITION >>@/told"
"#;

#[test]
fn two_runs_of_a_profile_at_once_are_refused_with_a_code_of_their_own() {
    let job = Job::new(WAITING);
    let mut first = job.command(&["run", "web"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    wait_until("the first run is at its check", || job.world.path("here").exists());
    let ran = job.cli(&["run", "web"]);
    assert_eq!((ran.code, ran.said().len()), (13, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("is being run already (process {})", first.id())), "{}", ran.stderr);
    job.world.write("go", b"");
    assert!(first.wait().expect("an end").success());
    assert_eq!(job.run(&[]).0, 0);
}

#[test]
fn a_run_that_was_killed_is_gone_on_with_or_begun_anew() {
    let job = Job::new(WAITING);
    let mut first = job.command(&["run", "web"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    wait_until("the run is at its check", || job.world.path("here").exists());
    kill(first.id() as i32, libc::SIGKILL);
    first.wait().expect("an end");
    let ran = job.cli(&["health"]);
    assert!(ran.code == 1 && ran.stderr.contains("the last run did not end: stopped after backup"), "{}", ran.stderr);
    job.world.write("go", b"");
    let (code, report) = job.run(&["--resume"]);
    assert_eq!((code, job.world.snapshots().len()), (0, 1), "{report}");
    assert_eq!(outcomes(&report)[2..], ["backup=success", "check=success"]);
    // With nothing to go on with it is a run like any other.
    assert_eq!((job.run(&["--resume"]).0, job.world.snapshots().len()), (0, 2));
}

#[test]
fn an_interrupted_run_thaws_what_it_froze_and_says_so() {
    let job = Job::new(
        "backup = { stdin-from-command = \"touch @/here; exec sleep 1000\" }
         [[profile.web.hook]]
         on = [\"snapshot-start\", \"snapshot-end\"]
         command = \"echo $SNAPFOLD_CONDITION >>@/told\"",
    );
    let mut first = job.command(&["run", "web"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    wait_until("the backup is under way", || job.world.path("here").exists());
    kill(first.id() as i32, libc::SIGTERM);
    assert_eq!(first.wait().expect("an end").code(), Some(130));
    assert_eq!(fs::read_to_string(job.world.path("told")).unwrap(), "snapshot-start\nsnapshot-end\n");
    assert!(job.world.processes().is_empty() && job.world.snapshots().is_empty());
}

#[test]
fn a_stage_is_committed_instead_of_a_backup() {
    if !crate::harness::root() {
        return;
    }
    let job = Job::new("stage = { commit = \"@/next\", keep = true }\nforget = { keep-last = 5 }");
    let next = job.world.mkdir("next");
    job.cli(&["--profile", "web", "stage", next.to_str().expect("UTF-8")]).good();
    shell(&next, "echo staged >file");
    let (code, report) = job.run(&[]);
    assert_eq!(
        (code, outcomes(&report).join(" ")),
        (0, "connect=success backup=success forget=success".into()),
        "{report}"
    );
    assert_eq!(job.cli(&["--profile", "web", "cat", "latest:/file"]).good().stdout, "staged\n");
    job.cli(&["umount", next.to_str().expect("UTF-8")]).good();
    // A stage that is over cannot be committed again.
    assert_eq!(job.run(&[]).0, 1);
}

#[test]
fn a_profile_that_is_not_there_is_refused() {
    let job = Job::new("");
    job.cli(&["run", "wep"]).bad(1, "no profile \"wep\"");
}
