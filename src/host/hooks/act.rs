//! The actions of hooks: a command, a request in the form that a service wants, a mail. Knows nothing of conditions and
//! policies.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Address, Event, Gotify, Hook, Mail, Webhook};
use crate::base::environment::{in_home, variable};
use crate::host::http::{self, Request};
use crate::host::shell::{self, cut};
use crate::host::value::{List, Secret};

/// How long an action may take unless its hook says so.
const COMMAND: Duration = Duration::from_secs(600);
const REQUEST: Duration = Duration::from_secs(30);
/// Discord takes no longer message.
const LONGEST_MESSAGE: usize = 1900;

/// Does what the hook is for.
///
/// # Errors
/// One line that tells no secret.
pub fn act(hook: &Hook, event: &Event, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let patience = hook.timeout.map_or(REQUEST, |span| span.0);
    let text = |text: &Option<String>| event.fill(text.as_deref().unwrap_or("{message}"));
    let post = |address: &Address, body: Value| {
        let url = secret(&address.url, &address.url_file)?;
        answered(&http::send(&posted(url, &body), patience)?)
    };
    if let Some(command) = &hook.command {
        return run(shell::shell(command), hook, event, event_json(event), stop);
    }
    if let Some(mail) = &hook.mail {
        return send_mail(mail, hook, event, stop);
    }
    if let Some(address) = &hook.ping {
        let url = pinged(&secret(&address.url, &address.url_file)?, event);
        let body = text(&address.text).into_bytes();
        let headers = vec![("Content-Type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        return http::send(&Request { method: "POST".into(), url, headers, body }, patience).map(drop);
    }
    if let Some(webhook) = &hook.webhook {
        return http::send(&hooked(webhook, event)?, patience).map(drop);
    }
    if let Some(address) = &hook.slack {
        // Slack answers `ok`, which is no JSON.
        return post(address, json!({ "text": text(&address.text) }));
    }
    if let Some(address) = &hook.discord {
        return post(address, json!({ "content": cut(&text(&address.text), LONGEST_MESSAGE) }));
    }
    if let Some(gotify) = &hook.gotify {
        return http::send(&to_gotify(gotify, event, &text(&gotify.text))?, patience).map(drop);
    }
    if let Some(address) = hook.wecom.as_ref().or(hook.dingtalk.as_ref()) {
        return post(address, json!({ "msgtype": "text", "text": { "content": text(&address.text) } }));
    }
    Err("no action".to_owned())
}

fn event_json(event: &Event) -> Vec<u8> {
    // An event is texts and numbers, which have a JSON form.
    serde_json::to_vec(event).unwrap_or_default()
}

fn run(
    mut command: Command,
    hook: &Hook,
    event: &Event,
    input: Vec<u8>,
    stop: &dyn Fn() -> bool,
) -> Result<(), String> {
    let timeout = hook.timeout.map_or(COMMAND, |span| span.0);
    let title = format!("hook {}", hook.title());
    shell::run(command.envs(event.variables()), &title, input, timeout, stop).map_err(|why| why.to_string())
}

/// The value, or the first line of a file.
pub fn secret(value: &Option<Secret>, file: &Option<String>) -> Result<String, String> {
    if let Some(value) = value {
        return Ok(value.reveal().to_owned());
    }
    let path = in_home(file.as_deref().unwrap_or_default(), &variable);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { Err(format!("{}: empty", path.display())) } else { Ok(line.to_owned()) }
}

fn posted(url: String, body: &Value) -> Request {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Request { method: "POST".to_owned(), url, headers, body: body.to_string().into_bytes() }
}

/// Some services answer 200 and say in the answer that they refuse.
fn answered(body: &[u8]) -> Result<(), String> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer.get("errcode").and_then(Value::as_i64) {
        None | Some(0) => Ok(()),
        Some(code) => {
            let why = answer.get("errmsg").and_then(Value::as_str).unwrap_or_default();
            Err(format!("the server refused it: {code} {}", cut(why, 200)))
        }
    }
}

fn hooked(webhook: &Webhook, event: &Event) -> Result<Request, String> {
    let url = secret(&webhook.url, &webhook.url_file)?;
    let mut headers: Vec<(String, String)> =
        webhook.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
    let body = match &webhook.body {
        Some(text) => event.fill(text).into_bytes(),
        None => event_json(event),
    };
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    Ok(Request { method: webhook.method.clone().unwrap_or_else(|| "POST".to_owned()), url, headers, body })
}

fn to_gotify(gotify: &Gotify, event: &Event, text: &str) -> Result<Request, String> {
    let url = secret(&gotify.url, &None)?;
    let usual = if event.error.is_some() { 8 } else { 4 };
    let title = format!("{}: {}", event.profile, event.condition);
    let body = json!({ "title": title, "message": text, "priority": gotify.priority.unwrap_or(usual) });
    let mut request = posted(format!("{}/message", url.trim_end_matches('/')), &body);
    request.headers.push(("X-Gotify-Key".to_owned(), secret(&gotify.token, &gotify.token_file)?));
    Ok(request)
}

/// As Healthchecks has it: `/start`, `/fail`, `/log`, and the address itself for success.
fn pinged(url: &str, event: &Event) -> String {
    let condition = event.condition;
    let end = match () {
        () if condition.is_start() => "/start",
        () if condition.is_error() => "/fail",
        () if condition.is_success() => "",
        () => "/log",
    };
    ping_address(url, end)
}

/// The address with `end` after its path.
pub fn ping_address(url: &str, end: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, String::new()), |(path, query)| (path, format!("?{query}")));
    format!("{}{end}{query}", path.trim_end_matches('/'))
}

fn send_mail(mail: &Mail, hook: &Hook, event: &Event, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let mut command = Command::new(in_home(mail.sendmail.as_deref().unwrap_or("/usr/sbin/sendmail"), &variable));
    command.args(["-t", "-oi"]);
    run(command, hook, event, letter(mail, event).into_bytes(), stop)
}

fn letter(mail: &Mail, event: &Event) -> String {
    // A header is one line, whatever is filled into it.
    let line = |text: &str| text.replace(['\r', '\n'], " ");
    let List(to) = &mail.to;
    let from = mail.from.as_ref().map(|from| format!("From: {}\n", line(from))).unwrap_or_default();
    let subject = event.fill(mail.subject.as_deref().unwrap_or("snapfold {profile} on {host}: {condition}"));
    let details = serde_json::to_string_pretty(event).unwrap_or_default();
    let text = event.fill(mail.text.as_deref().unwrap_or("{message}"));
    format!(
        "{from}To: {}\nSubject: {}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n{text}\n\n{details}\n",
        line(&to.join(", ")),
        line(&subject),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Condition;
    use super::super::event::fixture::event;
    use super::*;

    #[test]
    fn pings_tell_beginnings_ends_and_failures_by_their_address() {
        let ping = |condition| pinged("https://hc/uuid", &event(condition, None));
        assert_eq!(ping(Condition::RunStart), "https://hc/uuid/start");
        assert_eq!(ping(Condition::RunSuccess), "https://hc/uuid");
        assert_eq!(ping(Condition::CheckError), "https://hc/uuid/fail");
        assert_eq!(ping(Condition::SnapshotWarning), "https://hc/uuid/log");
        assert_eq!(pinged("https://hc/a?k=1", &event(Condition::AnyError, None)), "https://hc/a/fail?k=1");
    }

    #[test]
    fn a_header_of_a_mail_stays_one_line() {
        let mail = Mail {
            to: List(vec!["root".into(), "me\nBcc: you".into()]),
            subject: Some("{error}".into()),
            ..Mail::default()
        };
        let letter = letter(&mail, &event(Condition::AnyError, Some("a\nBcc: all")));
        let head = letter.split("\n\n").next().unwrap();
        assert!(head.contains("To: root, me Bcc: you\n") && head.contains("Subject: a Bcc: all\n"), "{head}");
    }

    #[test]
    fn a_refusal_in_a_good_answer_is_a_failure() {
        assert!(answered(b"ok").is_ok() && answered(br#"{"errcode":0}"#).is_ok());
        assert!(answered(br#"{"errcode":93000,"errmsg":"invalid webhook url"}"#).unwrap_err().contains("93000"));
    }
}
