//! What the system must bring: a C++ compiler, Python with pip, and the libraries a window opens.
//!
//! Compiling needs no `-dev` package: whatever is graphical is opened at run time. What is missing
//! is named with the one command that installs it, and installed where that may be done.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Result, has_program, say};

/// What a chore needs beside a compiler and Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Only to build, and to draw without a window.
    Build,
    /// To open the window.
    Window,
    /// To test the window without a screen.
    Tests,
}

/// One thing that a system may lack, and the packages that bring it.
struct Part {
    need: Need,
    /// How to see that it is there.
    sign: Sign,
    debian: &'static str,
    fedora: &'static str,
    arch: &'static str,
}

enum Sign {
    /// One of these programs is in the path.
    Program(&'static [&'static str]),
    /// The dynamic loader knows this library.
    Library(&'static str),
    /// Python has this module.
    PythonModule(&'static str),
    /// Mesa's drivers, by which OpenGL works without a graphics card.
    SoftwareGl,
}

const fn part(
    need: Need,
    sign: Sign,
    debian: &'static str,
    fedora: &'static str,
    arch: &'static str,
) -> Part {
    Part {
        need,
        sign,
        debian,
        fedora,
        arch,
    }
}

#[rustfmt::skip]
const PARTS: &[Part] = &[
    part(Need::Build, Sign::Program(&["c++", "g++", "clang++"]), "g++", "gcc-c++", "gcc"),
    part(Need::Build, Sign::Program(&["python3", "python"]), "python3", "python3", "python"),
    part(Need::Build, Sign::PythonModule("pip"), "python3-pip", "python3-pip", "python-pip"),
    part(Need::Window, Sign::Library("libEGL.so.1"), "libegl1", "libglvnd-egl", "libglvnd"),
    part(Need::Window, Sign::Library("libGL.so.1"), "libgl1", "libglvnd-glx", "libglvnd"),
    part(Need::Window, Sign::Library("libX11.so.6"), "libx11-6", "libX11", "libx11"),
    part(Need::Window, Sign::Library("libX11-xcb.so.1"), "libx11-xcb1", "libX11-xcb", "libx11"),
    part(Need::Window, Sign::Library("libxcb.so.1"), "libxcb1", "libxcb", "libxcb"),
    part(Need::Window, Sign::Library("libXcursor.so.1"), "libxcursor1", "libXcursor", "libxcursor"),
    part(Need::Window, Sign::Library("libXi.so.6"), "libxi6", "libXi", "libxi"),
    part(Need::Window, Sign::Library("libXrender.so.1"), "libxrender1", "libXrender", "libxrender"),
    part(Need::Window, Sign::Library("libxkbcommon.so.0"), "libxkbcommon0", "libxkbcommon", "libxkbcommon"),
    part(Need::Window, Sign::Library("libxkbcommon-x11.so.0"), "libxkbcommon-x11-0", "libxkbcommon-x11", "libxkbcommon-x11"),
    part(Need::Window, Sign::Library("libwayland-client.so.0"), "libwayland-client0", "libwayland-client", "wayland"),
    part(Need::Window, Sign::Library("libwayland-egl.so.1"), "libwayland-egl1", "libwayland-egl", "wayland"),
    part(Need::Window, Sign::Library("libwayland-cursor.so.0"), "libwayland-cursor0", "libwayland-cursor", "wayland"),
    part(Need::Window, Sign::Library("libfontconfig.so.1"), "libfontconfig1", "fontconfig", "fontconfig"),
    part(Need::Tests, Sign::SoftwareGl, "libgl1-mesa-dri", "mesa-dri-drivers", "mesa"),
    part(Need::Tests, Sign::Program(&["Xvfb"]), "xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb"),
    part(Need::Tests, Sign::Program(&["xdotool"]), "xdotool", "xdotool", "xdotool"),
    part(Need::Tests, Sign::Program(&["import"]), "imagemagick", "ImageMagick", "imagemagick"),
];

/// A system's way to install packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Pacman,
}

/// Sees to it that the system has what a chore needs.
///
/// Errors: what is missing, with the one command that installs it.
pub fn ensure(need: Need) -> Result<()> {
    if cfg!(not(target_os = "linux")) {
        return Ok(());
    }
    let missing = missing(need);
    if missing.is_empty() {
        return Ok(());
    }
    let Some(manager) = manager() else {
        let names: Vec<_> = missing.iter().map(|part| part.sign.name()).collect();
        return Err(format!(
            "This system lacks {}. Install them and call again.",
            names.join(", ")
        ));
    };
    let command = install_command(manager, &missing);
    if manager == Manager::Apt && is_root() {
        say(&format!("Installing what this system lacks: {command}"));
        install(&missing)?;
        let still = self::missing(need);
        if still.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = still.iter().map(|part| part.sign.name()).collect();
        return Err(format!(
            "Installed, but still not found: {}.",
            names.join(", ")
        ));
    }
    Err(format!(
        "This system lacks packages that Easel needs. Install them, then call again:\n\n    {command}"
    ))
}

fn missing(need: Need) -> Vec<&'static Part> {
    let wanted = |part: &&Part| match need {
        Need::Build => part.need == Need::Build,
        Need::Window => part.need != Need::Tests,
        Need::Tests => true,
    };
    // Where the loader cannot be asked (no ldconfig), libraries count as present.
    let loader = ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .iter()
        .find_map(|program| shell::try_output(program, &["-p"]));
    let parts = PARTS.iter().filter(wanted);
    parts
        .filter(|part| !part.sign.is_seen(loader.as_deref()))
        .collect()
}

impl Sign {
    fn is_seen(&self, loader: Option<&str>) -> bool {
        match self {
            Self::Program(names) => names.iter().any(|name| has_program(name)),
            Self::Library(name) => loader.is_none_or(|known| {
                known
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(name))
            }),
            Self::PythonModule(module) => {
                let import = format!("import {module}");
                ["python3", "python"]
                    .iter()
                    .any(|python| shell::try_output(python, &["-c", &import]).is_some())
            }
            Self::SoftwareGl => ["/usr/lib", "/usr/lib64"]
                .iter()
                .any(|lib| has_mesa_driver(Path::new(lib))),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Program(names) => names.join(" or "),
            Self::Library(name) => (*name).to_owned(),
            Self::PythonModule(module) => format!("Python's {module}"),
            Self::SoftwareGl => "Mesa's OpenGL drivers".to_owned(),
        }
    }
}

/// Whether `dri/swrast_dri.so` or Mesa's Gallium library is in a library folder or one below.
fn has_mesa_driver(lib: &Path) -> bool {
    let holds = |folder: &Path| {
        folder.join("dri/swrast_dri.so").exists()
            || std::fs::read_dir(folder).is_ok_and(|entries| {
                entries.flatten().any(|entry| {
                    entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with("libgallium-")
                })
            })
    };
    let below = std::fs::read_dir(lib).into_iter().flatten().flatten();
    holds(lib)
        || below
            .map(|entry| entry.path())
            .any(|folder| folder.is_dir() && holds(&folder))
}

fn manager() -> Option<Manager> {
    [
        ("apt-get", Manager::Apt),
        ("dnf", Manager::Dnf),
        ("pacman", Manager::Pacman),
    ]
    .into_iter()
    .find_map(|(program, manager)| has_program(program).then_some(manager))
}

fn packages(manager: Manager, parts: &[&Part]) -> Vec<&'static str> {
    let mut names: Vec<_> = parts
        .iter()
        .map(|part| match manager {
            Manager::Apt => part.debian,
            Manager::Dnf => part.fedora,
            Manager::Pacman => part.arch,
        })
        .collect();
    names.dedup();
    names
}

fn install_command(manager: Manager, parts: &[&Part]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    let install = match manager {
        Manager::Apt => "apt-get install --yes",
        Manager::Dnf => "dnf install --assumeyes",
        Manager::Pacman => "pacman --sync --needed",
    };
    format!("{sudo}{install} {}", packages(manager, parts).join(" "))
}

/// Installs packages on Debian or Ubuntu, as root.
fn install(parts: &[&Part]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["--yes", "-qq", "-o", "Dpkg::Use-Pty=0"]);
        command.args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        shell::check(&mut command)
    };
    // A fresh container has no package lists; a stale one names packages that are gone.
    apt(&["update"])?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(packages(Manager::Apt, parts));
    apt(&arguments)
}

fn is_root() -> bool {
    shell::try_output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}

/// A Python 3 that has pip. Errors with the way out.
pub fn python() -> Result<PathBuf> {
    let found = ["python3", "python"].into_iter().find(|name| {
        shell::try_output(
            name,
            &["-c", "import sys, pip; sys.exit(sys.version_info < (3, 7))"],
        )
        .is_some()
    });
    found.map(PathBuf::from).ok_or_else(|| {
        "Python 3 with pip is needed to bring libtorch, and there is none in the path. Install both, or bring \
         libtorch 2.13.0 yourself and name its folder in LIBTORCH."
            .to_owned()
    })
}

/// Whether windows can be opened here.
pub fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(not(target_os = "linux")) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// Free megabytes on the disk of a folder, where the system tells.
pub fn free_mb(folder: &Path) -> Option<u64> {
    let table = shell::try_output("df", &["-Pk", folder.to_str()?])?;
    let free_kb: u64 = table
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(free_kb / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_each_missing_package_once() {
        let parts: Vec<&Part> = PARTS.iter().collect();
        let command = install_command(Manager::Pacman, &parts);
        assert_eq!(command.matches("libglvnd").count(), 1, "{command}");
        let command = install_command(Manager::Apt, &parts);
        assert!(
            command.contains("apt-get install --yes g++ python3 python3-pip"),
            "{command}"
        );
        assert!(command.contains(" xvfb "), "{command}");
    }

    #[test]
    fn a_library_is_seen_by_its_whole_name_only() {
        let known = "\tlibGLX.so.1 (libc6,x86-64) => a\n\tlibGL.so.12 (libc6) => b\n";
        assert!(!Sign::Library("libGL.so.1").is_seen(Some(known)));
        assert!(Sign::Library("libGLX.so.1").is_seen(Some(known)));
        assert!(Sign::Library("libGL.so.1").is_seen(None));
    }
}
