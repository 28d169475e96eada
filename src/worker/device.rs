//! Where the networks run: the CPU, or a graphics card through libtorch's CUDA library.
//!
//! The program links libtorch's CPU libraries only. `libtorch_cuda` is opened when a card is asked
//! for; libtorch finds the card through what that library registers on being opened. It must be
//! open before libtorch is asked about CUDA for the first time: it answers once and remembers.

use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::request::{Arithmetic, DeviceChoice, DtypeChoice};

/// Resolves what a person chose.
///
/// Errors: [`Error::Device`] where CUDA was asked for by name and cannot be had, saying why.
pub fn device(choice: DeviceChoice) -> Result<Device> {
    // A library that cannot be opened must not keep anyone from the CPU: then nothing is tried.
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    match (choice, cuda()) {
        (_, Ok(())) => Ok(Device::Cuda(0)),
        (DeviceChoice::Cuda, Err(why)) => Err(Error::Device(format!(
            "The graphics card cannot be used: {why}"
        ))),
        (_, Err(why)) => {
            log::info!("drawing on the CPU: {why}");
            Ok(Device::Cpu)
        }
    }
}

/// Resolves what a person chose: f32 on the CPU, f16 on CUDA.
pub fn kind(choice: DtypeChoice, device: Device) -> Kind {
    match choice {
        DtypeChoice::Auto if device.is_cuda() => Kind::Half,
        DtypeChoice::Auto | DtypeChoice::F32 => Kind::Float,
        DtypeChoice::F16 => Kind::Half,
        DtypeChoice::Bf16 => Kind::BFloat16,
    }
}

/// What a picture is computed with: on a processor there are two ways, also for networks in f16, whose VAE
/// and upscaler may be in f32.
pub fn arithmetic_used(device: Device, asked: Arithmetic) -> Option<Arithmetic> {
    (device == Device::Cpu).then_some(asked)
}

/// `cpu` or `cuda`.
pub fn device_name(device: Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// `f32`, `f16` or `bf16`.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        _ => "f32",
    }
}

/// Opens the CUDA library once; afterwards remembers how it went.
fn cuda() -> std::result::Result<(), &'static str> {
    static OPENED: OnceLock<std::result::Result<Option<Library>, String>> = OnceLock::new();
    let opened = OPENED.get_or_init(open_cuda).as_ref();
    opened.map(|_| ()).map_err(String::as_str)
}

fn open_cuda() -> std::result::Result<Option<Library>, String> {
    if !driver_present() {
        return Err("no NVIDIA driver is running on this machine".to_owned());
    }
    let library = match cuda_library() {
        Some(path) => {
            // SAFETY: opening runs the initialisers of PyTorch's own library, which register its
            // CUDA operators with the libtorch that is already linked; they expect nothing more.
            let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
            Some(opened.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        // A libtorch of the person's own may have CUDA linked in.
        None if tch::Cuda::is_available() => None,
        None => {
            return Err(
                "Easel's CUDA libraries are not installed (cargo xtask setup --device cuda)"
                    .to_owned(),
            );
        }
    };
    if tch::Cuda::is_available() {
        Ok(library)
    } else {
        Err("the driver is too old for CUDA 13, or no card answers".to_owned())
    }
}

fn driver_present() -> bool {
    ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
}

/// `cuda/lib/libtorch_cuda.so` beside the CPU libraries, where the build's rpaths look for those.
fn cuda_library() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let own = std::env::var_os("LIBTORCH").map(PathBuf::from);
    ["", "../../libtorch", "../../../libtorch"]
        .iter()
        .map(|libtorch| folder.join(libtorch))
        .chain(own)
        .map(|libtorch| libtorch.join("cuda/lib/libtorch_cuda.so"))
        .find(|path| path.is_file())
}
