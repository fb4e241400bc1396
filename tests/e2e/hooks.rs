//! Hooks: each condition, each policy, each service, and hooks that misbehave, against a real server on the loopback.

use crate::harness::http::Server;
use crate::harness::job::{Job, outcomes};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const ALL: &str = "any-error run-start run-end run-success run-error snapshot-start snapshot-end snapshot-success \
    snapshot-warning snapshot-error snapshot-skipped forget-start forget-error forget-success prune-start prune-error \
    prune-success check-start check-error check-success copy-start copy-error copy-success \
    drill-start drill-error drill-success";

/// A hook that sends every event to `/all`.
fn telling(server: &Server) -> String {
    let all = ALL.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    format!("[[profile.web.hook]]\non = [{all}]\nwebhook.url = \"{}/all\"\n", server.url)
}

const WHOLE: &str = "
backup = { sources = \"@/site\", skip-if-unchanged = true }
forget = { keep-last = 3 }
prune = {}
check = { read-data = true }
tier.far = { repository = \"@/far\" }
drill = { sample = \"all\" }
";

fn job(server: &Server, profile: &str) -> Job {
    let job = Job::new(&format!("{profile}\n{}", telling(server)));
    if profile.contains("tier.far") {
        job.cli(&["--profile", "web", "--tier", "far", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    }
    job
}

#[test]
fn every_condition_of_a_good_run_is_told_in_its_order() {
    let server = Server::start();
    let job = job(&server, WHOLE);
    let (code, report) = job.run(&[]);
    assert_eq!(code, 0, "{report}");
    let told = "run-start snapshot-start snapshot-success snapshot-end forget-start forget-success prune-start \
        prune-success check-start check-success copy-start copy-success drill-start \
        drill-success run-success run-end";
    assert_eq!(server.conditions("/all").join(" "), told);
    let asked = server.asked();
    let saved = asked[2].json();
    assert_eq!((&saved["profile"], &saved["step"], &asked[2].method[..]), (&"web".into(), &"backup".into(), "POST"));
    assert_eq!(saved["snapshot_id"].as_str(), job.world.newest().as_deref());
    assert!(saved["summary"]["total_files_processed"].as_u64() == Some(2) && saved["run_id"] == report["run_id"]);
    // Nothing changed: no snapshot.
    assert_eq!(job.run(&[]).0, 0);
    assert!(server.conditions("/all").contains(&"snapshot-skipped".to_owned()));
}

#[test]
fn every_condition_of_bad_runs_is_told() {
    let server = Server::start();
    let job = job(&server, WHOLE);
    assert_eq!(job.run(&[]).0, 0);

    // Warning: a file of the list is not there. Error: a command that fails. Skipped: no source.
    let seen = |job: &Job, profile: &str, code: i32| {
        let before = server.conditions("/all").len();
        job.set(&format!("{profile}\n{}", telling(&server)));
        let (ended, report) = job.run(&[]);
        assert_eq!(ended, code, "{profile}: {report}");
        server.conditions("/all")[before..].join(" ")
    };
    job.world.write("list", format!("{0}/site\n{0}/none\n", job.world.path("").display()).as_bytes());
    let told = seen(&job, "backup = { files-from = \"@/list\" }", 3);
    assert_eq!(told, "run-start snapshot-start snapshot-warning snapshot-end run-success run-end");
    let told = seen(&job, "backup = { stdin-from-command = \"exit 7\" }", 1);
    assert_eq!(told, "run-start snapshot-start snapshot-error any-error snapshot-end run-error run-end");
    let told = seen(&job, "backup = { sources = \"@/none\" }", 1);
    assert_eq!(told, "run-start any-error snapshot-skipped run-error run-end");
    let told = seen(&job, "forget = { keep-tag = \"none\" }", 1);
    assert_eq!(told, "run-start forget-start forget-error any-error run-error run-end");
    let error =
        server.asked().into_iter().rev().find(|asked| asked.body.contains("forget-error")).expect("told").json();
    assert!(error["error"].as_str().unwrap().contains("would remove all snapshots"), "{error}");

    let told = seen(&job, "drill = { sample = \"all\", verify-command = \"exit 5\" }", 1);
    assert_eq!(told, "run-start drill-start drill-error any-error run-error run-end");

    // Damage: every pack is gone.
    for name in job.world.objects().keys("packs") {
        job.world.objects().delete(&name);
    }
    let told = seen(&job, "prune = {}\ncheck = {}", 1);
    for word in ["prune-error", "check-error"] {
        assert!(told.contains(&format!("{word} any-error")), "{told}");
    }
    fs::remove_dir_all(job.world.path("far")).expect("rm");
    job.set("tier.far = { repository = \"@/far\" }");
    job.cli(&["--profile", "web", "--tier", "far", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    let told = seen(&job, "tier.far = { repository = \"@/far\" }", 1);
    assert_eq!(told, "run-start copy-start copy-error any-error run-error run-end");

    // Nothing has changed since: that is told as well, and with it there is no condition that was not.
    job.set(&format!("backup = {{ sources = \"@/site\", skip-if-unchanged = true }}\n{}", telling(&server)));
    job.run(&[]);
    let told: BTreeSet<String> = server.conditions("/all").into_iter().collect();
    let all: BTreeSet<String> = ALL.split_whitespace().map(str::to_owned).collect();
    assert_eq!(told, all);
    assert_eq!(documented(), all);
}

/// The conditions that snapfold-hooks(5) has.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../man/snapfold-hooks.5");
    let section = page.split(".Ss Conditions").nth(1).and_then(|rest| rest.split(".Ss ").next()).expect("a section");
    let words = section.lines().filter_map(|line| line.strip_prefix(".It Cm ")).flat_map(|line| line.split(" , "));
    words.map(str::to_owned).collect()
}

/// A hook with a policy, on the start of the check.
fn policy(server: &Server, path: &str, policy: &str, on: &str) -> String {
    format!(
        "backup = {{ sources = \"@/site\" }}\ncheck = {{}}\nforget = {{ keep-last = 9 }}
         [[profile.web.hook]]\non = [\"{on}\"]\non-error = \"{policy}\"\nretry-after = \"10ms\"
         webhook.url = \"{}{path}\"\n",
        server.url
    )
}

#[test]
fn a_failing_hook_is_ignored_cancels_or_is_fatal_as_it_says() {
    let server = Server::start();
    let job = Job::new("");
    let run = |word: &str, on: &str| {
        job.set(&policy(&server, "/500", word, on));
        let (code, report) = job.run(&[]);
        let hook = &report["hooks"][0];
        assert_eq!((&hook["condition"], &hook["policy"]), (&on.into(), &word.into()), "{report}");
        assert!(hook["error"].as_str().unwrap().contains("500"), "{report}");
        (code, outcomes(&report)[2..].join(" "))
    };
    assert_eq!(run("ignore", "snapshot-start"), (0, "backup=success forget=success check=success".into()));
    assert_eq!(run("cancel", "snapshot-start"), (0, "backup=skipped forget=skipped check=success".into()));
    assert_eq!(run("fatal", "snapshot-start"), (1, "backup=error forget=skipped check=skipped".into()));
    // After the step there is nothing left to cancel but what waits for it.
    assert_eq!(run("ignore", "snapshot-success"), (0, "backup=success forget=success check=success".into()));
    assert_eq!(run("cancel", "snapshot-success"), (0, "backup=skipped forget=skipped check=success".into()));
    assert_eq!(run("fatal", "snapshot-success"), (1, "backup=error forget=skipped check=skipped".into()));
    assert_eq!(run("cancel", "run-start").1, "backup=skipped forget=skipped check=skipped");
    assert_eq!(run("fatal", "run-start").0, 1);
    assert_eq!(run("fatal", "run-end").0, 1);
}

#[test]
fn a_hook_is_tried_again_as_often_as_its_policy_says() {
    let server = Server::start();
    let job = Job::new("");
    for (path, word, tries) in [
        ("/flaky/1", "retry-1minute", 2),
        ("/flaky/2", "retry-10minutes", 3),
        ("/flaky/5", "retry-exponential-backoff", 6),
    ] {
        job.set(&policy(&server, path, word, "check-start"));
        let (code, report) = job.run(&[]);
        assert_eq!((code, report.get("hooks")), (0, None), "{report}");
        assert_eq!(server.conditions(path).len(), tries, "{word}");
    }
    // In the end it is fatal.
    for (path, word, tries) in
        [("/500/1", "retry-1minute", 4), ("/500/2", "retry-10minutes", 4), ("/500/3", "retry-exponential-backoff", 6)]
    {
        job.set(&policy(&server, path, word, "check-start"));
        let (code, report) = job.run(&[]);
        let tried = (report["hooks"][0]["tries"].as_u64(), server.conditions(path).len());
        assert_eq!((code, tried), (1, (Some(tries), tries as usize)), "{report}");
    }
}

#[test]
fn hooks_that_hang_flood_or_cannot_be_run_are_told_of_and_do_not_stop_the_run() {
    let server = Server::start();
    let job = Job::new(&format!(
        "backup = {{ sources = \"@/site\" }}
         [[profile.web.hook]]\nname = \"hangs\"\non = [\"snapshot-start\"]\ntimeout = \"300ms\"
         command = \"sleep 1000\"
         [[profile.web.hook]]\nname = \"floods\"\non = [\"snapshot-start\"]\ncommand = \"yes | head -c 20000000\"
         [[profile.web.hook]]\nname = \"closed\"\non = [\"snapshot-start\"]\ncommand = \"@/site/index.html\"
         [[profile.web.hook]]\nname = \"silent\"\non = [\"snapshot-start\"]\ntimeout = \"300ms\"
         webhook.url = \"{0}/hang\"
         [[profile.web.hook]]\nname = \"wrong\"\non = [\"snapshot-start\"]\nwebhook.url = \"{0}/500/hunter2\"
         [[profile.web.hook]]\nname = \"nobody\"\non = [\"snapshot-start\"]\nslack.url = \"http://127.0.0.1:9/hunter2\"
         [[profile.web.hook]]\nname = \"refused\"\non = [\"snapshot-start\"]\nwecom.url = \"{0}/refuse/hunter2\"",
        server.url
    ));
    let ran = job.cli(&["run", "web", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((ran.code, &*outcomes(&report)[2]), (0, "backup=success"), "{report}");
    let failed: Vec<(&str, &str)> = report["hooks"]
        .as_array()
        .expect("hooks")
        .iter()
        .map(|hook| (hook["hook"].as_str().unwrap(), hook["error"].as_str().unwrap()))
        .collect();
    let says = [
        ("hangs", "ended after 0.3 s"),
        ("closed", "Permission denied"),
        ("silent", "timed out"),
        ("wrong", "500"),
        ("nobody", "refused"),
        ("refused", "no such robot"),
    ];
    assert_eq!(failed.len(), says.len(), "{failed:?}");
    for ((hook, error), (name, say)) in failed.iter().zip(says) {
        assert!(*hook == name && error.contains(say), "{hook}: {error}");
    }
    assert!(
        ran.stderr.len() < 100_000 && ran.stderr.contains("the rest of its output is left out"),
        "{}",
        ran.stderr.len()
    );
    let history = fs::read_to_string(job.world.path("state/profiles/web/history.jsonl")).expect("history");
    assert!(![&ran.stdout, &ran.stderr, &history].iter().any(|text| text.contains("hunter2")), "a secret is told");
}

#[test]
fn a_command_gets_the_event_as_json_and_as_variables() {
    let job = Job::new(
        "backup = { sources = \"@/site\" }
         [[profile.web.hook]]
         on = [\"snapshot-success\"]
         command = \"cat >@/event; env | grep ^SNAPFOLD_ >@/variables; echo told as well\"",
    );
    // In a place where nobody looks for it without being told.
    let own = job.world.path("own.toml");
    fs::rename(job.world.path(".config/snapfold/snapfold.toml"), &own).expect("mv");
    let ran = job.cli(&["--config", own.to_str().expect("UTF-8"), "run", "web", "--json", "-v"]);
    assert!(ran.stderr.contains("hook command: told as well"), "{}", ran.stderr);
    let event: serde_json::Value = serde_json::from_slice(&fs::read(job.world.path("event")).unwrap()).expect("JSON");
    let id = job.world.newest().expect("a snapshot");
    assert_eq!((&event["condition"], &event["snapshot_id"]), (&"snapshot-success".into(), &id.clone().into()));
    let variables = fs::read_to_string(job.world.path("variables")).unwrap();
    for line in ["SNAPFOLD_CONDITION=snapshot-success", "SNAPFOLD_PROFILE=web", &format!("SNAPFOLD_SNAPSHOT_ID={id}")] {
        assert!(variables.lines().any(|one| one == line), "{line}: {variables}");
    }
}

#[test]
fn what_a_hook_or_a_dump_calls_uses_the_same_file_of_profiles() {
    let program = env!("CARGO_BIN_EXE_snapfold");
    let job = Job::new(&format!(
        "backup = {{ stdin-from-command = \"{program} --profile web config show\", stdin-filename = \"all\" }}
         [[profile.web.hook]]\non = [\"snapshot-success\"]\non-error = \"fatal\"
         command = \"{program} tag --add seen latest\""
    ));
    let own = job.world.path("own.toml");
    fs::rename(job.world.path(".config/snapfold/snapfold.toml"), &own).expect("mv");
    job.cli(&["--config", own.to_str().expect("UTF-8"), "run", "web"]).good();
    let listed = job.cli(&["--config", own.to_str().expect("UTF-8"), "--profile", "web", "snapshots"]).good().stdout;
    assert!(listed.contains("seen"), "{listed}");
}

#[test]
fn services_get_what_they_understand() {
    let server = Server::start();
    let job = Job::new(&format!(
        "backup = {{ sources = \"@/site\" }}
         [[profile.web.hook]]\nping.url = \"{0}/ping\"
         [[profile.web.hook]]\non = [\"snapshot-success\"]
         slack = {{ url-file = \"@/slack\", text = \"{{profile}} is fine\" }}
         [[profile.web.hook]]\non = [\"snapshot-success\"]\ndiscord.url = \"{0}/discord\"
         [[profile.web.hook]]\non = [\"snapshot-success\"]\ngotify = {{ url = \"{0}/\", token = \"T0\" }}
         [[profile.web.hook]]\non = [\"snapshot-success\"]\nwecom.url = \"{0}/wecom\"
         [[profile.web.hook]]\non = [\"snapshot-success\"]\ndingtalk.url = \"{0}/dingtalk\"
         [[profile.web.hook]]\non = [\"snapshot-success\"]
         webhook = {{ url = \"{0}/own\", method = \"PUT\", headers.X-Token = \"T1\", body = \"<{{condition}}>\" }}
         [[profile.web.hook]]\non = [\"snapshot-success\"]\nmail = {{ to = \"root\", sendmail = \"@/sendmail\" }}",
        server.url
    ));
    job.world.write("slack", format!("{}/slack\n", server.url).as_bytes());
    let script = format!("#!/bin/sh\necho \"$@\" >{0}/mail\ncat >>{0}/mail\n", job.world.path("").display());
    let sendmail = job.world.write("sendmail", script.as_bytes());
    fs::set_permissions(sendmail, fs::Permissions::from_mode(0o755)).expect("chmod");
    let (code, report) = job.run(&[]);
    assert_eq!((code, report.get("hooks")), (0, None), "{report}");
    let asked = server.asked();
    let to = |path: &str| asked.iter().find(|asked| asked.path == path).unwrap_or_else(|| panic!("{path}: {asked:?}"));
    assert!(to("/ping/start").body.contains("run-start") && to("/ping").body.contains("run-success"));
    assert_eq!(to("/slack").json(), serde_json::json!({ "text": "web is fine" }));
    assert!(to("/discord").json()["content"].as_str().unwrap().contains("snapshot-success"));
    assert_eq!(
        (&to("/message").headers["x-gotify-key"][..], to("/message").json()["priority"].as_u64()),
        ("T0", Some(4))
    );
    for path in ["/wecom", "/dingtalk"] {
        assert!(to(path).json()["text"]["content"].as_str().unwrap().contains("snapfold web"), "{path}");
    }
    let own = to("/own");
    assert_eq!((&own.method[..], &own.headers["x-token"][..], &own.body[..]), ("PUT", "T1", "<snapshot-success>"));
    let mail = fs::read_to_string(job.world.path("mail")).expect("a mail");
    assert!(
        mail.starts_with("-t -oi\nTo: root\nSubject: snapfold web on ") && mail.contains("\"snapshot_id\""),
        "{mail}"
    );

    // A failure is pinged as one.
    fs::rename(job.world.path("site"), job.world.path("gone")).expect("mv");
    assert_eq!(job.run(&[]).0, 1);
    assert!(server.asked().iter().any(|asked| asked.path == "/ping/fail"));
}
