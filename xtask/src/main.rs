//! `cargo xtask`: Easel's chores. Sets the machine up, runs, tests and packages the program.
//!
//! Each command does all its own set-up and says what it does. Only the standard library, so that
//! a fresh clone begins within seconds; Python's `pip` brings libtorch (see [`libtorch`]).

mod dist;
mod libtorch;
mod project;
mod run;
mod shell;
mod starter;
mod system;
mod test;

use std::process::ExitCode;

use libtorch::Device;
use shell::Result;

const HELP: &str = "\
Easel's chores. Each command does all its own set-up and says what it does.

    cargo xtask run [-- ARGS]     build Easel and open its window; ARGS go to the program:
                                  cargo xtask run -- generate \"a penguin, 3d style\"
    cargo xtask test              every check and test there is
    cargo xtask setup             only bring libtorch and look for system libraries
    cargo xtask dist              make dist/Easel-<version>-<system>, which runs without Rust or Python
    cargo xtask starter FOLDER    take over a newer starter model and make its test references anew
    cargo xtask references        make the test references anew with diffusers (Python)
    cargo xtask oracle            name the Python that has diffusers, installed where it is missing

    --device cpu|cuda             (run, test, setup, dist) without or with NVIDIA's libraries;
                                  left out, they come where an NVIDIA driver is present

A libtorch of your own (2.13.0) is used where LIBTORCH names its folder or LIBTORCH_USE_PYTORCH=1 is set.
";

/// What was asked for.
#[derive(Debug, PartialEq)]
enum Chore {
    Help,
    Run(Vec<String>),
    Test,
    Setup,
    Dist,
    Starter(String),
    References,
    Oracle,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chore, device) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match perform(chore, device) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(chore: Chore, device: Option<Device>) -> Result<ExitCode> {
    match chore {
        Chore::Help => print!("{HELP}"),
        Chore::Run(arguments) => return run::run(&arguments, device),
        Chore::Test => test::test(device)?,
        Chore::Setup => {
            system::ensure(system::Need::Window)?;
            libtorch::ensure(device)?;
        }
        Chore::Dist => dist::dist(device)?,
        Chore::Starter(folder) => starter::take_over(folder.as_ref())?,
        Chore::References => starter::references()?,
        Chore::Oracle => println!("{}", starter::oracle()?.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the command line. Errors name the word that is not understood.
fn parse(arguments: &[String]) -> Result<(Chore, Option<Device>)> {
    let mut words = Vec::new();
    let mut device = None;
    let mut own = arguments.iter();
    let mut rest = Vec::new();
    while let Some(argument) = own.next() {
        match argument.as_str() {
            "--" => rest = own.by_ref().cloned().collect(),
            "--help" | "-h" => return Ok((Chore::Help, None)),
            "--device" => device = Some(parse_device(own.next().map_or("", String::as_str))?),
            other => match other.strip_prefix("--device=") {
                Some(name) => device = Some(parse_device(name)?),
                None => words.push(other),
            },
        }
    }
    let chore = match words.as_slice() {
        [] | ["help"] => Chore::Help,
        ["run"] => return Ok((Chore::Run(rest), device)),
        ["test"] => Chore::Test,
        ["setup"] => Chore::Setup,
        ["dist"] => Chore::Dist,
        ["starter", folder] => Chore::Starter((*folder).to_owned()),
        ["starter"] => return Err("starter: which folder?".to_owned()),
        ["references"] => Chore::References,
        ["oracle"] => Chore::Oracle,
        ["run", word, ..] => {
            return Err(format!(
                "run: words for Easel itself go behind `--`: -- {word}"
            ));
        }
        [word, ..] if word.starts_with('-') => {
            return Err(format!("There is no option {word:?}."));
        }
        _ => return Err(format!("There is no chore {:?} here.", words.join(" "))),
    };
    if rest.is_empty() {
        Ok((chore, device))
    } else {
        Err("Only `run` hands words behind `--` on.".to_owned())
    }
}

fn parse_device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        other => Err(format!("--device takes cpu or cuda, not {other:?}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Chore, Option<Device>)> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn words_behind_the_dashes_go_to_easel_untouched() {
        let (chore, device) =
            parsed("run --device cpu -- generate x --device cuda -- --help").unwrap();
        let expected = ["generate", "x", "--device", "cuda", "--", "--help"];
        assert_eq!(chore, Chore::Run(expected.map(str::to_owned).to_vec()));
        assert_eq!(device, Some(Device::Cpu));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, named) in [
            ("runn", "runn"),
            ("run generate", "-- generate"),
            ("setup --devise cpu", "--devise"),
            ("setup --device gpu", "gpu"),
            ("setup --device", "cpu or cuda"),
            ("test -- x", "run"),
            ("starter", "folder"),
            ("--frob", "--frob"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
