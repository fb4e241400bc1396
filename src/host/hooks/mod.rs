//! Hooks: what is done on which condition, and what becomes of the run when that fails. Knows nothing of what the steps
//! of a run do.

mod act;
mod condition;
mod event;
mod fire;

pub use act::{ping_address, secret};
pub use condition::{Condition, OnError};
pub use event::Event;
pub use fire::{HookFailure, Verdict, fire, pause};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{List, Secret, Span};

/// One hook: conditions, exactly one action, and what to do when that fails.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hook {
    /// For logs and reports; the action's kind where it is not given.
    pub name: Option<String>,
    pub on: Vec<Condition>,
    pub on_error: OnError,
    /// How long the action may take.
    pub timeout: Option<Span>,
    /// How often it is tried again, for the policies that do so.
    pub retries: Option<u32>,
    /// How long to wait first, instead of what the policy's name says.
    pub retry_after: Option<Span>,
    pub command: Option<String>,
    pub ping: Option<Address>,
    pub webhook: Option<Webhook>,
    pub mail: Option<Mail>,
    pub slack: Option<Address>,
    pub discord: Option<Address>,
    pub gotify: Option<Gotify>,
    pub wecom: Option<Address>,
    pub dingtalk: Option<Address>,
}

/// Where a request goes. Addresses of such services are secrets, since whoever knows one can use it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Address {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// What the message says, with `{profile}` and the like in it.
    pub text: Option<String>,
}

/// A request of any form.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Webhook {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    /// `POST` unless told.
    pub method: Option<String>,
    pub headers: BTreeMap<String, Secret>,
    /// Instead of the event as JSON, with `{profile}` and the like in it.
    pub body: Option<String>,
}

/// A message to a Gotify server.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Gotify {
    /// Of the server, without a token.
    pub url: Option<Secret>,
    pub token: Option<Secret>,
    pub token_file: Option<String>,
    pub priority: Option<u8>,
    pub text: Option<String>,
}

/// A mail by the machine's own sendmail.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Mail {
    pub to: List,
    pub from: Option<String>,
    pub subject: Option<String>,
    pub text: Option<String>,
    /// Where that program is, `/usr/sbin/sendmail` unless told.
    pub sendmail: Option<String>,
}

impl Hook {
    /// The kinds of action that are given; a sound hook has one.
    pub fn kinds(&self) -> Vec<&'static str> {
        let given = [
            (self.command.is_some(), "command"),
            (self.ping.is_some(), "ping"),
            (self.webhook.is_some(), "webhook"),
            (self.mail.is_some(), "mail"),
            (self.slack.is_some(), "slack"),
            (self.discord.is_some(), "discord"),
            (self.gotify.is_some(), "gotify"),
            (self.wecom.is_some(), "wecom"),
            (self.dingtalk.is_some(), "dingtalk"),
        ];
        given.into_iter().filter_map(|(given, kind)| given.then_some(kind)).collect()
    }

    /// What logs and reports call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().or_else(|| self.kinds().first().copied()).unwrap_or("hook")
    }

    pub fn is_on(&self, condition: Condition) -> bool {
        // A ping without conditions tells of the run as a whole.
        match self.on.is_empty() {
            true => [Condition::RunStart, Condition::RunSuccess, Condition::RunError].contains(&condition),
            false => self.on.contains(&condition),
        }
    }
}
