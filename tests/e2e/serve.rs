//! `snapfold serve`: what it answers, what it refuses, and what it does when asked.

use crate::harness::http::Server;
use crate::harness::job::Job;
use crate::harness::serving::{Serving, TOKEN};
use crate::harness::{has_ended, leave_out, mounts, root, shell, tool, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// The value of a metric.
fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

const PLAIN: &str = "backup = { sources = \"@/site\" }\ncheck = {}\nhealth = { max-age = \"1d\" }";

#[test]
fn health_is_a_status_that_follows_what_becomes_of_backups() {
    let job = Job::new(PLAIN);
    let serving = Serving::start(&job, &[]);
    let answer = serving.get("/health");
    assert_eq!((answer.status, answer.json()["healthy"].as_bool()), (503, Some(false)), "{answer:?}");
    assert_eq!(job.run(&[]).0, 0);
    wait_until("health is well", || serving.get("/health").status == 200);
    let report = serving.get("/health").json();
    let own: Value = serde_json::from_str(&job.cli(&["health", "--json"]).good().stdout).expect("JSON");
    let checks = |report: &Value| -> Vec<Value> {
        let findings = report["profiles"][0]["findings"].as_array().expect("findings").iter();
        findings.map(|finding| finding["check"].clone()).collect()
    };
    assert_eq!((report["healthy"].as_bool(), checks(&report)), (Some(true), checks(&own)));
    fs::rename(job.world.path("repo"), job.world.path("away")).expect("mv");
    wait_until("health is not well", || serving.get("/health").status == 503);
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn metrics_are_such_as_prometheus_takes_and_tell_what_happened() {
    let job = Job::new(PLAIN);
    let (code, report) = job.run(&[]);
    assert_eq!(code, 0);
    let serving = Serving::start(&job, &[]);
    let answer = serving.get("/metrics");
    assert!(answer.status == 200 && answer.head.contains("text/plain; version=0.0.4"), "{answer:?}");
    let value = |name: &str| metric(&answer.body, name).unwrap_or_else(|| panic!("{name}: {}", answer.body));
    assert_eq!(value("snapfold_profile_healthy{profile=\"web\"}"), 1.0);
    assert_eq!(value("snapfold_health_ok{profile=\"web\",check=\"store\"}"), 1.0);
    assert!(value("snapfold_snapshot_age_seconds{profile=\"web\"}") < 86_400.0);
    assert_eq!(value("snapfold_snapshot_age_limit_seconds{profile=\"web\"}"), 86_400.0);
    assert_eq!(value("snapfold_run_last_outcome{profile=\"web\",outcome=\"success\"}"), 1.0);
    assert_eq!(value("snapfold_run_last_outcome{profile=\"web\",outcome=\"error\"}"), 0.0);
    assert_eq!(value("snapfold_step_last_outcome{profile=\"web\",step=\"check\",outcome=\"success\"}"), 1.0);
    let stored = report["steps"][2]["summary"]["data_added_packed"].as_f64().expect("a backup's summary");
    assert_eq!(value("snapfold_backup_last_stored_bytes{profile=\"web\"}"), stored);
    assert!(value("snapfold_backup_last_processed_bytes{profile=\"web\"}") >= 100_000.0);
    assert!(answer.body.contains("snapfold_free_bytes{profile=\"web\",path=\""));
    assert_eq!(value("snapfold_stages{state=\"resumable\"}"), 0.0);
    match tool("promtool") {
        Some(promtool) => {
            let page = job.world.write("page", answer.body.as_bytes());
            let file = fs::File::open(page).expect("the page");
            let output = Command::new(promtool).args(["check", "metrics"]).stdin(file).output().expect("promtool");
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
        }
        None => leave_out("no promtool here; scripts/test installs it"),
    }
}

#[test]
fn profiles_and_runs_are_told_to_anybody_and_done_for_the_token_alone() {
    let job = Job::new(PLAIN);
    let serving = Serving::with_token(&job);
    for headers in ["", "Authorization: Bearer wrong\r\n", &format!("Authorization: Basic {TOKEN}\r\n")] {
        let answer = serving.ask("POST", "/api/run/web", headers);
        assert!(answer.status == 401 && answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    }
    assert!(serving.get("/api/runs/web").json()["runs"].as_array().expect("a list").is_empty());
    let answer = serving.post("/api/run/web");
    let run_id = answer.json()["run_id"].as_str().map(str::to_owned);
    assert!(answer.status == 202 && run_id.is_some(), "{answer:?}");
    let runs = || serving.get("/api/runs/web").json()["runs"].clone();
    wait_until("the run is in the history", || runs()[0]["run_id"].as_str() == run_id.as_deref());
    assert_eq!((runs()[0]["outcome"].as_str(), job.world.snapshots().len()), (Some("success"), 1));
    // Its lock goes when it does, and its id ends with that of its process.
    let pid = run_id.as_deref().and_then(|id| id.rsplit_once('-')?.1.parse().ok()).expect("a process");
    wait_until("the run has ended", || has_ended(pid));
    assert_eq!(job.run(&[]).0, 0);
    assert_eq!(runs().as_array().map(Vec::len), Some(2));
    let one = serving.get("/api/runs/web?limit=1").json();
    assert_eq!((one["runs"].as_array().map(Vec::len), one["current"].is_null()), (Some(1), true));
    assert_ne!(one["runs"][0]["run_id"].as_str(), run_id.as_deref());
    assert_eq!(serving.get("/api/runs/web?limit=x").status, 400);
    let profiles = serving.get("/api/profiles").json();
    assert_eq!(profiles["profiles"][0]["profile"], "web");
    assert_eq!(profiles["profiles"][0]["last_run"]["run_id"], one["runs"][0]["run_id"]);

    let without = Serving::start(&job, &[]);
    let answer = without.post("/api/run/web");
    assert!(answer.status == 403 && answer.body.contains("--token-file"), "{answer:?}");
    assert_eq!(job.world.snapshots().len(), 2);
}

#[test]
fn a_run_under_way_is_told_and_not_begun_twice_and_outlives_the_server() {
    let waits = "backup = { stdin-from-command = \"touch @/here; until [ -e @/go ]; do sleep 0.02; done; echo data\" }";
    let job = Job::new(waits);
    let serving = Serving::with_token(&job);
    let run_id = serving.post("/api/run/web").json()["run_id"].clone();
    wait_until("the backup is under way", || job.world.path("here").exists());
    assert!(run_id.is_string());
    assert_eq!(serving.get("/api/runs/web").json()["current"]["run_id"], run_id);
    let answer = serving.post("/api/run/web");
    assert!(answer.status == 409 && answer.body.contains("is being run already"), "{answer:?}");
    let page = serving.get("/metrics").body;
    assert_eq!(metric(&page, "snapfold_run_under_way{profile=\"web\"}"), Some(1.0));
    assert_eq!(serving.end(), Some(0));
    // Another server finds it as it finds any other.
    let serving = Serving::start(&job, &[]);
    assert_eq!(serving.get("/api/runs/web").json()["current"]["run_id"], run_id);
    job.world.write("go", b"");
    let runs = || serving.get("/api/runs/web").json()["runs"].clone();
    wait_until("the run has ended", || runs()[0]["run_id"] == run_id);
    assert_eq!((runs()[0]["outcome"].as_str(), job.world.snapshots().len()), (Some("success"), 1));
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    let job = Job::new(PLAIN);
    let serving = Serving::with_token(&job);
    job.set("backup = { sauces = \"@/site\" }");
    let answer = serving.post("/api/run/web");
    assert!(answer.status == 500 && answer.body.contains("unknown key"), "{answer:?}");
}

#[test]
fn profiles_are_those_of_the_moment_and_a_mistake_in_them_is_not_well() {
    let job = Job::new(PLAIN);
    assert_eq!(job.run(&[]).0, 0);
    let serving = Serving::start(&job, &[]);
    wait_until("health is well", || serving.get("/health").status == 200);
    job.set(&format!("{PLAIN}\n[profile.mail]\nrepository = \"@/repo\"\npassword-file = \"@/password\""));
    wait_until("the new profile is told", || serving.get("/api/runs/mail").status == 200);
    job.set("backup = { sauces = \"@/site\" }");
    wait_until("the mistake is told", || serving.get("/health").body.contains("unknown key"));
    assert_eq!((serving.get("/health").status, serving.get("/api/runs/mail").status), (503, 200));
    job.set(PLAIN);
    wait_until("all is well again", || serving.get("/health").status == 200);
    assert_eq!(serving.get("/api/runs/mail").status, 404);
}

#[test]
fn who_asks_for_another_name_gets_nothing() {
    let job = Job::new(PLAIN);
    let serving = Serving::start(&job, &["--allow-host", "backup.example.org"]);
    let status = |host: &str| {
        let answer = serving.send(format!("GET /api/runs/web HTTP/1.1\r\n{host}\r\n").as_bytes());
        (answer.status, answer.body.contains("\"runs\""))
    };
    for own in ["localhost", "127.0.0.1:9674", "[::1]", "backup.example.org"] {
        assert_eq!(status(&format!("Host: {own}\r\n")), (200, true), "{own}");
    }
    for other in ["evil.example", "localhost.evil.example:9674", "example.org"] {
        assert_eq!(status(&format!("Host: {other}\r\n")), (421, false), "{other}");
    }
    assert_eq!([status(""), status("Host: localhost\r\nHost: evil.example\r\n")], [(400, false); 2]);
}

#[test]
fn a_snapshot_of_a_stage_is_made_when_asked_for() {
    if !root() {
        return;
    }
    let job = Job::new("");
    let next = job.world.mkdir("next");
    job.cli(&["--profile", "web", "stage", next.to_str().expect("UTF-8")]).good();
    shell(&next, "echo staged >file");
    let serving = Serving::with_token(&job);
    let stages: Value = serde_json::from_str(&job.cli(&["stages", "--json"]).good().stdout).expect("JSON");
    let id = stages[0]["id"].as_str().expect("a stage");
    let path = format!("/api/stage/{id}/snapshot");
    assert_eq!(serving.ask("POST", &path, "").status, 401);
    assert_eq!(metric(&serving.get("/metrics").body, "snapfold_stages{state=\"mounted\"}"), Some(1.0));
    let answer = serving.post(&path);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["snapshot_id"].as_str(), job.world.newest().as_deref());
    assert_eq!(job.cli(&["--profile", "web", "cat", "latest:/file"]).good().stdout, "staged\n");
    assert!(mounts().contains(&next));
    assert_eq!(serving.post("/api/stage/0123/snapshot").status, 404);
    job.cli(&["umount", next.to_str().expect("UTF-8")]).good();
}

#[test]
fn requests_that_make_no_sense_are_refused_and_harm_nobody() {
    let job = Job::new(PLAIN);
    let serving = Serving::with_token(&job);
    for path in ["/nothing", "/api", "/api/runs", "/api/runs/none", "/api/runs/web/more", "/health/"] {
        let answer = serving.get(path);
        assert!(answer.status == 404 && answer.json()["error"].is_string(), "{path}: {answer:?}");
    }
    for path in
        ["/../../etc/passwd", "/api/runs/../../etc/passwd", "/api/runs/..%2f..%2fetc%2fpasswd", "/api/runs/%2e%2e"]
    {
        let answer = serving.get(path);
        assert!(answer.status == 404 && !answer.body.contains("root:"), "{path}: {answer:?}");
    }
    assert_eq!(serving.post("/api/run/..%2fweb").status, 404);
    assert_eq!(serving.post("/api/stage/..%2f..%2fx/snapshot").status, 404);
    assert_eq!(serving.post("/api/stage/--spool/snapshot").status, 404);
    assert_eq!(serving.get("/api/runs/%ff").status, 400);
    assert_eq!(serving.get("/api/run/web").status, 405);
    assert_eq!(serving.ask("DELETE", "/api/runs/web", "").status, 405);
    assert_eq!(serving.ask("POST", "/health", "").status, 405);
    for (bytes, statuses) in [
        (b"nonsense\r\n\r\n".to_vec(), &[0, 400][..]),
        (b"GET /health HTTP/9.9\r\n\r\n".to_vec(), &[0, 400]),
        (b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), &[0, 400]),
        (b"POST /api/run/web HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec(), &[400]),
        ([&b"GET /"[..], &[b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat(), &[414, 431]),
        ([&b"GET /health HTTP/1.1\r\nX: "[..], &[b'a'; 100_000], b"\r\n\r\n"].concat(), &[431]),
        (b"POST /api/run/web HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n".to_vec(), &[413]),
    ] {
        let answer = serving.send(&bytes);
        assert!(
            statuses.contains(&answer.status),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(&bytes[..20.min(bytes.len())])
        );
    }
    assert!(serving.get("/api/runs/web").json()["runs"].as_array().is_some_and(Vec::is_empty));
    assert!(job.world.snapshots().is_empty());
}

#[test]
fn who_asks_slowly_keeps_nobody_else_out() {
    let job = Job::new(PLAIN);
    let serving = Serving::start(&job, &[]);
    // More than are served at a time, each with the half of a head.
    let half = |_| {
        let mut stream = TcpStream::connect(&serving.address).expect("a connection");
        stream.write_all(b"GET /health HT").expect("half a head");
        stream
    };
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..80).map(half).collect();
    assert_eq!(serving.get("/api/runs/web").status, 200);
    // It had to wait until the first of them were given up.
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    slow[0].set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let _reset = slow[0].read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn a_heartbeat_tells_how_the_profile_is() {
    let service = Server::start();
    let job =
        Job::new(&format!("{PLAIN}\nheartbeat = {{ url = \"{}/beat?key=hunter2\", every = \"50ms\" }}", service.url));
    let serving = Serving::start(&job, &[]);
    let told = |path: &str| service.asked().into_iter().rfind(|asked| asked.path == path);
    wait_until("it is told that all is not well", || told("/beat/fail?key=hunter2").is_some());
    let fail = told("/beat/fail?key=hunter2").expect("a heartbeat");
    assert!(fail.method == "POST" && fail.body.contains("snapshot: none of host"), "{fail:?}");
    assert_eq!(job.run(&[]).0, 0);
    wait_until("it is told that all is well", || told("/beat?key=hunter2").is_some());
    assert!(!job.cli(&["--profile", "web", "config", "show"]).good().stdout.contains("hunter2"));
    assert_eq!(serving.end(), Some(0));
    let before = service.asked().len();
    assert_eq!(job.run(&[]).0, 0);
    assert_eq!(service.asked().len(), before);
}

#[test]
fn what_cannot_be_served_is_refused_in_a_line() {
    let job = Job::new(PLAIN);
    let serving = Serving::start(&job, &[]);
    let taken = &*serving.address;
    job.cli(&["serve", "--listen", taken]).bad(1, &format!("{taken}: another program listens there"));
    job.cli(&["serve", "--listen", "192.0.2.1:1"]).bad(1, "192.0.2.1:1: ");
    job.cli(&["serve", "--token-file", "/nonexistent"]).bad(1, "/nonexistent: no such file");
    let token = job.world.write("short", b"short\n");
    job.cli(&["serve", "--token-file", token.to_str().expect("UTF-8")]).bad(1, "16 are the least");
    job.cli(&["--profile", "wep", "serve"]).bad(1, "no profile \"wep\"");
    job.set("heartbeat = { every = \"1m\" }");
    job.cli(&["config", "check"]).bad(1, "heartbeat: needs url or url-file");
    job.set("heartbeat = { url = \"http://x\", every = 0 }");
    job.cli(&["config", "check"]).bad(1, "heartbeat.every");
}
