//! What the worker reports, into the state. Runs before every frame and while the window is hidden.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::Context;

use super::App;
use super::dialogs::{Answer, Question};
use super::state::{Job, JobStatus, Loading, Offer, Toast, View, Work, file_name, friendly_path};
use super::textures::Place;
use crate::error::Remedy;
use crate::request::{ModelCard, RefinerChoice};
use crate::settings::default_pictures;
use crate::worker::message::{
    Event, Failure, FileCommand, JobId, JobPlan, ModelChoice, OpenedPicture, Picture,
};

/// Time a frame may spend on events; what is left waits for the next frame.
const BUDGET: Duration = Duration::from_millis(4);

/// Pictures whose prompts are read in one go: thumbnails wait no longer than for these.
const PROMPTS_AT_ONCE: usize = 32;

impl App {
    /// Takes what has come: events, the newest previews, answers of dialogs.
    pub(super) fn take_reports(&mut self, ctx: &Context) {
        let begun = Instant::now();
        while let Ok(event) = self.worker.events().try_recv() {
            self.on_event(ctx, event);
            if begun.elapsed() > BUDGET {
                ctx.request_repaint();
                break;
            }
        }
        if let Some(preview) = self.worker.previews().take()
            && let Some(job) = self.state.job_mut(preview.job).filter(|job| job.open())
        {
            job.preview_step = Some(preview.step);
            for (offset, pixels) in preview.pictures.iter().enumerate() {
                let place = Place {
                    job: preview.job,
                    index: preview.first + offset,
                    count: job.pictures.len(),
                };
                self.textures.set_job(ctx, place, pixels, false);
            }
        }
        while let Ok(answer) = self.answers.1.try_recv() {
            self.on_answer(answer);
        }
    }

    fn on_event(&mut self, ctx: &Context, event: Event) {
        match event {
            Event::ModelLoading { name, fraction } => {
                self.state.models.loading = Some(Loading { name, fraction });
                self.state.models.failure = None;
            }
            Event::ModelReady(loaded) => {
                let models = &mut self.state.models;
                (models.loading, models.failure, models.loaded) = (None, None, Some(loaded));
                self.state.tokens.counted = None;
            }
            Event::LoadingStopped => self.state.models.loading = None,
            Event::ModelFailed { model, failure } => self.on_model_failed(model, failure),
            Event::Started { job, plan } => self.on_started(job, plan),
            Event::Progress { job, progress } => {
                if let Some(job) = self.state.job_mut(job) {
                    job.status = JobStatus::Running;
                    job.progress = Some(progress);
                    job.progress_at = ctx.input(|input| input.time);
                }
            }
            Event::PictureDone {
                job,
                index,
                picture,
            } => self.on_picture(ctx, job, index, picture),
            Event::Finished { job, elapsed_secs } => {
                self.on_end(job, JobStatus::Done { elapsed_secs });
            }
            Event::Failed { job, failure } => self.on_failed(job, failure),
            Event::Cancelled { job } => self.on_end(job, JobStatus::Cancelled),
            Event::ModelsFound(cards) => self.on_models(cards),
            Event::ModelsChanged(cards) => {
                self.state.models.found = cards;
                self.state.look_up_opened();
            }
            Event::AddOnsFound(add_ons) => {
                self.state.take_add_ons(add_ons);
                self.state.look_up_opened();
            }
            Event::HistoryListed(paths) => self.on_history(paths),
            Event::HistoryFailed { root, failure } => {
                let history = &mut self.state.history;
                // Those of another folder go.
                history.paths.retain(|path| path.starts_with(&root));
                history.listed = false;
                history.failure = Some(failure);
            }
            Event::ThumbnailReady { path, pixels } => {
                self.state.history.asked.remove(&path);
                self.textures.set_thumbnail(ctx, &path, &pixels);
            }
            Event::PictureOpened { path, opened } => self.on_opened(ctx, path, opened),
            Event::PromptsRead(read) => {
                self.state.history.reading_prompts = false;
                self.state.history.prompts.extend(read);
                self.read_prompts();
            }
            Event::EmbeddingWords(words) => self.state.take_embedding_words(words),
            Event::PictureUnreadable { path, failure } => self.on_unreadable(path, failure),
            Event::Kept { picture, path } => self.on_kept(&picture, &path),
            Event::SavedAs { path } => self.state.say(format!("Saved as {}", friendly_path(&path))),
            Event::Deleted { path } => self.on_deleted(&path),
            Event::Restored { path } => {
                self.undo.restored(&path);
                self.state
                    .toasts
                    .retain(|toast| toast.undo.as_ref() != Some(&path));
                self.state.put_back(path.clone());
                self.show_saved(path);
            }
            Event::TokensCounted { asked, tokens } => {
                self.state.tokens.asking = false;
                self.state.tokens.counted = Some((asked, tokens));
            }
            // The file manager itself is the answer.
            Event::ShownInFolder { .. } => {}
            // Only the command line asks.
            Event::Profiled { .. } => {}
            Event::FileFailed(failure) => self.state.complain(failure.message),
        }
    }

    fn on_model_failed(&mut self, model: Option<PathBuf>, failure: Failure) {
        self.state.models.loading = None;
        if model == self.state.settings.request.model {
            self.state.models.failure = Some(failure);
        }
    }

    fn on_started(&mut self, id: JobId, plan: JobPlan) {
        self.state.models.loading = None;
        let Some(job) = self.state.job_mut(id) else {
            return;
        };
        job.status = JobStatus::Running;
        job.pictures.resize(plan.seeds.len().max(1), None);
        job.plan = Some(plan);
        self.follow(id);
    }

    /// Looks at a job, unless the person looks at something from the history, at another drawing, or
    /// at a picture that is nowhere else.
    fn follow(&mut self, id: JobId) {
        let free = match &self.state.view {
            View::Welcome => true,
            View::Saved(_) => false,
            View::Job(viewed) => {
                let kept = |job: &Job| job.open() || job.unsaved();
                *viewed != id && !self.state.job(*viewed).is_some_and(kept)
            }
        };
        if free {
            self.look_at_job(id);
        }
    }

    fn on_picture(&mut self, ctx: &Context, id: JobId, index: usize, picture: Arc<Picture>) {
        let count = self.state.job(id).map_or(1, |job| job.pictures.len());
        let place = Place {
            job: id,
            index,
            count,
        };
        self.textures.set_job(ctx, place, &picture.pixels, true);
        if let Some(path) = &picture.path {
            self.state.remember(path, &picture.settings.prompt);
        }
        if let Some(failure) = &picture.save_failure {
            self.state
                .complain(format!("Not saved: {}", failure.message));
        }
        if let Some(job) = self.state.job_mut(id)
            && let Some(place) = job.pictures.get_mut(index)
        {
            *place = Some(picture);
        }
    }

    /// A picture that could not be saved before lies in another folder now.
    fn on_kept(&mut self, picture: &Arc<Picture>, path: &Path) {
        self.state.remember(path, &picture.settings.prompt);
        let places = self.state.jobs.iter_mut().flat_map(|job| &mut job.pictures);
        for place in places.flatten() {
            if Arc::ptr_eq(place, picture) {
                let saved = Picture {
                    path: Some(path.to_path_buf()),
                    save_failure: None,
                    ..(**picture).clone()
                };
                *place = Arc::new(saved);
            }
        }
        self.state.drop_old_jobs();
    }

    fn on_end(&mut self, id: JobId, status: JobStatus) {
        if let Some(job) = self.state.job_mut(id) {
            job.status = status;
        }
        self.show_unsaved(id);
        self.state.drop_old_jobs();
    }

    /// A picture that could not be saved comes into view with what helps, before it is forgotten.
    fn show_unsaved(&mut self, id: JobId) {
        let unsaved = self.state.job(id).is_some_and(Job::unsaved);
        let viewed = self.state.viewed_job();
        if unsaved && !viewed.is_some_and(|job| job.open() || job.unsaved()) {
            self.look_at_job(id);
        }
    }

    fn on_failed(&mut self, id: JobId, mut failure: Failure) {
        self.state.models.loading = None;
        let message = failure.message.clone();
        if let Some(job) = self.state.job_mut(id) {
            // A smaller drawing makes no room for a picture that is there already.
            if matches!(job.work, Work::Enlarge(_)) && failure.remedy == Some(Remedy::ReduceSize) {
                failure.remedy = None;
            }
            job.status = JobStatus::Failed(failure);
        }
        self.state.details_open = false;
        self.follow(id);
        if self.state.view != View::Job(id) {
            self.state.complain(message);
        }
        self.state.drop_old_jobs();
    }

    fn on_models(&mut self, cards: Vec<ModelCard>) {
        let before = std::mem::replace(&mut self.state.models.found, cards);
        self.state.models.searched = true;
        self.state.look_up_opened();
        let Some(wanted) = self.state.models.wanted.take() else {
            return;
        };
        let inside = |card: &&ModelCard| {
            card.path
                .as_ref()
                .is_some_and(|path| path.starts_with(&wanted))
        };
        // A folder may list others, as ComfyUI's does: then what is new was wanted.
        let known = |card: &&ModelCard| {
            card.path.is_none() || before.iter().any(|old| old.path == card.path)
        };
        let found = &self.state.models.found;
        let chosen = found
            .iter()
            .find(inside)
            .or_else(|| found.iter().find(|card| !known(card)));
        let add_ons = &self.state.models.add_ons;
        match chosen {
            Some(card) => self.choose_model(card.path.clone()),
            // A folder of LoRAs or VAEs holds no model, and is of use all the same.
            None if add_ons.iter().any(|it| it.path.starts_with(&wanted)) => {}
            None => {
                self.state
                    .settings
                    .model_folders
                    .retain(|folder| *folder != wanted);
                self.send_file(FileCommand::CheckModel { path: wanted });
            }
        }
    }

    /// The whole list anew; what could not be read before may be whole now.
    fn on_history(&mut self, paths: Vec<PathBuf>) {
        let viewed = self.state.current_path().map(Path::to_path_buf);
        let history = &mut self.state.history;
        history
            .unreadable
            .retain(|path, _| Some(path) == viewed.as_ref());
        history.paths = paths;
        (history.listed, history.failure) = (true, None);
        self.read_prompts();
    }

    /// While somebody searches, what older pictures were drawn from is read, some at a time.
    pub(super) fn read_prompts(&mut self) {
        if !self.state.history.search_open || self.state.history.reading_prompts {
            return;
        }
        let paths = self.state.unread_prompts(PROMPTS_AT_ONCE);
        if !paths.is_empty() {
            self.state.history.reading_prompts = true;
            self.send_file(FileCommand::ReadPrompts { paths });
        }
    }

    fn on_opened(&mut self, ctx: &Context, path: PathBuf, opened: OpenedPicture) {
        self.textures.set_opened(ctx, &path, &opened.pixels);
        if let Some(recipe) = &opened.recipe {
            self.state
                .history
                .prompts
                .insert(path.clone(), recipe.request.prompt.clone());
        }
        if self.state.offer == Some(Offer::Reading(path.clone())) {
            self.state.offer = Some(match &opened.recipe {
                Some(recipe) => Offer::Recipe {
                    path: path.clone(),
                    recipe: recipe.clone(),
                },
                None => Offer::NoRecipe(path.clone()),
            });
        }
        self.state.history.opened = Some((path, opened));
        self.state.look_up_opened();
    }

    fn on_unreadable(&mut self, path: PathBuf, failure: Failure) {
        self.state.history.asked.remove(&path);
        if self.state.offer == Some(Offer::Reading(path.clone())) {
            self.state.offer = None;
        }
        self.state.history.unreadable.insert(path, failure);
    }

    fn on_deleted(&mut self, path: &Path) {
        let place = self
            .state
            .history_matches()
            .iter()
            .position(|known| *known == path);
        let viewed = self.state.current_path() == Some(path);
        self.state.history.paths.retain(|known| known != path);
        self.textures.forget(path);
        self.undo.deleted(path.to_path_buf());
        self.state.tell(Toast {
            undo: Some(path.to_path_buf()),
            ..Toast::new(format!("{} is in the trash", file_name(path)))
        });
        if !viewed {
            return;
        }
        let next = place.and_then(|place| {
            let matches = self.state.history_matches();
            matches
                .get(place)
                .or(matches.last())
                .map(|path| (*path).clone())
        });
        match next {
            Some(next) => self.show_saved(next),
            None => self.look_at(View::Welcome),
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let (question, path) = match answer {
            Answer::Chosen { question, path } => (question, path),
            Answer::NoDialog(question) => return self.go_on_without_dialog(question),
        };
        match question {
            Question::ModelFolder | Question::ModelFile => self.open_model(path),
            Question::Vae => self.state.settings.request.vae = Some(path),
            Question::Refiner => {
                let start = RefinerChoice::START;
                self.state.settings.request.refiner = Some(RefinerChoice { path, start });
            }
            Question::Unet => self.state.settings.request.unet = Some(path),
            Question::Wildcards => self.state.settings.request.wildcards = Some(path),
            Question::PicturesFolder => self.choose_pictures_folder(path),
            Question::SaveAs(picture) => {
                self.send_file(FileCommand::SaveAs { picture, to: path });
            }
        }
    }

    /// Says that nobody can be asked, and the way out; a picture that lies nowhere is kept.
    fn go_on_without_dialog(&mut self, question: Question) {
        let way_out = match question {
            Question::ModelFolder | Question::ModelFile => {
                "Models can be dropped on the window instead.".to_owned()
            }
            Question::Vae | Question::Refiner | Question::Unet => {
                "Drop a folder with the file on the window: what lies in it can be chosen here."
                    .to_owned()
            }
            Question::Wildcards => {
                "Lists in a folder named wildcards, within a folder of models, are found without."
                    .to_owned()
            }
            Question::PicturesFolder => {
                "easel generate --output names a folder on the command line.".to_owned()
            }
            Question::SaveAs(picture) => match &picture.path {
                Some(path) => format!("The picture is saved already: {}", friendly_path(path)),
                None => {
                    // Where it could not be saved, it cannot be saved now.
                    let root = match picture.homeless() {
                        true => default_pictures(),
                        false => self.state.settings.pictures_folder(),
                    };
                    let said = format!("The picture goes to {}.", friendly_path(&root));
                    let format = self.state.settings.format;
                    self.send_file(FileCommand::Keep {
                        picture,
                        root,
                        format,
                    });
                    said
                }
            },
        };
        self.state.complain(format!(
            "This system has no file dialog (install xdg-desktop-portal or zenity). {way_out}"
        ));
    }

    /// Later pictures go there, and those that found no place before.
    fn choose_pictures_folder(&mut self, folder: PathBuf) {
        let format = self.state.settings.format;
        let pictures = self.state.jobs.iter().flat_map(|job| &job.pictures);
        let homeless = pictures.flatten().filter(|picture| picture.homeless());
        for picture in homeless.cloned().collect::<Vec<_>>() {
            self.send_file(FileCommand::Keep {
                picture,
                root: folder.clone(),
                format,
            });
        }
        self.state.settings.pictures = Some(folder);
    }

    /// Reads the prompts for slips, once nobody types any more: nothing jumps below a moving hand.
    pub(super) fn follow_prompts(&mut self) {
        let emphasis = self.state.emphasis();
        let state = &mut self.state;
        let request = &state.settings.request;
        for (text, checked) in [
            (&request.prompt, &mut state.checked),
            (&request.negative_prompt, &mut state.checked_negative),
        ] {
            checked.settle(text, emphasis, &state.names);
        }
    }

    /// Who comes back to the window may have drawn elsewhere, or put a model into a folder.
    pub(super) fn follow_focus(&mut self, ctx: &Context) {
        let focused = ctx.input(|input| input.viewport().focused.unwrap_or(true));
        if focused && !self.focused {
            self.listed_root = None;
            self.find_models();
        }
        self.focused = focused;
    }

    /// Sends what follows from a change of the settings: another model, another folder, other words.
    pub(super) fn follow_settings(&mut self) {
        self.state.follow_names();
        let request = &self.state.settings.request;
        if self.asked_embeddings != request.embeddings {
            let paths = request.embeddings.clone();
            self.asked_embeddings.clone_from(&paths);
            self.send_file(FileCommand::ReadEmbeddings { paths });
        }
        let request = &self.state.settings.request;
        let model = ModelChoice::from(request);
        if self.asked_model.as_ref() != Some(&model) {
            self.load_model(model);
        }
        let root = self.state.settings.pictures_folder();
        if self.listed_root.as_ref() != Some(&root) {
            self.send_file(FileCommand::ListHistory { root: root.clone() });
            self.listed_root = Some(root);
        }
        if self.searched_wildcards != self.state.settings.request.wildcards {
            self.find_models();
        }
        let asked = self.state.tokens_asked();
        let tokens = &mut self.state.tokens;
        let counted = tokens.counted.as_ref().map(|(asked, _)| asked);
        if !tokens.asking && counted != Some(&asked) {
            tokens.asking = true;
            self.send_file(FileCommand::CountTokens(asked));
        }
    }
}
