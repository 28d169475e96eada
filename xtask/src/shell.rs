//! Running other programs and saying what goes on: the chores' common tools.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A chore fails with a message for the person: what failed and the way out.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// Says what is being done now.
pub fn say(message: &str) {
    eprintln!("xtask: {message}");
}

/// Runs a command with its output shown. Errors name the command.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed ({status})")),
        Err(error) => Err(format!("`{shown}` cannot be started: {error}")),
    }
}

/// The standard output of a command, its errors shown. Errors name the command.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{shown}` cannot be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`{shown}` failed ({})", output.status))
    }
}

/// The standard output of a command that may be missing or fail; nothing is shown.
pub fn try_output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Whether a program can be started from `PATH`.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// The command as it would be typed.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Wraps an I/O error with what was tried and where.
pub fn failed<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> String + 'a {
    move |error| format!("{doing} {} failed: {error}", path.display())
}

/// Removes a file or a folder with all in it; fine where there is none.
pub fn remove(path: &Path) -> Result<()> {
    let gone = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    gone.map_err(failed("Removing", path))
}

/// Every file under a folder, in order.
pub fn files_under(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(failed("Reading", &folder))?;
        for entry in entries {
            let path = entry.map_err(failed("Reading", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies a file and makes its folder.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(failed("Making", folder))?;
    }
    std::fs::copy(from, to).map_err(failed("Copying", from))?;
    Ok(())
}

/// Copies every file under a folder to the same place under another.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for file in files_under(from)? {
        let inside = file.strip_prefix(from).map_err(|error| error.to_string())?;
        copy(&file, &to.join(inside))?;
    }
    Ok(())
}

/// Bytes of all files under a folder, links not followed twice.
pub fn size_of(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for file in files_under(folder)? {
        let metadata = file.symlink_metadata().map_err(failed("Reading", &file))?;
        total += if metadata.is_file() {
            metadata.len()
        } else {
            0
        };
    }
    Ok(total)
}

/// Bytes as a person reads them: "526 MB", "2.7 GB".
pub fn readable(bytes: u64) -> String {
    match bytes / 1_000_000 {
        megabytes if megabytes >= 1000 => format!("{:.1} GB", bytes as f64 / 1e9),
        megabytes => format!("{megabytes} MB"),
    }
}
