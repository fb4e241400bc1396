//! Services of a manager such as systemd: they say when they are ready, and not before.

use crate::harness::job::Job;
use crate::harness::{PATIENCE, World, kill, leave_out, run, tool};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

/// Starts `snapfold ARGS...` as a manager would, looks at it once it says that it is ready, and ends it.
fn served(job: &Job, args: &[&str], look: impl Fn(&str)) {
    let place = job.world.path("notify");
    let _is_none = std::fs::remove_file(&place);
    let manager = UnixDatagram::bind(&place).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket with patience");
    let mut command = job.command(&[&["--profile", "web"], args].concat());
    command.env("NOTIFY_SOCKET", &place).stdout(Stdio::null());
    let mut service = command.spawn().expect("a service");
    let mut buf = [0; 4096];
    let mut heard = || {
        let length = manager.recv(&mut buf).expect("a message in time");
        String::from_utf8(buf[..length].to_vec()).expect("UTF-8")
    };
    let said = heard();
    let status = said.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{said}")).trim_end().to_owned();
    look(&status);
    kill(service.id() as i32, libc::SIGTERM);
    assert_eq!(heard(), "STOPPING=1\n", "{args:?}");
    service.wait().expect("an end");
}

#[test]
fn a_manager_is_told_when_a_service_is_ready_and_when_it_ends() {
    let job = Job::new("backup = { sources = \"@/site\" }");
    job.cli(&["--profile", "web", "backup"]).good();
    served(&job, &["serve", "--listen", "127.0.0.1:0"], |status| {
        let address = status.strip_prefix("listening at http://").expect(status);
        TcpStream::connect(address).expect("somebody who listens");
    });
    if !crate::harness::root() {
        return;
    }
    let point = job.world.mkdir("point");
    let place = point.to_str().expect("UTF-8");
    for (args, name) in [
        (&["mount", "--foreground"][..], "latest/index.html"),
        (&["stage", "--foreground", "--from", "latest"], "index.html"),
    ] {
        served(&job, &[args, &[place]].concat(), |status| {
            assert!(status.ends_with(&format!("mounted at {place}")), "{status}");
            assert_eq!(std::fs::read(point.join(name)).expect("what is mounted"), b"a\n");
        });
    }
}

#[test]
fn units_of_the_pages_are_such_as_systemd_takes() {
    let Some(analyze) = tool("systemd-analyze") else { return leave_out("no systemd-analyze here") };
    let world = World::on_disk();
    let pages = [include_str!("../../man/snapfold-serve.1"), include_str!("../../man/snapfold-mount.1")];
    for page in pages {
        let unit = page.split("\n[Service]\n").nth(1).and_then(|rest| rest.split("\n.Ed").next()).expect("a unit");
        assert!(unit.contains("Type=notify"), "{unit}");
        let unit = unit.replace("/usr/local/bin/snapfold", env!("CARGO_BIN_EXE_snapfold"));
        let path = world.write("example.service", format!("[Service]\n{unit}\n").as_bytes());
        let ran = run(Command::new(&analyze).args(["verify", "--man=no"]).arg(path)).good();
        assert!(!ran.stderr.contains("example"), "{}", ran.stderr);
    }
}
