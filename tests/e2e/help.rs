//! What the program says about itself and what its pages say are the same.

use crate::harness::World;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn commands(world: &World) -> Vec<String> {
    let all = listed_commands(&world.ok(&["--help"]).stdout);
    assert!(!all.is_empty(), "a list of commands");
    all
}

fn listed_commands(help: &str) -> Vec<String> {
    let Some((_, after)) = help.split_once("Commands:") else { return Vec::new() };
    let lines = after.lines().skip(1).take_while(|line| !line.trim().is_empty());
    // A line that goes on from the one above is indented further.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

/// The options of a command, and of the commands below it.
fn options_of(world: &World, command: &str) -> BTreeSet<String> {
    let help = world.ok(&[command, "--help"]).stdout;
    let below = listed_commands(&help);
    let below = below.iter().map(|sub| options(&world.ok(&[command, sub.as_str(), "--help"]).stdout));
    below.fold(options(&help), |all, more| all.union(&more).cloned().collect())
}

fn options(help: &str) -> BTreeSet<String> {
    // Text is indented further.
    let lines = help.lines().filter(|line| (2..=6).contains(&(line.len() - line.trim_start().len())));
    let lines = lines.map(str::trim_start).filter(|line| line.starts_with('-'));
    let words =
        lines.flat_map(|line| line.split([' ', ',', '=', '[', '<']).take(4)).filter(|word| word.starts_with("--"));
    words.map(|word| word.trim_end_matches(['.', ']']).to_owned()).filter(|word| word.len() > 2).collect()
}

#[test]
fn every_command_has_a_page_that_names_each_of_its_options() {
    let world = World::new();
    let overview = page("snapfold.1");
    let common = options(&world.ok(&["--help"]).stdout);
    let mut missing = Vec::new();
    for option in &common {
        if !overview.contains(&mdoc(option)) {
            missing.push(format!("snapfold.1: {option}"));
        }
    }
    for command in commands(&world) {
        if !overview.contains(&format!("snapfold-{command} 1")) {
            missing.push(format!("snapfold.1 does not refer to snapfold-{command}(1)"));
        }
        let text = page(&format!("snapfold-{command}.1"));
        for option in options_of(&world, &command) {
            if !common.contains(&option) && !text.contains(&mdoc(&option)) {
                missing.push(format!("snapfold-{command}.1: {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in the pages:\n  {}", missing.join("\n  "));
}

/// An option as a page writes it: `.Fl -tag`.
fn mdoc(option: &str) -> String {
    format!("Fl {}", &option[1..])
}

#[test]
fn pages_name_no_option_that_is_not_there() {
    let world = World::new();
    let common = options(&world.ok(&["--help"]).stdout);
    let mut unknown = Vec::new();
    for command in commands(&world) {
        let known = options_of(&world, &command);
        let text = page(&format!("snapfold-{command}.1"));
        for line in text.lines().filter(|line| line.starts_with(".It Fl ")) {
            for word in line.split("Fl ").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
                let option = format!("-{word}");
                if option.starts_with("--") && !known.contains(&option) && !common.contains(&option) {
                    unknown.push(format!("snapfold-{command}.1: {option}"));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "in the pages alone:\n  {}", unknown.join("\n  "));
}

#[test]
fn version_and_help_go_to_standard_output_and_mistakes_to_standard_error() {
    let world = World::new();
    let ran = world.ok(&["--version"]);
    assert!(ran.stdout.starts_with("snapfold ") && ran.stderr.is_empty());
    let ran = world.run(&["no-such-command"]);
    assert!(ran.code != 0 && ran.stdout.is_empty() && ran.stderr.contains("no-such-command"));
    let ran = world.run(&["backup", "--no-such-option"]);
    assert!(ran.code != 0 && ran.stdout.is_empty() && ran.stderr.contains("--no-such-option"));
}
