//! Tells the linker where the finished programs find libtorch: beside the binary in a packaged
//! folder (`lib/`), in a libtorch of the person's own, or in the repository's `libtorch/`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    let origin = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        Ok("windows") => return,
        _ => "$ORIGIN",
    };
    let repository = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let in_repository = repository.join("libtorch/lib");
    let mut folders = vec![format!("{origin}/lib")];
    match own_libtorch() {
        Some(own) if own != in_repository => folders.push(own.display().to_string()),
        _ => {}
    }
    // target/<profile>/easel, target/<profile>/deps/<test>
    folders.push(format!("{origin}/../../libtorch/lib"));
    folders.push(format!("{origin}/../../../libtorch/lib"));
    if !builds_inside(&repository) {
        folders.push(in_repository.display().to_string());
    }
    for folder in folders {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}

/// The library folder that torch-sys links with, in its order of preference.
fn own_libtorch() -> Option<PathBuf> {
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let inside = std::env::var_os("VIRTUAL_ENV").is_some();
        let python = if inside { "python" } else { "python3" };
        let print = "import torch, os; print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";
        let output = Command::new(python).args(["-c", print]).output().ok()?;
        let folder = String::from_utf8(output.stdout).ok()?;
        return Some(PathBuf::from(folder.trim()));
    }
    Some(PathBuf::from(std::env::var_os("LIBTORCH")?).join("lib"))
}

/// Whether the programs come to lie in the repository's own `target/`; a `CARGO_TARGET_DIR`
/// elsewhere cannot be bridged by a relative path.
fn builds_inside(repository: &Path) -> bool {
    let built = std::env::var_os("OUT_DIR").map(PathBuf::from);
    built.is_some_and(|folder| folder.starts_with(repository.join("target")))
}
