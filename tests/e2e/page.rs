//! The page that `snapfold serve` shows, in a real browser and without one: what it shows to whom, what can be taken
//! along, and that it needs neither a wide window nor a mouse.

use crate::harness::browser::Browser;
use crate::harness::compare::same_by_rsync;
use crate::harness::job::Job;
use crate::harness::serving::{Serving, TOKEN};
use crate::harness::{INIT, World, run, shell, wait_until};
use crate::oddities;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLAIN: &str = "backup = { sources = \"@/site\" }\ncheck = {}\nhealth = { max-age = \"1d\" }";

/// A profile that was run, and its server.
fn served() -> (Job, Serving) {
    let job = Job::new(PLAIN);
    assert_eq!(job.run(&[]).0, 0);
    let serving = Serving::with_token(&job);
    (job, serving)
}

/// Shows the token as a browser's form does, and returns the cookie.
fn cookie(serving: &Serving) -> String {
    let form = format!("token={TOKEN}");
    let request = format!("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{form}", form.len());
    let answer = serving.send(request.as_bytes());
    assert_eq!(answer.status, 303, "{answer:?}");
    let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(line.contains("httponly") && line.contains("samesite=strict"), "{line}");
    line.split(';').next().expect("a pair").to_owned()
}

/// The address of what was backed up in the newest snapshot.
fn site(job: &Job, word: &str) -> String {
    format!("/{word}/web/{}", job.world.newest().expect("a snapshot"))
}

/// Takes something along, as far as the server gives it.
fn take(serving: &Serving, cookie: &str, path: &str, to: &Path) -> i32 {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--path-as-is", "-H", &format!("Cookie: {cookie}"), "-o"]).arg(to);
    run(curl.arg(format!("http://{}{path}", serving.address))).code
}

#[test]
fn only_the_token_shows_what_is_in_snapshots_and_begins_runs() {
    let (job, serving) = served();
    let (dir, file, tar) = (site(&job, "browse"), site(&job, "file") + "/index.html", site(&job, "archive"));
    let id = job.world.newest().expect("a snapshot");
    let overview = serving.get("/");
    assert!(overview.status == 200 && overview.body.contains("/profile/web"), "{overview:?}");
    assert!(overview.head.contains("content-security-policy: default-src 'none'"), "{}", overview.head);
    let profile = serving.get("/profile/web");
    assert!(profile.status == 200 && !profile.body.contains(&id), "{profile:?}");
    for path in [&dir, &file, &tar] {
        let answer = serving.get(path);
        assert!(answer.status == 401 && !answer.body.contains("index.html"), "{path}: {answer:?}");
        let guessed = serving.ask("GET", path, "Cookie: snapfold=0123456789abcdef\r\n");
        assert_eq!(guessed.status, 401, "{path}");
    }
    let guess = serving.send(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\ntoken=wrong");
    assert!(guess.status == 401 && !guess.head.contains("set-cookie"), "{guess:?}");
    let cookie = cookie(&serving);
    let known = format!("Cookie: {cookie}\r\n");
    assert!(serving.ask("GET", &dir, &known).body.contains("index.html"));
    assert!(serving.ask("GET", "/profile/web", &known).body.contains(&id));
    // Another site's form, which a browser sends without our cookie, and would say so.
    let foreign = serving.ask("POST", "/profile/web/run", &format!("{known}Sec-Fetch-Site: cross-site\r\n"));
    assert_eq!((foreign.status, serving.ask("POST", "/profile/web/run", "").status), (403, 401));
    assert_eq!(job.world.snapshots().len(), 1);
    assert_eq!(serving.ask("POST", "/logout", &known).status, 303);
    assert_eq!(serving.ask("GET", &dir, &known).status, 401);

    let without = Serving::start(&job, &[]);
    assert_eq!(without.get(&dir).status, 403);
    let open = Serving::start(&job, &["--browse-without-token"]);
    assert!(open.get(&dir).body.contains("index.html"));
    assert_eq!(open.ask("POST", "/profile/web/run", "").status, 401);
    job.cli(&["serve", "--listen", "0.0.0.0:0", "--browse-without-token"]).bad(1, "loopback");
}

#[test]
fn files_and_directories_come_out_as_they_went_in_whatever_their_names() {
    let job = Job::new(PLAIN);
    let dir = job.world.mkdir("site/odd");
    let odd: [&[u8]; 5] = [b"a b%2f<i>\"'&?#", b"\xff\xfe", "\u{e9}\u{202e}x".as_bytes(), b"new\nline", b"-x"];
    for name in odd {
        fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), name).expect("a file");
    }
    shell(
        &dir,
        "echo a >plain; ln plain again; ln -s plain soft; truncate -s 3M holes; mkdir -p deep/er; touch deep/er/x",
    );
    assert_eq!(job.run(&[]).0, 0);
    let serving = Serving::with_token(&job);
    let cookie = cookie(&serving);
    let listing = serving.ask("GET", &(site(&job, "browse") + "/odd"), &format!("Cookie: {cookie}\r\n")).body;
    assert!(listing.contains("a b%2f&lt;i&gt;&quot;") && !listing.contains("<i>"), "{listing}");
    let links = listing.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let files: Vec<&str> = links.filter(|link| link.starts_with("/file/")).collect();
    let taken = job.world.path("taken");
    let contents: Vec<Vec<u8>> = files
        .iter()
        .map(|link| {
            assert_eq!(take(&serving, &cookie, link, &taken), 0, "{link}");
            fs::read(&taken).expect("a file")
        })
        .collect();
    for name in odd {
        assert!(contents.iter().any(|bytes| bytes == name), "{}", name.escape_ascii());
    }
    assert!(contents.iter().any(|bytes| bytes.len() == 3 << 20));
    // The directory as an archive, by the page and by the command.
    let tar = job.world.path("page.tar");
    assert_eq!(take(&serving, &cookie, &(site(&job, "archive") + "/odd"), &tar), 0);
    let selector = "latest:/odd";
    let command = job.world.path("command.tar");
    let printed = job.command(&["--profile", "web", "cat", "--archive", "tar", selector]).output().expect("snapfold");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    fs::write(&command, printed.stdout).expect("an archive");
    for archive in [&tar, &command] {
        let target = job.world.mkdir(&format!("{}.d", archive.file_name().expect("a name").to_string_lossy()));
        run(Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(&target)).good();
        let rsync = "rsync -naHi --checksum --delete";
        let differences = shell(&target, &format!("{rsync} '{}/' odd/", dir.display()));
        assert_eq!(differences, "", "{}", archive.display());
    }
}

#[test]
fn an_archive_keeps_every_oddity_but_sockets() {
    let world = World::new();
    world.ok(INIT);
    let source = world.mkdir("source");
    oddities::make(&source);
    let removed = "rm kinds/socket; touch -d '2001-02-03 04:05:06.7' kinds .";
    shell(&source, removed);
    world.backup(&source);
    let printed = world.command(&["cat", "--archive", "tar", "latest"]).output().expect("snapfold");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    world.write("a.tar", &printed.stdout);
    shell(&world.mkdir("target"), "tar --xattrs --xattrs-include='*' --numeric-owner -xpf ../a.tar");
    same_by_rsync(&source, &world.path("target"));
}

#[test]
fn a_directory_of_many_entries_is_shown_in_pages_and_a_place_that_is_none_is_not_there() {
    let job = Job::new(PLAIN);
    shell(&job.world.path("site"), "mkdir many; cd many; touch $(seq -f 'entry-%05g' 0 450)");
    assert_eq!(job.run(&[]).0, 0);
    let serving = Serving::start(&job, &["--browse-without-token"]);
    let many = site(&job, "browse") + "/many";
    let (mut at, mut seen) = (many.clone(), Vec::new());
    loop {
        let page = serving.get(&at).body;
        seen.extend(page.split("download>entry-").skip(1).map(|rest| rest[..5].to_owned()));
        match page.split("href=\"").find(|rest| rest.contains("rel=\"next\"") && rest.starts_with(&many)) {
            Some(rest) => at = rest.split('"').next().expect("an address").to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..=450).map(|n| format!("{n:05}")).collect::<Vec<_>>());
    assert_eq!(serving.get(&format!("{many}?from=99999999999")).status, 200);
    assert_eq!(serving.get(&format!("{many}?from=x")).status, 400);
    let id = job.world.newest().expect("a snapshot");
    for path in [
        "/browse/web/latest".to_owned(),
        format!("/browse/none/{id}"),
        format!("/browse/web/{id}/../../../etc"),
        format!("/browse/web/{id}/%2e%2e/etc"),
        format!("/file/web/{id}/..%2f..%2fetc%2fpasswd"),
        format!("/archive/web/{id}/%00"),
        format!("{many}/entry-00000/x"),
        "/run/web/..%2f..%2flock".to_owned(),
    ] {
        let answer = serving.get(&path);
        assert!(answer.status == 404 && !answer.body.contains("root:"), "{path}: {answer:?}");
    }
    assert_eq!(serving.get(&(site(&job, "browse") + "/index.html")).status, 400);
    assert_eq!(serving.get(&(site(&job, "file") + "/many")).status, 400);
}

/// Where pictures of the page are kept, if anybody wants them: `scripts/screenshots` does.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("SNAPFOLD_SCREENSHOTS").map(PathBuf::from)
}

#[track_caller]
fn is_sound(browser: &Browser, name: &str) {
    assert_eq!(browser.overhang(), 0, "{name} fits into the window's width");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    if let Some(dir) = pictures() {
        fs::write(dir.join(format!("{name}.png")), browser.picture()).expect("a picture");
    }
}

fn sign_in(browser: &Browser, serving: &Serving) {
    browser.go(&format!("http://{}/login", serving.address));
    browser.click("#token");
    browser.press(&format!("{TOKEN}\u{e007}"));
    browser.wait_for("Sign out");
}

#[test]
fn the_page_fits_a_desk_and_a_phone_by_day_and_by_night() {
    let job = Job::new(PLAIN);
    shell(
        &job.world.path("site"),
        "mkdir -p uploads/2026 templates
         for n in $(seq 30); do head -c $((n * 3000)) /dev/urandom >uploads/2026/picture-$n.jpg; done
         touch \"a-name-that-is-$(printf 'long%.0s' $(seq 30)).txt\"",
    );
    // Half a year of snapshots.
    for day in 0..40 {
        let time = format!("2026-{:02}-{:02}T03:00:00", 6 + day / 8, 1 + day % 8 * 3);
        shell(
            &job.world.path("site"),
            &format!("head -c {} /dev/urandom >uploads/day-{day}", 20_000 + day * 997 % 15_000),
        );
        job.cli(&["--profile", "web", "backup", "--time", &time]).good();
    }
    assert_eq!(job.run(&[]).0, 0);
    let mail = "[profile.mail]\nrepository = \"@/nowhere\"\npassword-file = \"@/password\"";
    job.set(&format!("{PLAIN}\n{mail}\nschedule = {{ calendar = \"daily\" }}"));
    let serving = Serving::with_token(&job);
    let downloads = job.world.mkdir("downloads");
    for (name, size, dark) in [("desk", (1200, 900), false), ("phone", (360, 740), false), ("night", (1200, 900), true)]
    {
        let Some(browser) = Browser::start(size, dark, &downloads) else { return };
        let go = |path: &str| browser.go(&format!("http://{}{path}", serving.address));
        go("/");
        browser.wait_for("mail");
        is_sound(&browser, &format!("{name}-overview"));
        go("/login");
        is_sound(&browser, &format!("{name}-login"));
        sign_in(&browser, &serving);
        go("/profile/web");
        browser.wait_for("Snapshots on");
        is_sound(&browser, &format!("{name}-profile"));
        browser.script("document.querySelectorAll('details').forEach(one => one.open = true)");
        assert_eq!(browser.overhang(), 0, "tables that are unfolded fit as well");
        browser.click("td a[href^='/run/']");
        browser.wait_for("the run: success");
        is_sound(&browser, &format!("{name}-run"));
        go(&site(&job, "browse"));
        browser.wait_for("index.html");
        is_sound(&browser, &format!("{name}-browse"));
    }
}

#[test]
fn a_browser_takes_along_what_is_clicked() {
    let (job, serving) = served();
    let downloads = job.world.mkdir("downloads");
    let Some(browser) = Browser::start((1000, 800), false, &downloads) else { return };
    sign_in(&browser, &serving);
    browser.go(&format!("http://{}{}", serving.address, site(&job, "browse")));
    browser.click("a[href$='/uploads']");
    browser.wait_for("one");
    browser.click("a[href$='/one']");
    let taken = downloads.join("one");
    let source = fs::read(job.world.path("site/uploads/one")).expect("the source");
    wait_until("the file is there", || fs::read(&taken).is_ok_and(|bytes| bytes == source));
    browser.click("a[href^='/archive/']");
    let tar = downloads.join("uploads.tar");
    wait_until("the archive is there", || tar.exists());
    let target = job.world.mkdir("target");
    run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&target)).good();
    assert_eq!(fs::read(target.join("uploads/one")).expect("the file in the archive"), source);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_run_under_way_is_seen_to_move() {
    let waits = "backup = { stdin-from-command = \"touch @/here; until [ -e @/go ]; do sleep 0.02; done; echo data\" }";
    let job = Job::new(waits);
    let serving = Serving::with_token(&job);
    let Some(browser) = Browser::start((1000, 800), false, &job.world.mkdir("downloads")) else { return };
    sign_in(&browser, &serving);
    browser.click("a[href='/profile/web']");
    browser.click("form[action$='/run'] button");
    browser.wait_for("Running");
    browser.wait_for("under way backup");
    let clock = || browser.script("return document.querySelector('[data-live] h2').innerText");
    let before = clock();
    wait_until("the clock goes on", || clock() != before);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    job.world.write("go", b"");
    wait_until("the run has ended", || !browser.text().contains("Running"));
    browser.wait_for("success");
    assert_eq!((browser.address(), job.world.snapshots().len()), ("/profile/web".to_owned(), 1));
}

#[test]
fn everything_is_reached_by_keyboard_alone() {
    const ENTER: &str = "\u{e007}";
    let (job, serving) = served();
    let Some(browser) = Browser::start((1000, 800), false, &job.world.mkdir("downloads")) else { return };
    browser.go(&format!("http://{}/", serving.address));
    browser.tab_to("Skip to content");
    browser.tab_to("Sign in");
    browser.press(ENTER);
    browser.wait_for("Token");
    // The field has the focus already.
    browser.press(&format!("{TOKEN}{ENTER}"));
    browser.wait_for("Sign out");
    browser.tab_to("web");
    browser.press(ENTER);
    browser.wait_for("Run now");
    browser.tab_to("Skip to content");
    browser.press(ENTER);
    browser.tab_to("Run now");
    browser.tab_to("As a table");
    browser.tab_to(&job.world.newest().expect("a snapshot")[..8]);
    browser.press(ENTER);
    browser.wait_for("index.html");
    browser.tab_to("Download as tar");
    browser.tab_to("index.html");
    browser.tab_to("uploads/");
    browser.press(ENTER);
    browser.wait_for("1 entry,");
    browser.tab_to("one");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
