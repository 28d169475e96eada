//! Holds the README to the program: every sampler, schedule, command and option is named there, and
//! every option that is named exists. Holds the table of what is compared with diffusers to the tests.

use std::collections::BTreeSet;

use clap::CommandFactory;
use easel::cli::Arguments;
use easel::request::{SAMPLERS, SCHEDULES};

const README: &str = include_str!("../README.md");

/// The README in one line, so that a name may be broken between two.
fn readme() -> String {
    README.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_sampler_and_schedule_is_listed() {
    let text = readme();
    let labels = SAMPLERS
        .iter()
        .map(|info| info.label)
        .chain(SCHEDULES.iter().map(|info| info.label));
    let missing: Vec<&str> = labels
        .filter(|label| {
            !text.contains(&format!(" {label},")) && !text.contains(&format!(" {label}."))
        })
        .collect();
    assert!(missing.is_empty(), "README.md, Models, lacks {missing:?}");
}

#[test]
fn the_options_of_generate_are_those_listed() {
    let command = Arguments::command();
    let generate = command.find_subcommand("generate").unwrap();
    let known: BTreeSet<String> = generate
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .map(|name| format!("--{name}"))
        .collect();
    let line = README
        .lines()
        .find(|line| line.starts_with("| `easel generate"))
        .unwrap();
    let listed: BTreeSet<String> = line
        .split('`')
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect();
    let unknown: Vec<_> = listed.difference(&known).collect();
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(
        unknown.is_empty() && missing.is_empty(),
        "README.md, Without a window: not options {unknown:?}, not listed {missing:?}"
    );
}

#[test]
fn every_command_is_listed() {
    for command in Arguments::command().get_subcommands() {
        let name = command.get_name();
        // `easel window` is what `easel` alone does.
        if name != "window" {
            assert!(
                README.contains(&format!("| `easel {name}")),
                "README.md lacks easel {name}"
            );
        }
    }
}

#[test]
fn the_tests_that_the_references_table_names_exist() {
    let table = include_str!("reference/README.md");
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('`').filter_map(|word| word.split_once("::")));
    let mut count = 0;
    for (file, test) in names {
        let path = format!("{}/tests/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(text.contains(&format!("fn {test}(")), "{file}::{test}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
