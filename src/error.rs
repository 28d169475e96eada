//! The one error type. Each variant names its cause and, where there is one, the way out.
//!
//! The first line ([`Display`](std::fmt::Display)) is written for the person who presses Generate;
//! [`Error::remedy`] is what a button can do about it; technical causes are in `source`.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What everything fallible returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{doing} {} failed: {}", path.display(), plain(source))]
    Io {
        /// What was tried: "Reading", "Saving".
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },

    /// A model file or folder cannot be used as it is.
    #[error("The model {} cannot be used: {why}", path.display())]
    Model { path: PathBuf, why: String },

    /// A file that a model was to be drawn with beside its own weights cannot be used.
    #[error("The {what} {} cannot be used: {why}", path.display())]
    AddOn {
        /// "LoRA", "embedding".
        what: &'static str,
        path: PathBuf,
        why: String,
    },

    /// A tensor is absent or has another shape than the config asks for.
    #[error("The tensor {name} {why}")]
    Tensor { name: String, why: String },

    /// A tensor came to a network in a shape that it does not take.
    #[error("{what} has the shape {got:?}, but {expected} was expected")]
    Shape {
        what: &'static str,
        got: Vec<i64>,
        expected: String,
    },

    /// The request asks for what cannot be: a size, a step count, a name.
    #[error("{0}")]
    Request(String),

    /// A picture cannot be read, or carries no settings that Easel understands.
    #[error("The picture {} cannot be used: {why}", path.display())]
    Picture { path: PathBuf, why: String },

    /// The device does not exist or stopped working.
    #[error("{0}")]
    Device(String),

    /// Not enough memory for the job.
    #[error("There is not enough memory for this picture")]
    OutOfMemory { details: String },

    /// The network produced values that are not numbers.
    #[error("The model produced invalid values (NaN) when {when}: {}", why_not_a_number(*kind))]
    NotANumber {
        when: String,
        /// What it computes in.
        kind: tch::Kind,
    },

    /// libtorch reported something else.
    #[error("The drawing engine failed")]
    Torch { details: String },

    /// A worker thread panicked or is gone.
    #[error("The drawing engine stopped unexpectedly")]
    Panic { details: String },

    /// The person asked to stop. Not a failure; never shown as one.
    #[error("Cancelled")]
    Cancelled,
}

/// The system's words, but for what happens every day; others' words as they are.
fn plain(source: &std::io::Error) -> String {
    if source.raw_os_error().is_none() {
        return source.to_string();
    }
    match source.kind() {
        ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        ErrorKind::PermissionDenied => "the system does not allow it".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        ErrorKind::NotADirectory => "it is no folder".to_owned(),
        ErrorKind::StorageFull => "the disk is full".to_owned(),
        _ => source.to_string(),
    }
}

fn is_half(kind: tch::Kind) -> bool {
    matches!(kind, tch::Kind::Half | tch::Kind::BFloat16)
}

fn why_not_a_number(kind: tch::Kind) -> &'static str {
    match kind {
        tch::Kind::Half => {
            "they grew too large for f16, and f32 (or bf16, in as little memory) has room for them"
        }
        tch::Kind::BFloat16 => "bf16 was too coarse for them, or the model's file is damaged",
        _ => "the model's file is damaged, or a setting is too extreme for it",
    }
}

/// What a button beside the message can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    UseCpu,
    UseF32,
    ReduceSize,
    ChooseModel,
    ChooseFolder,
}

impl Error {
    /// Wraps an I/O error with what was tried and where.
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// A model that cannot be used, and why.
    pub fn model(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Model {
            path: path.as_ref().to_path_buf(),
            why: why.into(),
        }
    }

    /// The same of a file beside the model, where it was one that could not be used.
    pub fn of_add_on(self, what: &'static str) -> Self {
        match self {
            Self::Model { path, why } => Self::AddOn { what, path, why },
            other => other,
        }
    }

    /// What helps, where something does.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::OutOfMemory { .. } => Some(Remedy::ReduceSize),
            Self::Device(_) => Some(Remedy::UseCpu),
            Self::NotANumber { kind, .. } if is_half(*kind) => Some(Remedy::UseF32),
            Self::NotANumber { .. } | Self::Model { .. } | Self::Tensor { .. } => {
                Some(Remedy::ChooseModel)
            }
            Self::Io {
                doing: "Saving", ..
            } => Some(Remedy::ChooseFolder),
            Self::Io { .. }
            | Self::Shape { .. }
            | Self::Request(_)
            | Self::Picture { .. }
            | Self::AddOn { .. }
            | Self::Torch { .. }
            | Self::Panic { .. }
            | Self::Cancelled => None,
        }
    }

    /// The technical part, for "Details": never the first line. Empty where that says it all.
    pub fn details(&self) -> String {
        match self {
            Self::OutOfMemory { details } | Self::Torch { details } | Self::Panic { details } => {
                details.clone()
            }
            // The system's own words and number, which the first line may have in plainer ones.
            Self::Io {
                doing,
                path,
                source,
            } => format!("{doing} {}: {source}", path.display()),
            Self::Model { .. }
            | Self::AddOn { .. }
            | Self::Tensor { .. }
            | Self::Shape { .. }
            | Self::Request(_)
            | Self::Picture { .. }
            | Self::Device(_)
            | Self::NotANumber { .. }
            | Self::Cancelled => String::new(),
        }
    }

    /// All of it in a line, for the log.
    pub fn in_full(&self) -> String {
        match self.details() {
            details if details.is_empty() => self.to_string(),
            details => format!("{self} ({details})"),
        }
    }
}

impl From<tch::TchError> for Error {
    /// Sorts libtorch's messages into causes a person can act on.
    fn from(error: tch::TchError) -> Self {
        Self::from_torch_message(&error.to_string())
    }
}

impl Error {
    /// Sorts the text of a libtorch exception (from a `Result` or a caught panic).
    pub fn from_torch_message(message: &str) -> Self {
        let details = message.to_owned();
        // Behind these words libtorch lists where it was: names like `libtorch_cuda.so` say nothing
        // of the cause.
        let cause = message.split("Exception raised from").next();
        let lower = cause.unwrap_or(message).to_lowercase();
        if lower.contains("out of memory")
            || lower.contains("alloc_failed")
            || lower.contains("can't allocate memory")
            || lower.contains("not enough memory")
            || lower.contains("bad_alloc")
        {
            Self::OutOfMemory { details }
        } else if lower.contains("cuda") || lower.contains("cudnn") || lower.contains("cublas") {
            let first = message.lines().next().unwrap_or_default();
            Self::Device(format!("The graphics card stopped working: {first}"))
        } else {
            Self::Torch { details }
        }
    }

    /// What a caught panic says. libtorch's plain operators panic with its exceptions.
    pub fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        match Self::from_torch_message(message) {
            Self::Torch { details } => Self::Panic { details },
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_the_systems_words_and_never_rusts() {
        let missing = std::io::Error::from_raw_os_error(2);
        let error = Error::io("Reading", "a/b.png", missing);
        let details = error.details();
        assert!(details.starts_with("Reading a/b.png: "), "{details}");
        assert!(details.contains('2') && !details.contains('{'), "{details}");
        assert_eq!(Error::model("a", "it is empty").details(), "");
        let torch = Error::from_torch_message("mat1");
        assert_eq!(torch.details(), "mat1");
        assert_eq!(torch.in_full(), "The drawing engine failed (mat1)");
        let device = Error::from_panic(&"cuda.pt: not a tensor");
        assert!(device.in_full().ends_with("cuda.pt: not a tensor"));
    }

    #[test]
    fn memory_and_device_failures_are_told_apart() {
        let cpu = Error::from_torch_message(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8796093022208 bytes",
        );
        assert_eq!(cpu.remedy(), Some(Remedy::ReduceSize));
        let cuda = Error::from_torch_message("CUDA out of memory. Tried to allocate 20.00 GiB");
        assert_eq!(cuda.remedy(), Some(Remedy::ReduceSize));
        let gone = Error::from_torch_message("CUDA error: device-side assert triggered");
        assert_eq!(gone.remedy(), Some(Remedy::UseCpu));
        let cudnn = Error::from_torch_message("cuDNN error: CUDNN_STATUS_ALLOC_FAILED");
        assert_eq!(cudnn.remedy(), Some(Remedy::ReduceSize));
        let shapes = Error::from_torch_message(
            "mat1 and mat2 shapes cannot be multiplied\nException raised from addmm_out_cuda_impl\n\
             frame #0: c10::Error::Error (libtorch_cuda.so)",
        );
        assert_eq!(shapes.remedy(), None, "{shapes}");
    }
}
