//! Brings libtorch 2.13.0 (the one that `tch` 0.26 asks for) into the repository's ignored
//! `libtorch/`, once, from Python wheels whose versions and hashes are pinned in `requirements/`.
//!
//! ```text
//! libtorch/include, lib    what Easel is compiled and linked with: the processor's libraries only
//! libtorch/cuda/lib        libtorch_cuda.so and all that it needs, flat; opened at run time
//! libtorch/licences        of torch, NVIDIA and what they contain (cuda/licences likewise)
//! libtorch/stamp.txt       which pinned wheels it came from (cuda/stamp.txt likewise)
//! ```
//!
//! `cuda/` is a folder of its own because `torch-sys` links CUDA where it sees
//! `lib/libtorch_cuda.so`, and Easel is one binary for both. libtorch's own rpath ends in `$ORIGIN`,
//! so in `cuda/lib` each library finds its neighbours; what it shares with the processor's part
//! (`libtorch_cpu.so`, `libc10.so`, `libcudart.so.13`) is in the process already. What libtorch opens
//! later by bare name, seen from `lib/`, is linked into `lib/`.
//!
//! Safe to interrupt: everything is unpacked beside its place and renamed as the last step.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project;
use crate::shell::{self, Result, failed, say};
use crate::system;

const CPU_WHEELS: &str = include_str!("../requirements/libtorch-cpu.txt");
const CUDA_WHEELS: &str = include_str!("../requirements/libtorch-cuda.txt");
const UNPACK: &str = include_str!("unpack.py");

/// What a part needs on the disk while it is downloaded and unpacked, and what it keeps.
const CPU_SIZE: Size = Size {
    download_mb: 540,
    unpacked_mb: 530,
};
const CUDA_SIZE: Size = Size {
    download_mb: 1980,
    unpacked_mb: 2900,
};

/// The wheels are built for this Python; any Python 3 can download and unpack them.
const WHEEL_PYTHON: &str = "3.11";
const WHEEL_ABI: &str = "cp311";
/// The wheels' platforms, newest first; pip matches each exactly.
const WHEEL_PLATFORMS: [&str; 6] = [
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_25",
    "manylinux_2_18",
    "manylinux_2_17",
    "manylinux2014",
];
/// Opened by bare name from within `libtorch_cpu.so`, which looks in its own folder only; the last is
/// what the second needs beyond `libtorch_cuda.so`.
const OPENED_FROM_LIB: [&str; 3] = [
    "libcaffe2_nvrtc.so",
    "libtorch_cuda_linalg.so",
    "libcusolver.so.12",
];

/// Which processors Easel is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// An NVIDIA card, and the CPU.
    Cuda,
}

struct Size {
    download_mb: u64,
    unpacked_mb: u64,
}

/// A libtorch that the person brought, named in the environment.
pub enum Own {
    /// `LIBTORCH`: its folder.
    Folder(PathBuf),
    /// `LIBTORCH_USE_PYTORCH`: the one of the Python in the path.
    Python,
}

/// The libtorch that the environment names, if it is not the repository's own.
pub fn own() -> Option<Own> {
    // torch-sys looks at whether it is set, not at its value, and prefers it over LIBTORCH.
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Some(Own::Python);
    }
    let named = PathBuf::from(std::env::var_os("LIBTORCH")?);
    // `.cargo/config.toml` names the repository's own, absolute by the time it arrives here.
    (named != folder()).then_some(Own::Folder(named))
}

/// The repository's own.
pub fn folder() -> PathBuf {
    project::root().join("libtorch")
}

/// The device to set up for: the one asked for, or CUDA where an NVIDIA driver is present.
pub fn choose(device: Option<Device>) -> Device {
    device.unwrap_or_else(|| {
        let driver = Path::new("/proc/driver/nvidia/version").exists()
            || shell::try_output("nvidia-smi", &["-L"]).is_some_and(|cards| cards.contains("GPU"));
        if driver { Device::Cuda } else { Device::Cpu }
    })
}

/// Sees to it that libtorch is there. Says what it does; quick where all is done.
pub fn ensure(device: Option<Device>) -> Result<()> {
    match own() {
        Some(Own::Python) => {
            say("LIBTORCH_USE_PYTORCH is set: using the PyTorch of your Python.");
            return Ok(());
        }
        Some(Own::Folder(path)) => {
            say(&format!("LIBTORCH is set: using {}.", path.display()));
            return if path.join("lib").is_dir() {
                Ok(())
            } else {
                Err(format!(
                    "LIBTORCH names {}, which has no lib folder. Unset it, and libtorch is brought for you.",
                    path.display()
                ))
            };
        }
        None => {}
    }
    let device = choose(device);
    let libtorch = folder();
    if libtorch.exists() && !libtorch.join("stamp.txt").exists() {
        say("libtorch/ is not from this program (it has no stamp.txt): using it as it is.");
        return Ok(());
    }
    let cpu_done = is_from(&libtorch, CPU_WHEELS);
    let cuda_done = cpu_done && is_from(&libtorch.join("cuda"), CUDA_WHEELS);
    match device {
        Device::Cpu if cpu_done => Ok(()),
        Device::Cuda if cuda_done => Ok(()),
        Device::Cpu | Device::Cuda => bring(device, cpu_done),
    }
}

/// Whether a folder was unpacked, whole, from these wheels.
fn is_from(folder: &Path, wheels: &str) -> bool {
    std::fs::read_to_string(folder.join("stamp.txt")).is_ok_and(|stamp| stamp == wheels)
}

/// Downloads the wheels and unpacks what is missing.
fn bring(device: Device, cpu_done: bool) -> Result<()> {
    let platform = wheel_platform()?;
    let python = system::python()?;
    let with_cuda = device == Device::Cuda;
    announce(with_cuda, cpu_done);
    let work = project::root().join("libtorch.partial");
    let wheels = work.join("wheels");
    std::fs::create_dir_all(&wheels).map_err(failed("Making", &wheels))?;
    enough_space(&work, with_cuda, cpu_done)?;

    download(&python, &work, "cpu", CPU_WHEELS, &platform)?;
    if with_cuda {
        download(&python, &work, "cuda", CUDA_WHEELS, &platform)?;
    }
    let libtorch = folder();
    if !cpu_done {
        let fresh = unpack(&python, &work, "cpu", CPU_WHEELS)?;
        // `-ltorch` means the processor's library: the wheel's libtorch.so would ask for CUDA's.
        link("libtorch_cpu.so", &fresh.join("lib/libtorch.so"))?;
        replace(&libtorch, &fresh, &work)?;
    }
    if with_cuda {
        let fresh = unpack(&python, &work, "cuda", CUDA_WHEELS)?;
        link_cuda(&libtorch.join("lib"))?;
        replace(&libtorch.join("cuda"), &fresh, &work)?;
    }
    shell::remove(&work)?;
    say(&format!(
        "libtorch is ready ({}).",
        shell::readable(shell::size_of(&libtorch)?)
    ));
    Ok(())
}

fn announce(with_cuda: bool, cpu_done: bool) {
    let what = match (with_cuda, cpu_done) {
        (false, _) => "libtorch 2.13.0",
        (true, false) => "libtorch 2.13.0 with NVIDIA's CUDA libraries",
        (true, true) => "NVIDIA's CUDA libraries for libtorch 2.13.0 (--device cpu does without)",
    };
    let download_mb = CPU_SIZE.download_mb + if with_cuda { CUDA_SIZE.download_mb } else { 0 };
    let size = shell::readable(download_mb * 1_000_000);
    say(&format!(
        "Bringing {what} into libtorch/: {size} to download, once."
    ));
}

/// The processor's part of the wheels' platform names.
fn wheel_platform() -> Result<String> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", arch @ ("x86_64" | "aarch64")) => Ok(arch.to_owned()),
        (os, arch) => Err(format!(
            "There is no pinned libtorch for {os} on {arch}. Bring libtorch 2.13.0 yourself and name its folder \
             in LIBTORCH, or install torch==2.13.0 for your Python and set LIBTORCH_USE_PYTORCH=1."
        )),
    }
}

/// Fails before the download where the disk is too full for it.
fn enough_space(work: &Path, with_cuda: bool, cpu_done: bool) -> Result<()> {
    let mut needed_mb = CPU_SIZE.download_mb;
    needed_mb += if cpu_done { 0 } else { CPU_SIZE.unpacked_mb };
    needed_mb += if with_cuda {
        CUDA_SIZE.download_mb + CUDA_SIZE.unpacked_mb
    } else {
        0
    };
    let Some(free_mb) = system::free_mb(work) else {
        return Ok(());
    };
    if free_mb < needed_mb {
        return Err(format!(
            "The disk of {} has {} free, but bringing libtorch takes {} for a while. Make room and call again.",
            work.display(),
            shell::readable(free_mb * 1_000_000),
            shell::readable(needed_mb * 1_000_000),
        ));
    }
    Ok(())
}

/// Downloads wheels with pip, which checks their hashes. Skips those that an interrupted call brought.
fn download(python: &Path, work: &Path, part: &str, pinned: &str, platform: &str) -> Result<()> {
    let done = work.join(format!("{part}.downloaded"));
    if std::fs::read_to_string(&done).is_ok_and(|stamp| stamp == pinned) {
        return Ok(());
    }
    let list = work.join(format!("{part}.txt"));
    write(&list, pinned)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--implementation", "cp", "--python-version", WHEEL_PYTHON])
        .args(["--abi", WHEEL_ABI, "--abi", "none"]);
    for name in WHEEL_PLATFORMS {
        pip.args(["--platform", &format!("{name}_{platform}")]);
    }
    pip.arg("--requirement").arg(&list);
    pip.arg("--dest").arg(work.join("wheels"));
    // A virtual environment or a setting of the person's must not turn this into something else.
    pip.env_remove("PIP_TARGET")
        .env_remove("PIP_REQUIRE_VIRTUALENV")
        .env_remove("PIP_USER");
    shell::check(&mut pip).map_err(|error| {
        format!(
            "libtorch could not be downloaded; pip says above why.\n  {error}\n\
             If the network is to blame, call again: what has arrived is kept. Behind a proxy set HTTPS_PROXY; a mirror \
             of the Python packages is named in PIP_INDEX_URL.\n\
             Or bring libtorch 2.13.0 yourself and name its folder in LIBTORCH."
        )
    })?;
    write(&done, pinned)
}

/// Unpacks a part into a fresh folder, stamped as complete.
fn unpack(python: &Path, work: &Path, part: &str, pinned: &str) -> Result<PathBuf> {
    say(&format!("Unpacking libtorch ({part})"));
    let fresh = work.join(part);
    shell::remove(&fresh)?;
    let script = work.join("unpack.py");
    write(&script, UNPACK)?;
    let wheels = work.join("wheels");
    shell::check(
        Command::new(python)
            .arg(script)
            .arg(part)
            .args([&wheels, &fresh]),
    )?;
    write(&fresh.join("stamp.txt"), pinned)?;
    Ok(fresh)
}

/// Links from `lib` into the `cuda/lib` beside it what libtorch opens by bare name.
pub fn link_cuda(lib: &Path) -> Result<()> {
    for name in OPENED_FROM_LIB {
        link(&format!("../cuda/lib/{name}"), &lib.join(name))?;
    }
    Ok(())
}

/// Puts a finished folder in its place. What was there is moved away whole, never half removed.
fn replace(place: &Path, fresh: &Path, work: &Path) -> Result<()> {
    let old = work.join("old");
    shell::remove(&old)?;
    if place.symlink_metadata().is_ok() {
        std::fs::rename(place, &old).map_err(failed("Renaming", place))?;
    }
    std::fs::rename(fresh, place).map_err(failed("Renaming", fresh))
}

/// A symbolic link, replacing what is there.
fn link(to: &str, at: &Path) -> Result<()> {
    shell::remove(at)?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(to, at).map_err(failed("Linking", at))?;
    #[cfg(not(unix))]
    let _ = to;
    Ok(())
}

/// A small file that may be written halfway: each is written before what it speaks of is renamed.
#[allow(clippy::disallowed_methods)]
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(failed("Writing", path))
}
