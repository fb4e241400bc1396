//! Floor 6: the machine around snapfold. Profiles, the steps of a run and their history, hooks and notifications. Knows
//! nothing of how repositories are opened: whoever runs steps is told what to start.

pub mod child;
pub mod cron;
pub mod health;
pub mod history;
pub mod hooks;
mod http;
pub mod journal;
pub mod log_file;
pub mod logs;
pub mod notify;
pub mod profile;
pub mod run;
mod said;
pub mod schedule;
pub mod serve;
pub mod shell;
pub mod value;
