//! The one place where commands are carried out; every arm is one call.

use std::path::PathBuf;
use std::sync::Arc;

use egui::{Context, Popup, ViewportCommand};

use super::App;
use super::command::{Action, UiCommand};
use super::dialogs::{Question, Reply};
use super::lora_tags;
use super::panels::{failure, ideas, models, picture, prompt, top_bar};
use super::state::{Dialog, Job, Offer, View, Work};
use super::textures::{self, Place};
use super::undo::{Draft, Step, changed_end};
use crate::error::Remedy;
use crate::request::{
    AddOn, AddOnKind, DeviceChoice, DtypeChoice, GenerationRequest, LoraNotes, SaveTarget, new_seed,
};
use crate::settings::ThemeChoice;
use crate::worker::message::{self, Command, FileCommand, JobId, ModelChoice, Picture};

/// A second Esc within this many seconds clears the queue.
const TWICE_SECS: f64 = 3.0;
/// How often the upscaler multiplies width and height.
const ENLARGES: u32 = 4;

impl App {
    pub(super) fn execute(&mut self, ctx: &Context, action: Action) {
        match action {
            Action::Ui(command) => self.execute_ui(ctx, command),
            Action::ChooseModel(model) => self.choose_model(model),
            Action::OpenModel(path) => self.open_model(path),
            Action::ForgetModelFolder(path) => self.forget_model_folder(&path),
            Action::SetPrompt(prompt) => self.set_prompt(prompt),
            Action::AddWord { word, instead_of } => {
                let prompt = &self.state.settings.request.prompt;
                self.set_prompt(ideas::add_word(prompt, &word, &instead_of));
            }
            Action::AddLora(name) => self.add_lora(&name),
            Action::ShowSaved(path) => self.show_saved(path),
            Action::LookAt(index) => self.look_closely(index),
            Action::CancelJob(id) => self.cancel(id),
            Action::Remedy(remedy) => self.remedy(ctx, remedy),
            Action::Restore(path) => self.restore(path),
            Action::UseRecipe => self.use_recipe(),
            Action::DismissOffer => self.state.offer = None,
            Action::WantThumbnail(path) => self.want_thumbnail(path),
            Action::ToggleSearch => self.toggle_search(),
            Action::CopyText(text) => ctx.copy_text(text),
        }
    }

    fn execute_ui(&mut self, ctx: &Context, command: UiCommand) {
        match command {
            UiCommand::Generate => self.generate(),
            UiCommand::Cancel => self.cancel_active(ctx),
            UiCommand::CancelAll => self.cancel_all(),
            UiCommand::Heavier | UiCommand::Lighter => {
                prompt::change_weight(ctx, &mut self.state, command);
            }
            UiCommand::SaveAs => self.save_as(ctx),
            UiCommand::Copy => self.copy(ctx),
            UiCommand::Reuse => self.reuse(),
            UiCommand::Vary => self.vary(),
            UiCommand::Enlarge => self.enlarge(ctx),
            UiCommand::Delete => self.delete(),
            UiCommand::Undo => self.undo(ctx),
            UiCommand::Redo => self.redo(ctx),
            UiCommand::ShowInFolder => self.show_in_folder(),
            UiCommand::Newer => self.walk(ctx, Direction::Newer),
            UiCommand::Older => self.walk(ctx, Direction::Older),
            UiCommand::FullPicture => self.toggle_full_picture(ctx),
            UiCommand::ChooseModelFolder => self.question(ctx, Question::ModelFolder),
            UiCommand::ChooseModelFile => self.question(ctx, Question::ModelFile),
            UiCommand::ChooseVae => self.question(ctx, Question::Vae),
            UiCommand::ChooseRefiner => self.question(ctx, Question::Refiner),
            UiCommand::ChooseUnet => self.question(ctx, Question::Unet),
            UiCommand::ChooseWildcards => self.question(ctx, Question::Wildcards),
            UiCommand::ChoosePicturesFolder => self.question(ctx, Question::PicturesFolder),
            UiCommand::ToggleHistory => self.toggle_history(ctx),
            UiCommand::ToggleControls => self.state.drawer_open = !self.state.drawer_open,
            UiCommand::ToggleTheme => self.toggle_theme(ctx),
            UiCommand::Settings => self.state.dialog = Some(Dialog::Settings),
            UiCommand::Help => self.state.dialog = Some(Dialog::Help),
            UiCommand::LargerText => egui::gui_zoom::zoom_in(ctx),
            UiCommand::SmallerText => egui::gui_zoom::zoom_out(ctx),
            UiCommand::NormalText => ctx.set_zoom_factor(1.0),
        }
    }

    // --- drawing ---

    fn generate(&mut self) {
        if self.state.no_model() {
            return;
        }
        let settings = &mut self.state.settings;
        if !settings.seed_locked || settings.request.seed.is_none() {
            settings.request.seed = Some(new_seed());
        }
        let request = self.state.settings.request.clone();
        if self.last_drawn.as_ref() == Some(&request) {
            self.state
                .say("Same seed and settings: this is the same picture again");
        }
        self.last_drawn = Some(request.clone());
        self.draw(request);
    }

    /// Sends a request to the engine and looks at it, unless something is being drawn.
    fn draw(&mut self, request: GenerationRequest) {
        let id = self.next_job();
        let settings = &self.state.settings;
        let job = message::Job {
            id,
            request: request.clone(),
            save_to: SaveTarget::Library(settings.pictures_folder()),
            format: settings.format,
            latents_to: None,
            model_folders: settings.model_folders.clone(),
            profile: false,
            previews: settings.previews,
        };
        self.queue(
            Command::Generate(job),
            Job::new(id, Work::Draw(Box::new(request))),
        );
    }

    fn queue(&mut self, command: Command, job: Job) {
        if let Err(error) = self.worker.send(command) {
            return self.state.complain(error.to_string());
        }
        let alone = !self.state.busy();
        let id = job.id;
        self.state.jobs.push(job);
        if alone {
            self.look_at_job(id);
        }
        self.state.drawer_open = false;
        self.escaped_at = None;
    }

    fn next_job(&mut self) -> JobId {
        self.last_job += 1;
        JobId(self.last_job)
    }

    fn cancel(&mut self, id: JobId) {
        self.worker.cancel(id);
        if let Some(job) = self.state.job_mut(id) {
            job.cancelling = true;
        }
    }

    /// Esc: the drawing; again, shortly after: everything.
    fn cancel_active(&mut self, ctx: &Context) {
        let now = ctx.input(|input| input.time);
        let again = self
            .escaped_at
            .is_some_and(|before| now - before < TWICE_SECS);
        let active = self.state.active_job().map(|job| (job.id, job.cancelling));
        match active {
            Some((id, false)) if !again => self.cancel(id),
            Some(_) => self.cancel_all(),
            None => {}
        }
        self.escaped_at = Some(now);
    }

    fn cancel_all(&mut self) {
        let open: Vec<JobId> = self
            .state
            .jobs
            .iter()
            .filter(|job| job.open())
            .map(|job| job.id)
            .collect();
        for id in open {
            self.cancel(id);
        }
    }

    fn remedy(&mut self, ctx: &Context, remedy: Remedy) {
        let failed = failure::failed_request(&self.state).cloned();
        let reduced = failure::reduced_size(&self.state);
        let change = |request: &mut GenerationRequest| match remedy {
            Remedy::UseCpu => request.device = DeviceChoice::Cpu,
            Remedy::UseF32 => request.dtype = DtypeChoice::F32,
            Remedy::ReduceSize => {
                (request.width_px, request.height_px) = (Some(reduced.0), Some(reduced.1));
            }
            Remedy::ChooseModel | Remedy::ChooseFolder => {}
        };
        match remedy {
            Remedy::UseCpu | Remedy::UseF32 | Remedy::ReduceSize => {
                change(&mut self.state.settings.request);
                if let Some(mut request) = failed {
                    change(&mut request);
                    self.draw(request);
                }
            }
            Remedy::ChooseModel if self.state.models.found.len() > 1 => {
                Popup::open_id(ctx, models::model_menu_id());
            }
            Remedy::ChooseModel => self.question(ctx, Question::ModelFolder),
            Remedy::ChooseFolder => self.question(ctx, Question::PicturesFolder),
        }
    }

    /// Names a LoRA in the prompt, as a person noted that it is used; one that is there stays as it is.
    fn add_lora(&mut self, name: &str) {
        let notes = AddOn::find(&self.state.models.add_ons, AddOnKind::Lora, name, None);
        let notes = notes.map(|lora| &lora.notes);
        let weight = notes.and_then(|notes| notes.weight).unwrap_or(1.0);
        let said = |text: fn(&LoraNotes) -> &String| notes.map_or("", |notes| text(notes).as_str());
        let request = &mut self.state.settings.request;
        if lora_tags::add(&mut request.prompt, name, weight, said(|it| &it.activation)) {
            request.negative_prompt =
                lora_tags::with_words(&request.negative_prompt, said(|it| &it.negative));
        }
    }

    // --- models ---

    pub(super) fn choose_model(&mut self, model: Option<PathBuf>) {
        self.state.settings.request.model = model;
        self.state.models.failure = None;
        self.state.tokens = Default::default();
        self.fit_size();
    }

    /// Sides that the person chose become multiples of what the model asks for.
    fn fit_size(&mut self) {
        let Some(factor) = self.state.card().map(|card| card.latent_factor.max(1)) else {
            return;
        };
        let request = &mut self.state.settings.request;
        for side in [&mut request.width_px, &mut request.height_px]
            .into_iter()
            .flatten()
        {
            *side = ((*side + factor / 2) / factor).max(1) * factor;
        }
    }

    pub(super) fn open_model(&mut self, path: PathBuf) {
        if !self.state.settings.model_folders.contains(&path) {
            self.state.settings.model_folders.push(path.clone());
        }
        self.state.models.wanted = Some(path);
        self.state.offer = None;
        self.find_models();
    }

    fn forget_model_folder(&mut self, path: &std::path::Path) {
        self.state
            .settings
            .model_folders
            .retain(|folder| folder != path);
        if self
            .state
            .settings
            .request
            .model
            .as_ref()
            .is_some_and(|model| model.starts_with(path))
        {
            self.choose_model(None);
        }
        self.find_models();
    }

    pub(super) fn find_models(&mut self) {
        let folders = self.state.settings.model_folders.clone();
        let wildcards = self.state.settings.request.wildcards.clone();
        self.searched_wildcards.clone_from(&wildcards);
        self.send_file(FileCommand::FindModels { folders, wildcards });
    }

    pub(super) fn load_model(&mut self, wanted: ModelChoice) {
        let command = Command::LoadModel(wanted.clone());
        if let Err(error) = self.worker.send(command) {
            self.state.complain(error.to_string());
        }
        self.asked_model = Some(wanted);
    }

    // --- pictures ---

    pub(super) fn look_at(&mut self, view: View) {
        self.state.view = view;
        self.state.close_up = None;
        self.state.zoom = Default::default();
        self.state.drop_old_jobs();
    }

    pub(super) fn look_at_job(&mut self, id: JobId) {
        self.look_at(View::Job(id));
    }

    fn look_closely(&mut self, index: Option<usize>) {
        self.state.close_up = index;
        self.state.zoom = Default::default();
    }

    pub(super) fn show_saved(&mut self, path: PathBuf) {
        let opened = self
            .state
            .history
            .opened
            .as_ref()
            .is_some_and(|(opened, _)| *opened == path);
        if !opened || self.state.view != View::Saved(path.clone()) {
            self.state.history.unreadable.remove(&path);
            self.send_file(FileCommand::OpenPicture { path: path.clone() });
        }
        self.look_at(View::Saved(path));
        self.state.drawer_open = false;
    }

    fn want_thumbnail(&mut self, path: PathBuf) {
        let size_px = super::theme::THUMBNAIL_PX;
        if self.state.history.asked.insert(path.clone()) {
            self.send_file(FileCommand::Thumbnail { path, size_px });
        }
    }

    fn toggle_search(&mut self) {
        let history = &mut self.state.history;
        history.search_open = !history.search_open;
        history.focus_search = history.search_open;
        history.query.clear();
        self.read_prompts();
    }

    fn walk(&mut self, ctx: &Context, direction: Direction) {
        let matches = self.state.history_matches();
        let place = self
            .state
            .current_path()
            .and_then(|path| matches.iter().position(|known| *known == path));
        let next = match (place, direction) {
            (None, _) => Some(0),
            (Some(place), Direction::Newer) => place.checked_sub(1),
            (Some(place), Direction::Older) => Some(place + 1),
        };
        if let Some(path) = next
            .and_then(|next| matches.get(next))
            .map(|path| (*path).clone())
        {
            self.show_saved(path);
            ctx.memory_mut(|memory| memory.request_focus(picture::picture_id()));
        }
    }

    fn save_as(&mut self, ctx: &Context) {
        let Some(current) = self.state.current() else {
            return;
        };
        let picture = match (current.picture, current.settings) {
            (Some(picture), _) => Arc::clone(picture),
            (None, Some(settings)) => Arc::new(Picture {
                pixels: current.pixels.clone(),
                settings: settings.clone(),
                recipe: None,
                path: current.path.map(std::path::Path::to_path_buf),
                save_failure: None,
            }),
            (None, None) => return,
        };
        self.question(ctx, Question::SaveAs(picture));
    }

    fn copy(&mut self, ctx: &Context) {
        let image = self
            .state
            .current()
            .and_then(|current| textures::image(current.pixels));
        if let Some(image) = image {
            ctx.copy_image(image);
            self.state.say("Copied");
        }
    }

    /// What draws the current picture again, on the device that is chosen now.
    fn current_request(&self) -> Option<GenerationRequest> {
        let current = self.state.current()?;
        let ours = current.settings.is_some_and(|it| it.foreign.is_none());
        let enlarged = current.picture.and_then(|it| it.recipe.as_deref());
        // The recipe knows where the model lies now.
        let request = match (current.recipe, enlarged, current.settings) {
            (Some(recipe), _, _) => recipe.request.clone(),
            (None, Some(recipe), _) => self.state.models.look_up(recipe).request,
            (None, None, settings) => settings?.to_request(),
        };
        Some(self.request_here(request, ours))
    }

    /// A picture's request with what belongs to this machine: the device and how it
    /// computes, and the model that is chosen where that of another program's picture is not here.
    fn request_here(&self, request: GenerationRequest, ours: bool) -> GenerationRequest {
        let now = &self.state.settings.request;
        let model = match &request.model {
            None if !ours => &now.model,
            named => named,
        };
        GenerationRequest {
            model: model.clone(),
            // A setting, which no picture has.
            wildcards: now.wildcards.clone(),
            device: now.device,
            dtype: now.dtype,
            arithmetic: now.arithmetic,
            ..request
        }
    }

    fn reuse(&mut self) {
        if let Some(request) = self.current_request() {
            self.take_request(request);
        }
    }

    fn use_recipe(&mut self) {
        if let Some(Offer::Recipe { recipe, .. }) = self.state.offer.take() {
            let ours = recipe.settings.is_some();
            self.take_request(self.request_here(recipe.request, ours));
        }
    }

    /// Puts a request into the controls. What equals the model's defaults follows the model again.
    fn take_request(&mut self, request: GenerationRequest) {
        let model = request.model.clone();
        self.state.settings.seed_locked = request.seed.is_some();
        self.state.settings.request = request;
        self.choose_model(model);
        let defaults = self.state.defaults().clone();
        let request = &mut self.state.settings.request;
        request.steps.take_if(|steps| *steps == defaults.steps);
        request
            .guidance_scale
            .take_if(|scale| (*scale - defaults.guidance_scale).abs() < 1e-9);
        request
            .sampler
            .take_if(|sampler| *sampler == defaults.sampler);
        request
            .schedule
            .take_if(|schedule| *schedule == defaults.schedule);
        request.count.take_if(|count| *count == 1);
        let own_size = request.width_px == Some(defaults.width_px)
            && request.height_px == Some(defaults.height_px);
        if own_size {
            (request.width_px, request.height_px) = (None, None);
        }
        self.state.say("The settings are back in the controls");
    }

    fn vary(&mut self) {
        if let Some(request) = self.current_request() {
            let seed = Some(new_seed());
            let settings = &mut self.state.settings;
            // The field tells the seed of what is drawn, as after Generate; one that is locked stays.
            if !settings.seed_locked {
                settings.request.seed = seed;
            }
            self.draw(GenerationRequest {
                seed,
                count: None,
                ..request
            });
        }
    }

    fn enlarge(&mut self, ctx: &Context) {
        let Some(source) = self.state.current_path().map(std::path::Path::to_path_buf) else {
            return;
        };
        let id = self.next_job();
        let command = Command::Enlarge {
            job: id,
            source: source.clone(),
            format: self.state.settings.format,
            arithmetic: self.state.settings.request.arithmetic,
        };
        let mut job = Job::new(id, Work::Enlarge(source));
        if let Some(current) = self.state.current() {
            // The picture stays in view, as large as it will be, until the enlarged one is there.
            let place = Place {
                job: id,
                index: 0,
                count: 1,
            };
            self.textures.set_job(ctx, place, current.pixels, false);
            job.expected_size = Some(
                [current.pixels.width_px, current.pixels.height_px]
                    .map(|side| side.saturating_mul(ENLARGES)),
            );
        }
        self.queue(command, job);
    }

    fn delete(&mut self) {
        if let Some(path) = self.state.current_path().map(std::path::Path::to_path_buf) {
            self.send_file(FileCommand::Delete { path });
        }
    }

    fn undo(&mut self, ctx: &Context) {
        match self.undo.undo(self.draft()) {
            Some(Step::Deleted(path)) => self.restore(path),
            Some(Step::Draft(draft)) => self.take_draft(ctx, *draft),
            None => {}
        }
    }

    fn redo(&mut self, ctx: &Context) {
        match self.undo.redo(self.draft()) {
            Some(Step::Deleted(path)) => self.send_file(FileCommand::Delete { path }),
            Some(Step::Draft(draft)) => self.take_draft(ctx, *draft),
            None => {}
        }
    }

    /// Puts a draft into the controls, and the text cursor where its words changed.
    fn take_draft(&mut self, ctx: &Context, draft: Draft) {
        let now = &mut self.state.settings;
        for (id, before, after) in [
            (
                prompt::prompt_id(),
                &now.request.prompt,
                &draft.request.prompt,
            ),
            (
                prompt::negative_id(),
                &now.request.negative_prompt,
                &draft.request.negative_prompt,
            ),
        ] {
            if before != after {
                prompt::set_cursor(ctx, id, changed_end(before, after));
            }
        }
        let (shown, model) = (now.request.seed, now.request.model.clone());
        now.seed_locked = draft.seed_locked;
        now.request = draft.request;
        if !now.seed_locked {
            now.request.seed = shown;
        }
        if now.request.model != model {
            self.choose_model(self.state.settings.request.model.clone());
        }
    }

    fn restore(&mut self, path: PathBuf) {
        self.send_file(FileCommand::Restore { path });
    }

    fn show_in_folder(&mut self) {
        if let Some(path) = self.state.current_path().map(std::path::Path::to_path_buf) {
            self.send_file(FileCommand::ShowInFolder { path });
        }
    }

    // --- the window ---

    fn set_prompt(&mut self, prompt: String) {
        self.state.settings.request.prompt = prompt;
        self.state.focus_prompt = true;
    }

    fn toggle_full_picture(&mut self, ctx: &Context) {
        self.state.full_picture = !self.state.full_picture;
        ctx.send_viewport_cmd(ViewportCommand::Fullscreen(self.state.full_picture));
    }

    fn toggle_history(&mut self, ctx: &Context) {
        if top_bar::Narrow::at(ctx.content_rect().width()).history_folds {
            self.state.history_peek = !self.state.history_peek;
        } else {
            self.state.settings.layout.history_open = !self.state.settings.layout.history_open;
        }
    }

    fn toggle_theme(&mut self, ctx: &Context) {
        self.state.settings.theme = match ctx.theme() {
            egui::Theme::Dark => ThemeChoice::Light,
            egui::Theme::Light => ThemeChoice::Dark,
        };
    }

    pub(super) fn drop_file(&mut self, path: PathBuf) {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("png" | "jpg" | "jpeg" | "webp") => {
                self.state.offer = Some(Offer::Reading(path.clone()));
                self.show_saved(path);
            }
            // Whether it is a model is for the file thread to find out.
            _ => self.state.offer = Some(Offer::Model(path)),
        }
    }

    fn question(&mut self, ctx: &Context, question: Question) {
        let reply = Reply {
            answers: self.answers.0.clone(),
            ctx: ctx.clone(),
        };
        (self.ask)(question, reply);
    }

    pub(super) fn send_file(&mut self, command: FileCommand) {
        if let Err(error) = self.worker.send_file(command) {
            self.state.complain(error.to_string());
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Newer,
    Older,
}
