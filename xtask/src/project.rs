//! Where things lie in this repository, and how its own `cargo` is called.

use std::path::PathBuf;
use std::process::Command;

/// The repository's root: the folder above this crate.
pub fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}

/// The folder that builds go to: where this program itself was built.
pub fn target_folder() -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|path| path.ancestors().nth(2).map(PathBuf::from))
        .unwrap_or_else(|| root().join("target"))
}

/// `cargo` in the repository's root, as a person would call it there: without what the `cargo`
/// that started this program put into the environment, so that nothing is built twice.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        command.env_remove(name);
    }
    if crate::libtorch::own().is_none() {
        command.env_remove("LIBTORCH");
    }
    command
}
