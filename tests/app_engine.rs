//! Drives the real window over the real worker with the model that ships: pictures form, are saved,
//! are cancelled, and a broken model is a message after which the next job works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use app_support::setup;
use crossbeam_channel::{Receiver, bounded};
use easel::app::App;
use easel::app::state::{JobStatus, State, View};
use easel::request::Upscale;
use easel::settings::Settings;
use easel::worker::{Priority, WorkerConfig, start};
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

/// How long the worker may say nothing before a test gives up; a hang, not a slow machine.
const SILENCE: Duration = Duration::from_secs(180);

struct Window {
    harness: Harness<'static, App>,
    wakes: Receiver<()>,
    pictures: tempfile::TempDir,
}

impl Window {
    fn open(change: impl FnOnce(&mut Settings)) -> Self {
        let pictures = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            pictures: Some(pictures.path().to_path_buf()),
            ..Settings::default()
        };
        settings.request.prompt = "a star, 3d style".to_owned();
        settings.request.steps = Some(4);
        change(&mut settings);
        let (wake, wakes) = bounded(1);
        let worker = start(WorkerConfig {
            weights: Path::new(env!("CARGO_MANIFEST_DIR")).join("weights"),
            cache: None,
            priority: Priority::BelowWindow,
            wake: Box::new(move || {
                // A wake that waits already is enough.
                let _ = wake.try_send(());
            }),
        })
        .unwrap();
        let harness = Harness::builder()
            .with_size([1280.0, 820.0])
            .build_eframe(move |creation| App::new(&creation.egui_ctx, worker, setup(settings)));
        Self {
            harness,
            wakes,
            pictures,
        }
    }

    fn state(&self) -> &State {
        self.harness.state().state()
    }

    /// Frame after frame, as the worker wakes the window, until something is seen.
    fn until(&mut self, what: &str, seen: impl Fn(&State) -> bool) {
        loop {
            self.harness.step();
            if seen(self.state()) {
                return;
            }
            if self.wakes.recv_timeout(SILENCE).is_err() {
                panic!("never saw {what}; jobs: {:#?}", self.state().jobs);
            }
        }
    }

    fn press(&mut self, label: &str) {
        self.harness
            .get_by_role_and_label(Role::Button, label)
            .click();
        self.harness.step();
        self.harness.step();
    }

    /// Presses Generate and waits until something of the job is true.
    fn generate(&mut self) {
        self.press("Generate");
        assert!(self.state().viewed_job().is_some());
    }

    fn until_done(&mut self) -> PathBuf {
        self.until("the end of the job", |state| {
            state.viewed_job().is_some_and(|job| !job.open())
        });
        let status = &self.state().viewed_job().unwrap().status;
        assert!(matches!(status, JobStatus::Done { .. }), "{status:?}");
        self.state().current_path().unwrap().to_path_buf()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.pictures.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }
}

#[test]
fn a_picture_forms_is_saved_and_comes_back_from_the_history_with_its_settings() {
    let mut window = Window::open(|_| {});
    window.until("the models", |state| state.models.searched);
    window.until("the tokens", |state| {
        state
            .tokens
            .counted
            .as_ref()
            .is_some_and(|(_, tokens)| tokens.is_some_and(|count| count > 3))
    });
    window.generate();
    window.until("a preview", |state| {
        state
            .viewed_job()
            .is_some_and(|job| job.preview_step.is_some())
    });
    let path = window.until_done();
    assert_eq!(window.files(), std::slice::from_ref(&path));
    assert_eq!(window.state().history.paths, std::slice::from_ref(&path));
    let drawn = window.state().current().unwrap();
    assert_eq!((drawn.pixels.width_px, drawn.pixels.height_px), (256, 256));
    let settings = drawn.settings.cloned().unwrap();
    assert_eq!(settings.steps, 4);
    assert_eq!(Some(settings.seed), window.state().settings.request.seed);
    let pixels = drawn.pixels.clone();

    let folder = path.parent().unwrap().file_name().unwrap();
    let name = format!(
        "{}/{}: a star, 3d style",
        folder.to_string_lossy(),
        path.file_name().unwrap().to_string_lossy()
    );
    window.press(&name);
    assert_eq!(window.state().view, View::Saved(path));
    window.until("the opened picture", |state| state.current().is_some());
    let opened = window.state().current().unwrap();
    assert_eq!(*opened.pixels, pixels);
    assert_eq!(opened.settings, Some(&settings));
    window.press("Reuse");
    let request = &window.state().settings.request;
    assert_eq!(request.seed, Some(settings.seed));
    assert_eq!(request.steps, Some(4));
    assert!(window.state().settings.seed_locked);
}

#[test]
fn a_cancelled_drawing_leaves_no_file_and_the_next_job_works() {
    let mut window = Window::open(|settings| {
        settings.request.steps = Some(200);
        settings.request.upscale = Upscale::None;
    });
    window.generate();
    window.until("a step", |state| {
        state
            .viewed_job()
            .and_then(|job| job.progress)
            .is_some_and(|progress| progress.step >= 1)
    });
    window.press("Cancel");
    window.until("the end of the job", |state| !state.busy());
    let job = window.state().viewed_job().unwrap();
    assert_eq!(job.status, JobStatus::Cancelled);
    let reached = job.pictures[0].as_ref().expect("what was reached");
    let after = reached.settings.cancelled_after.unwrap();
    assert!((1..200).contains(&after), "{after}");
    assert_eq!(reached.path, None);
    assert_eq!(window.files(), Vec::<PathBuf>::new());

    window
        .harness
        .get_by_role_and_label(Role::Slider, "Steps")
        .set_value_accesskit(2.0);
    window.harness.step();
    window.generate();
    let path = window.until_done();
    assert_eq!(window.files(), [path]);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_broken_model_is_a_message_and_another_one_draws() {
    let broken = tempfile::tempdir().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter");
    copy_folder(&starter, broken.path());
    // As an interrupted download leaves it.
    let weights = broken
        .path()
        .join("unet/diffusion_pytorch_model.safetensors");
    let file = std::fs::File::options().write(true).open(weights).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let model = broken.path().to_path_buf();
    let mut window = Window::open(|settings| settings.request.model = Some(model));
    window.until("the refusal to load it", |state| {
        state.models.searched && state.models.failure.is_some()
    });
    window.generate();
    window.until("the failure", |state| !state.busy());
    let job = window.state().viewed_job().unwrap();
    assert!(matches!(job.status, JobStatus::Failed(_)), "{job:?}");
    assert_eq!(window.state().settings.request.prompt, "a star, 3d style");
    window.harness.get_by_label("Choose another model…");
    let menu = window.harness.get_all_by_role(Role::Button).find(|node| {
        node.accesskit_node()
            .label()
            .is_some_and(|label| label.starts_with("Model: "))
    });
    menu.expect("the model menu").click();
    window.harness.step();
    window.harness.step();
    window
        .harness
        .get_by_label_contains("Stable Diffusion · ")
        .click();
    window.harness.step();
    window.harness.step();
    assert_eq!(window.state().settings.request.model, None);
    window.generate();
    let path = window.until_done();
    assert_eq!(window.files(), [path]);
}

#[test]
fn reuse_draws_with_a_model_and_a_vae_that_were_moved_since() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter");
    copy_folder(&starter, &before.join("mine"));
    std::fs::remove_file(before.join("mine/easel.json")).unwrap();
    copy_folder(&starter.join("vae"), &before.join("fine vae"));
    let mut window = Window::open(|settings| {
        settings.model_folders = vec![before.clone()];
        settings.request.model = Some(before.join("mine"));
        settings.request.vae = Some(before.join("fine vae"));
        settings.request.steps = Some(1);
    });
    window.until("the models", |state| state.models.searched);
    window.generate();
    let path = window.until_done();
    let drawn = window.state().current().unwrap().pixels.clone();

    std::fs::rename(&before, &after).unwrap();
    let pictures = window.pictures.path().to_path_buf();
    let mut window = Window::open(|settings| {
        settings.model_folders = vec![after.clone()];
        settings.pictures = Some(pictures);
    });
    window.until("the models and the picture", |state| {
        state.models.searched && !state.models.add_ons.is_empty() && state.history.listed
    });
    let folder = path.parent().unwrap().file_name().unwrap();
    let name = format!(
        "{}/{}",
        folder.to_string_lossy(),
        path.file_name().unwrap().to_string_lossy()
    );
    window.press(&name);
    window.until("the opened picture", |state| state.current().is_some());
    window.press("Reuse");
    let request = &window.state().settings.request;
    assert_eq!(request.model, Some(after.join("mine")));
    assert_eq!(request.vae, Some(after.join("fine vae")));
    window.generate();
    window.until_done();
    assert_eq!(*window.state().current().unwrap().pixels, drawn);
}
