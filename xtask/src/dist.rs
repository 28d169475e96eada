//! `cargo xtask dist`: a folder that runs on a machine without Rust or Python.
//!
//! ```text
//! dist/Easel-<version>-<os>-<arch>/
//!   easel                 finds the rest beside itself: its rpath is $ORIGIN/lib
//!   lib/                  libtorch for the processor
//!   cuda/lib/             NVIDIA's libraries, with `--device cuda` only
//!   weights/              the starter model and the upscaler
//!   licences/             of everything that ships
//!   easel.desktop, easel.svg, easel.png, install.sh, README.txt
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::libtorch::{self, Device};
use crate::project;
use crate::run;
use crate::shell::{self, Result, failed, say};
use crate::system::{self, Need};

/// Libraries that every desktop Linux has; all else comes along. What draws and handles windows
/// (OpenGL, X11, Wayland, fontconfig) is opened at run time, from the system.
const OF_THE_SYSTEM: [&str; 10] = [
    "linux-vdso.so",
    "ld-linux",
    "libc.so",
    "libm.so",
    "libdl.so",
    "librt.so",
    "libpthread.so",
    "libutil.so",
    "libgcc_s.so",
    "libstdc++.so",
];

const INSTALL: &str = include_str!("../../assets/install.sh");

/// Makes the folder and says where it is and how big.
pub fn dist(device: Option<Device>) -> Result<()> {
    if cfg!(not(target_os = "linux")) {
        return Err("dist is made on Linux only.".to_owned());
    }
    system::ensure(Need::Build)?;
    libtorch::ensure(device)?;
    run::build()?;
    let root = project::root();
    let name = format!(
        "Easel-{}-{}-{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let fresh = root.join("dist").join(format!("{name}.partial"));
    shell::remove(&fresh)?;
    let program = place_program(&fresh)?;
    if device == Some(Device::Cuda) {
        place_cuda(&fresh)?;
    }
    shell::copy_folder(&root.join("weights"), &fresh.join("weights"))?;
    place_licences(&fresh)?;
    place_desktop_files(&fresh, &program)?;
    check_libraries(&program, &fresh)?;

    let place = root.join("dist").join(&name);
    shell::remove(&place)?;
    std::fs::rename(&fresh, &place).map_err(failed("Renaming", &fresh))?;
    let size = |part: &str| Ok::<_, String>(shell::readable(shell::size_of(&place.join(part))?));
    say(&format!(
        "dist/{name} is ready: {} (lib {}, weights {}, licences {}).",
        size("")?,
        size("lib")?,
        size("weights")?,
        size("licences")?
    ));
    Ok(())
}

/// The stripped program and the libraries it is linked with. Returns the program's path.
fn place_program(to: &Path) -> Result<PathBuf> {
    let built = project::target_folder().join("release/easel");
    let program = to.join("easel");
    shell::copy(&built, &program)?;
    shell::check(Command::new("strip").arg("--strip-all").arg(&program))?;
    for (name, found) in linked_libraries(&built)? {
        if is_of_the_system(&name) {
            continue;
        }
        let library = to.join("lib").join(&name);
        shell::copy(
            &found.ok_or_else(|| format!("{name} is not found"))?,
            &library,
        )?;
        shell::check(Command::new("strip").arg("--strip-unneeded").arg(&library))?;
    }
    Ok(program)
}

/// NVIDIA's part, and the links by which libtorch finds what it opens later.
fn place_cuda(to: &Path) -> Result<()> {
    let cuda = libtorch::folder().join("cuda");
    if !cuda.is_dir() {
        return Err("A libtorch of your own is not packaged with CUDA; unset LIBTORCH.".to_owned());
    }
    shell::copy_folder(&cuda.join("lib"), &to.join("cuda/lib"))?;
    libtorch::link_cuda(&to.join("lib"))
}

/// The libraries that the loader finds for a program: name, and where.
fn linked_libraries(program: &Path) -> Result<Vec<(String, Option<PathBuf>)>> {
    let mut ldd = Command::new("ldd");
    let text = shell::output(ldd.arg(program).env_remove("LD_LIBRARY_PATH"))?;
    Ok(text.lines().filter_map(parse_ldd).collect())
}

/// `libc10.so => /a/libc10.so (0x7f…)` or `/lib64/ld-linux.so.2 (0x7f…)` or `linux-vdso.so.1 (0x7f…)`.
fn parse_ldd(line: &str) -> Option<(String, Option<PathBuf>)> {
    let line = line.trim().split(" (0x").next()?;
    let (name, found) = line.split_once(" => ").unwrap_or((line, line));
    let name = name.rsplit('/').next()?.to_owned();
    let path = PathBuf::from(found);
    Some((name, path.is_absolute().then_some(path)))
}

fn is_of_the_system(name: &str) -> bool {
    OF_THE_SYSTEM.iter().any(|known| name.starts_with(known))
}

/// Fails where the packaged program would load something that does not come along.
fn check_libraries(program: &Path, folder: &Path) -> Result<()> {
    for (name, found) in linked_libraries(program)? {
        let comes_along = found
            .as_deref()
            .is_some_and(|path| path.starts_with(folder));
        if !comes_along && !is_of_the_system(&name) {
            return Err(format!(
                "The packaged program needs {name}, found at {found:?}, which does not come along."
            ));
        }
    }
    Ok(())
}

/// The licences of Easel, of libtorch and what it contains, and of every crate.
fn place_licences(to: &Path) -> Result<()> {
    let root = project::root();
    let licences = to.join("licences");
    for name in ["LICENSE-MIT", "LICENSE-APACHE", "NOTICES.md"] {
        shell::copy(&root.join(name), &licences.join(name))?;
    }
    for part in ["licences", "cuda/licences"] {
        let from = libtorch::folder().join(part);
        if from.is_dir() {
            shell::copy_folder(&from, &licences.join("libtorch"))?;
        }
    }
    for file in shell::files_under(&root.join("assets"))? {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_licence(&name) {
            shell::copy(&file, &licences.join("assets").join(name))?;
        }
    }
    let text = crate_licences()?;
    write(&licences.join("crates.txt"), &text)
}

/// The text of every crate's licence, each text once with the crates that it is for.
fn crate_licences() -> Result<String> {
    let mut tree = project::cargo(&["tree", "--package", "easel", "--edges", "normal"]);
    tree.args(["--prefix", "none", "--format", "{p}|{l}|{r}"]);
    let mut crates: Vec<(String, String)> = Vec::new();
    for line in shell::output(&mut tree)?.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [package, licence, repository] = fields.as_slice() else {
            continue;
        };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let folder = format!("{name}-{}", version.trim_start_matches('v'));
        let repository = repository.trim_end_matches(" (*)");
        crates.push((folder.clone(), format!("{folder}: {licence}  {repository}")));
    }
    crates.sort();
    crates.dedup_by(|a, b| a.0 == b.0);
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (folder, _) in &crates {
        for text in licence_texts(folder)? {
            texts.entry(text).or_default().push(folder.clone());
        }
    }
    let mut all = "The Rust crates that Easel is built from.\n\n".to_owned();
    for (_, line) in &crates {
        all += &format!("{line}\n");
    }
    for (text, folders) in texts {
        let rule = "=".repeat(80);
        all += &format!("\n{rule}\n{}\n{rule}\n\n{text}\n", folders.join(", "));
    }
    Ok(all)
}

/// The licence files in a crate's source, as `cargo` has it unpacked.
fn licence_texts(folder: &str) -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = home.unwrap_or_default().join("registry/src");
    let registries = std::fs::read_dir(&sources).into_iter().flatten().flatten();
    let mut texts = Vec::new();
    for registry in registries {
        let source = registry.path().join(folder);
        if !source.is_dir() {
            continue;
        }
        for file in shell::files_under(&source)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            // Crates that carry fonts keep each one's licence as a text beside it.
            let is_fonts = name.ends_with(".txt")
                && file
                    .parent()
                    .is_some_and(|folder| folder.ends_with("fonts"));
            if is_licence(&name) || is_fonts {
                let bytes = std::fs::read(&file).map_err(failed("Reading", &file))?;
                texts.push(String::from_utf8_lossy(&bytes).trim().replace("\r\n", "\n"));
            }
        }
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}

/// Whether a file is named as licences are; source code and the like is not.
fn is_licence(name: &str) -> bool {
    let lower = name.to_lowercase();
    let is_named = [
        "license",
        "licence",
        "copying",
        "notice",
        "unlicense",
        "ofl",
        "ufl",
    ]
    .iter()
    .any(|word| lower.starts_with(word));
    let kind = Path::new(&lower)
        .extension()
        .and_then(|kind| kind.to_str())
        .map(str::to_owned);
    is_named
        && !matches!(
            kind.as_deref(),
            Some("rs" | "html" | "json" | "toml" | "py" | "hbs")
        )
}

/// The menu entry, its icons, and how to install them.
fn place_desktop_files(to: &Path, program: &Path) -> Result<()> {
    let assets = project::root().join("assets");
    for name in ["easel.desktop", "easel.svg", "easel.png"] {
        shell::copy(&assets.join(name), &to.join(name))?;
    }
    let install = to.join("install.sh");
    write(&install, INSTALL)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&install, mode).map_err(failed("Marking", &install))?;
    }
    let bytes = std::fs::read(program).map_err(failed("Reading", program))?;
    let glibc = newest(&bytes, "GLIBC_2.").unwrap_or(28).max(28);
    write(&to.join("README.txt"), &readme(glibc))
}

fn readme(glibc: u32) -> String {
    format!(
        "Easel {}: draws pictures from words on your own machine.\n\n\
         Start it:             ./easel\n\
         Without a window:     ./easel generate \"a penguin, 3d style\"\n\
         Put it in the menu:   ./install.sh          (./install.sh --remove takes it out again)\n\n\
         Runs where this folder lies; nothing else is needed but a Linux desktop with glibc 2.{glibc} or newer\n\
         and OpenGL. Licences of everything in here: licences/.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The highest minor version behind a symbol version's prefix in a program's bytes.
fn newest(bytes: &[u8], prefix: &str) -> Option<u32> {
    let prefix = prefix.as_bytes();
    let starts = bytes
        .windows(prefix.len())
        .enumerate()
        .filter(|(_, window)| *window == prefix);
    starts
        .filter_map(|(at, _)| {
            let rest = bytes.get(at + prefix.len()..)?;
            let digits: String = rest
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .map(|byte| char::from(*byte))
                .collect();
            digits.parse().ok()
        })
        .max()
}

/// The folder is renamed into its place when all is written: a broken one is never taken for whole.
#[allow(clippy::disallowed_methods)]
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(failed("Writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_lines_are_read() {
        let line = "\tlibc10.so => /a b/lib/libc10.so (0x00007f)";
        let expected = (
            "libc10.so".to_owned(),
            Some(PathBuf::from("/a b/lib/libc10.so")),
        );
        assert_eq!(parse_ldd(line), Some(expected));
        assert_eq!(
            parse_ldd("\tlibx.so.1 => not found"),
            Some(("libx.so.1".to_owned(), None))
        );
        let (name, _) = parse_ldd("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)").unwrap();
        assert!(is_of_the_system(&name), "{name}");
        assert!(!is_of_the_system("libcudart.so.13"));
    }

    #[test]
    fn the_newest_symbol_version_counts() {
        let bytes = b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.17\0GLIBCXX_3.4\0";
        assert_eq!(newest(bytes, "GLIBC_2."), Some(34));
    }

    #[test]
    fn licences_are_told_from_sources() {
        for name in [
            "LICENSE",
            "LICENSE-MIT",
            "LICENCE.txt",
            "COPYING",
            "NOTICE.md",
            "OFL.txt",
        ] {
            assert!(is_licence(name), "{name}");
        }
        for name in ["license.rs", "README.md", "lib.rs"] {
            assert!(!is_licence(name), "{name}");
        }
    }
}
