//! The built program, driven as people drive it: real repositories, real kernel mounts, real foreign programs.
//!
//! `SNAPFOLD_TEST=full` adds what takes long; `scripts/test` sets it. Without root, or without a tool, a test that
//! needs it says so and passes; as root nothing is left out.

mod bad_input;
mod bucket;
mod cluster;
mod concurrency;
mod copy;
mod damage;
mod full_disk;
mod harness;
mod health;
mod help;
mod hooks;
mod inside;
mod keys;
mod kill;
mod linux;
mod logs;
mod mount;
mod oddities;
mod outage;
mod overlay;
mod page;
mod parity;
mod profiles;
mod recipes;
mod repair;
mod requests;
mod restore;
mod retention;
mod round_trip;
mod run;
mod scale;
mod schedule;
mod serve;
mod services;
mod stage;
mod suites;
mod tls;
