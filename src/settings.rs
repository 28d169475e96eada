//! What a person set up, kept between starts: one JSON file in the system's configuration folder.
//!
//! The window reads it before it opens and hands every change to a small thread, which writes it
//! whole or not at all a moment later: a crash loses at most the last quarter of a second.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::request::{GenerationRequest, PictureFormat};

/// How long a change may wait for the next one before it is written.
const SETTLE: Duration = Duration::from_millis(250);

/// Everything that persists. A field that a file lacks takes its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The prompt and every value as they stand in the window; `None`: not touched, follows the model.
    pub request: GenerationRequest,
    /// Whether the next picture keeps the seed.
    pub seed_locked: bool,
    pub theme: ThemeChoice,
    /// 1 is the normal text size.
    pub zoom: f32,
    pub reduce_motion: bool,
    /// Show pictures while they form.
    pub previews: bool,
    /// Where pictures go; `None`: `Easel` in the user's pictures folder.
    pub pictures: Option<PathBuf>,
    pub format: PictureFormat,
    /// Models that were opened, and folders with models.
    pub model_folders: Vec<PathBuf>,
    pub layout: Layout,
    pub window: WindowPlace,
}

/// Dark, light, or as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThemeChoice {
    #[default]
    System,
    Dark,
    Light,
}

impl ThemeChoice {
    pub const ALL: [Self; 3] = [Self::System, Self::Dark, Self::Light];

    /// As the settings window calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::System => "Like the system",
            Self::Dark => "Dark",
            Self::Light => "Light",
        }
    }
}

/// Panels and folded sections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layout {
    pub controls_width: f32,
    pub history_width: f32,
    pub history_open: bool,
    pub negative_open: bool,
    pub sampler_open: bool,
    pub tuning_open: bool,
    pub loras_open: bool,
    pub advanced_open: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            controls_width: 304.0,
            history_width: 236.0,
            history_open: true,
            negative_open: false,
            sampler_open: false,
            tuning_open: false,
            loras_open: false,
            advanced_open: false,
        }
    }
}

/// Size and place of the window, in points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowPlace {
    pub size: [f32; 2],
    pub position: Option<[f32; 2]>,
    pub maximized: bool,
}

impl Default for WindowPlace {
    fn default() -> Self {
        Self {
            size: [1280.0, 820.0],
            position: None,
            maximized: false,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request: GenerationRequest::default(),
            seed_locked: false,
            theme: ThemeChoice::System,
            zoom: 1.0,
            reduce_motion: false,
            previews: true,
            pictures: None,
            format: PictureFormat::Png,
            model_folders: Vec::new(),
            layout: Layout::default(),
            window: WindowPlace::default(),
        }
    }
}

impl Settings {
    /// The folder that finished pictures go to.
    pub fn pictures_folder(&self) -> PathBuf {
        self.pictures.clone().unwrap_or_else(default_pictures)
    }

    /// What a file edited by hand could break is brought back into range.
    fn mended(mut self) -> Self {
        if !(0.5..=3.0).contains(&self.zoom) {
            self.zoom = 1.0;
        }
        let [width, height] = self.window.size;
        if !(width.is_finite() && height.is_finite() && width >= 100.0 && height >= 100.0) {
            self.window = WindowPlace::default();
        }
        self
    }
}

/// `Easel` in the user's pictures folder; in the home folder where there is none.
pub fn default_pictures() -> PathBuf {
    let users = directories::UserDirs::new();
    let pictures = users.as_ref().and_then(|dirs| dirs.picture_dir());
    match (pictures, &users) {
        (Some(pictures), _) => pictures.join("Easel"),
        (None, Some(users)) => users.home_dir().join("Pictures").join("Easel"),
        (None, None) => PathBuf::from("Easel"),
    }
}

/// `settings.json` in the user's configuration folder; `None` where the system names no such folder.
pub fn default_path() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "Easel")?;
    Some(dirs.config_dir().join("settings.json"))
}

/// Reads settings. A missing file gives the defaults. Of a file with values that this version does
/// not know, each of those takes its default and the others stay; a file that is no JSON gives the
/// defaults. Both are kept beside the new one as `settings.json.broken`.
pub fn load(path: &Path) -> Settings {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Settings::default(),
        Err(error) => {
            log::warn!("{}", Error::io("Reading", path, error));
            return Settings::default();
        }
    };
    match serde_json::from_slice::<Settings>(&bytes) {
        Ok(settings) => settings.mended(),
        Err(why) => {
            let aside = path.with_extension("json.broken");
            log::warn!(
                "The settings {} cannot be read whole ({why}); kept as {}",
                path.display(),
                aside.display()
            );
            if let Err(error) = std::fs::rename(path, &aside) {
                log::warn!("{}", Error::io("Saving", &aside, error));
            }
            serde_json::from_slice(&bytes)
                .map(understood)
                .unwrap_or_default()
                .mended()
        }
    }
}

/// What can be read of settings that cannot be read whole.
fn understood(file: Value) -> Settings {
    let mut known = serde_json::to_value(Settings::default()).unwrap_or_default();
    take_over(&mut known, &[], file);
    serde_json::from_value(known).unwrap_or_default()
}

/// Puts `value` at `place` of settings that can be read; where they then no longer can be, its parts
/// one by one, and what has no parts not at all.
fn take_over(known: &mut Value, place: &[String], value: Value) {
    let mut with = known.clone();
    let mut at = &mut with;
    for key in place {
        if !at.is_object() {
            *at = Value::Object(Default::default());
        }
        let Value::Object(parts) = at else {
            return;
        };
        at = parts.entry(key.clone()).or_insert(Value::Null);
    }
    // The whole object is not put there: it would take away what the file says nothing of.
    if let Value::Object(parts) = value {
        for (key, part) in parts {
            take_over(known, &[place, &[key]].concat(), part);
        }
        return;
    }
    *at = value;
    if Settings::deserialize(&with).is_ok() {
        *known = with;
    } else {
        log::warn!("{} is not understood", place.join("."));
    }
}

/// Writes settings now.
///
/// Errors: [`Error::Io`] with the path.
pub fn save(path: &Path, settings: &Settings) -> Result<()> {
    let json = serde_json::to_vec_pretty(settings)
        .map_err(|error| Error::io("Saving", path, error.into()))?;
    atomic_write(path, &json)
}

/// Writes settings from a thread of its own, shortly after the last change.
#[derive(Debug)]
pub struct Saver {
    changes: Option<Sender<Settings>>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    /// Starts the thread.
    ///
    /// Errors: [`Error::Io`] where the system gives no thread.
    pub fn start(path: PathBuf) -> Result<Self> {
        let (changes, changed) = bounded(64);
        let thread_path = path.clone();
        let thread = std::thread::Builder::new()
            .name("easel-settings".to_owned())
            .spawn(move || write_changes(&thread_path, &changed))
            .map_err(|source| Error::io("Saving", &path, source))?;
        Ok(Self {
            changes: Some(changes),
            thread: Some(thread),
        })
    }

    /// Hands over a change; `false`: not taken now, offer it again. Never waits.
    pub fn offer(&self, settings: &Settings) -> bool {
        let Some(changes) = &self.changes else {
            return true;
        };
        match changes.try_send(settings.clone()) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
            Err(TrySendError::Full(_)) => false,
        }
    }
}

impl Drop for Saver {
    /// Waits until the last change is on the disk.
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::warn!("The settings thread stopped unexpectedly");
        }
    }
}

fn write_changes(path: &Path, changed: &Receiver<Settings>) {
    while let Ok(mut latest) = changed.recv() {
        let closing = loop {
            match changed.recv_timeout(SETTLE) {
                Ok(newer) => latest = newer,
                Err(RecvTimeoutError::Timeout) => break false,
                Err(RecvTimeoutError::Disconnected) => break true,
            }
        };
        if let Err(error) = save(path, &latest) {
            log::warn!("{error}");
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_offered_last_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("easel/settings.json");
        let mut settings = Settings::default();
        let saver = Saver::start(path.clone()).unwrap();
        for steps in 1..=30 {
            settings.request.steps = Some(steps);
            settings.request.prompt = "一只企鹅, 3d style".to_owned();
            assert!(saver.offer(&settings));
        }
        drop(saver);
        assert_eq!(load(&path), settings);
    }

    #[test]
    fn a_broken_file_gives_defaults_and_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        std::fs::write(&path, b"{\"zoom\": \"large\"").unwrap();
        assert_eq!(load(&path), Settings::default());
        let aside = folder.path().join("settings.json.broken");
        assert_eq!(std::fs::read(aside).unwrap(), b"{\"zoom\": \"large\"");
        assert!(!path.exists());
    }

    #[test]
    fn a_value_that_is_not_known_leaves_the_others_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let json = r#"{"theme": "sepia", "zoom": 1.5, "model_folders": ["/models"],
            "layout": {"history_width": "wide", "history_open": false},
            "request": {"prompt": "a fox", "sampler": "warp", "steps": 31,
                        "tuning": {"eta": 0.5, "rho": []}, "upscale": {"with": "x.pth"}},
            "window": 7}"#;
        std::fs::write(&path, json).unwrap();
        let settings = load(&path);
        let mut expected = Settings {
            zoom: 1.5,
            model_folders: vec![PathBuf::from("/models")],
            ..Settings::default()
        };
        expected.layout.history_open = false;
        expected.request.prompt = "a fox".to_owned();
        expected.request.steps = Some(31);
        expected.request.tuning.eta = Some(0.5);
        expected.request.upscale = crate::request::Upscale::With(PathBuf::from("x.pth"));
        assert_eq!(settings, expected);
        let aside = folder.path().join("settings.json.broken");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), json);
    }

    #[test]
    fn an_older_file_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let json = r#"{"theme": "light", "zoom": 40, "request": {"prompt": "a fox"}, "gone": 1}"#;
        std::fs::write(&path, json).unwrap();
        let settings = load(&path);
        assert_eq!(settings.theme, ThemeChoice::Light);
        assert_eq!(settings.request.prompt, "a fox");
        assert_eq!(settings.zoom, 1.0, "out of range");
    }
}
