//! When a profile is run without anybody asking: units of systemd, or a line of a crontab, as texts. Knows nothing of
//! where they are put, nor of the programs that take them.

use super::cron::Cron;
use super::profile::Schedule;
use super::value::Span;

/// What is started, and for whom.
pub struct Start<'a> {
    pub profile: &'a str,
    /// Absolute, both.
    pub program: &'a str,
    pub config: &'a str,
    /// Whether the system's own manager starts it, as root, and not a user's.
    pub system: bool,
}

/// A run is begun at a random moment of this time, so that machines do not all come at once.
const DELAY: Span = Span(std::time::Duration::from_secs(1800));
/// Every night, for machines without systemd.
const NIGHTLY: &str = "17 3 * * *";

/// When it is looked for what was missed.
const LOOK: &str = "29 * * * *";

pub fn unit_name(profile: &str, kind: &str) -> String {
    format!("snapfold-{profile}.{kind}")
}

/// The service. What a hook may need is not taken from it: programs that become another user, mounts, devices.
pub fn service(start: &Start<'_>) -> String {
    let hardening = "\
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
KeyringMode=private
";
    format!(
        "# Made by `snapfold schedule install`, and replaced by it.
[Unit]
Description=snapfold: run of profile {profile}
Documentation=man:snapfold-run(1)
{network}
[Service]
Type=oneshot
ExecStart={program} --config {config} run {profile}
# Done, with warnings.
SuccessExitStatus=3
# It lets go what its hooks froze before it ends.
KillMode=mixed
TimeoutStopSec=5min
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
UMask=0077
{hardening}",
        profile = start.profile,
        program = quoted(start.program),
        config = quoted(start.config),
        network = if start.system { "Wants=network-online.target\nAfter=network-online.target\n" } else { "" },
        // A user's manager could give these only together with what keeps fusermount3 from working.
        hardening = if start.system { hardening } else { "" },
    )
}

/// The timer. A run that was missed, as by a machine that slept, is made up for.
pub fn timer(profile: &str, schedule: &Schedule) -> String {
    let calendar = schedule.calendar.as_deref().unwrap_or("daily");
    let delay = schedule.randomized_delay.unwrap_or(DELAY).0.as_secs();
    format!(
        "# Made by `snapfold schedule install`, and replaced by it.
[Unit]
Description=snapfold: when profile {profile} is run
Documentation=man:snapfold-schedule(1)

[Timer]
OnCalendar={}
RandomizedDelaySec={delay}s
Persistent=true

[Install]
WantedBy=timers.target
",
        calendar.replace('%', "%%"),
    )
}

/// A word of a command line of systemd's.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// How a line is known as that of a profile.
fn mark(profile: &str) -> String {
    format!("# snapfold: profile {profile}")
}

/// When the schedule last meant the profile to run, by the clock of the machine; `None` where it names no times.
pub fn last_meant(schedule: &Schedule, now: &jiff::Zoned) -> Option<jiff::Zoned> {
    // A profile that was read has a line that cron takes.
    Cron::parse(schedule.cron.as_deref().unwrap_or(NIGHTLY)).ok().flatten()?.last(now)
}

/// The lines of a crontab, each with a comment before it: one for the times there are, and one that looks every hour
/// whether one of these was missed.
pub fn cron_lines(start: &Start<'_>, schedule: &Schedule) -> String {
    let when = schedule.cron.as_deref().unwrap_or(NIGHTLY);
    // For the shell, and then for cron, to which a percent sign is the end of the command.
    let word = |text: &str| format!("'{}'", text.replace('\'', r"'\''")).replace('%', r"\%");
    let (program, config) = (word(start.program), word(start.config));
    let (mark, profile) = (mark(start.profile), start.profile);
    let line =
        |when: &str, how: &str| format!("{mark}\n{when} {program} --config {config} --quiet run {profile}{how}\n");
    line(when, "") + &line(LOOK, " --if-due")
}

/// A crontab without the lines of a profile.
pub fn without(crontab: &str, profile: &str) -> String {
    let mark = mark(profile);
    let mut lines = crontab.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if line == mark {
            lines.next();
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// What is wrong with a schedule, as one line.
pub fn wrong(schedule: &Schedule) -> Option<(&'static str, String)> {
    let texts = [("calendar", &schedule.calendar), ("cron", &schedule.cron)];
    let given = texts.iter().filter_map(|(key, text)| Some((*key, text.as_deref()?)));
    for (key, text) in given {
        if text.trim().is_empty() || text.contains(char::is_control) {
            return Some((key, "not one line that says when".to_owned()));
        }
        if let Some(Err(what)) = (key == "cron").then(|| Cron::parse(text)) {
            return Some((key, what));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str) -> Start<'_> {
        Start { profile: "web", program, config: "/etc/snapfold/snapfold.toml", system: true }
    }

    #[test]
    fn odd_names_of_programs_survive_both_ways() {
        assert!(service(&start("/a b/50%/$x\"")).contains(r#"ExecStart="/a b/50%%/$$x\"" --config"#));
        let lines = cron_lines(&start("/it's/50%"), &Schedule::default());
        assert!(lines.contains(r"17 3 * * * '/it'\''s/50\%' --config"), "{lines}");
    }

    #[test]
    fn the_lines_of_a_profile_are_taken_out_of_a_crontab_and_no_others() {
        let others = "MAILTO=root\n# mine\n1 2 3 4 5 true\n";
        let both = format!("{others}{}", cron_lines(&start("/s"), &Schedule::default()));
        assert_eq!(without(&both, "web"), others);
        assert_eq!(without(&both, "we"), both);
    }

    #[test]
    fn a_schedule_is_one_line() {
        let with = |calendar: Option<&str>, cron: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            wrong(&Schedule { calendar: text(calendar), cron: text(cron), randomized_delay: None }).map(|(key, _)| key)
        };
        assert_eq!(with(Some("Mon..Fri 02:30"), Some("1 2 * * *")), None);
        assert_eq!(with(None, Some("@daily")), None);
        assert_eq!(with(Some("daily\nExecStart=x"), None), Some("calendar"));
        assert_eq!(with(None, Some("1 2 3")), Some("cron"));
    }
}
