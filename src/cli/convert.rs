//! `easel convert`: writes a model anew, as a folder or as one file.

use std::io::IsTerminal;

use crossbeam_channel::Receiver;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::Convert;
use super::generate::Outcome;
use super::report::Streams;
use crate::error::{Error, Result};
use crate::worker::{self, Conversion, Converted};

/// Converts and says what was written, on standard output its path. `interrupts`: Ctrl-C.
///
/// Errors: as [`worker::convert`].
pub fn convert(
    arguments: &Convert,
    interrupts: &Receiver<()>,
    to: &mut Streams<'_>,
) -> Result<Outcome> {
    let conversion = Conversion {
        from: arguments.from.clone(),
        unet: arguments.unet.clone(),
        vae: arguments.vae.clone(),
        to: arguments.to.clone(),
        dtype: arguments.dtype,
    };
    let bar = bar();
    let mut progress = |share: f32| {
        bar.set_position((share * 100.0) as u64);
        match interrupts.try_recv() {
            Ok(()) => Err(Error::Cancelled),
            Err(_) => Ok(()),
        }
    };
    let converted = worker::convert(&conversion, &mut progress);
    bar.finish_and_clear();
    let what = match converted {
        Ok(Converted::Folder) => "a folder in the diffusers layout",
        Ok(Converted::SingleFile) => "a single-file checkpoint",
        Ok(Converted::Tensors) => "the same tensors in a safetensors file",
        Err(Error::Cancelled) => return Ok(Outcome::Interrupted),
        Err(error) => return Err(error),
    };
    to.err(format_args!("Wrote {what}."));
    to.out(arguments.to.display());
    Ok(Outcome::Done)
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("Converting {bar:30} {percent} %  {elapsed}");
    let bar = ProgressBar::new(100);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
