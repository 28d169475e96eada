//! What the window knows: plain data, no widgets, no channels. Events change it, views read it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::prompt::embeddings::EmbeddingNames;
use crate::prompt::{self, Known, Reading, Span, TypedName, Warning};
use crate::request::{
    AddOn, AddOnHashes, AddOnKind, Emphasis, GenerationRequest, ModelCard, ModelDefaults,
    PictureSettings, Pixels, SamplerId, ScheduleId,
};
use crate::settings::Settings;
use crate::worker;
use crate::worker::message::{
    Failure, JobId, JobPlan, LoadedModel, OpenedPicture, Picture, Progress, Recipe, TokensAsked,
};

/// Lines at the bottom at once.
const TOASTS: usize = 3;

/// Everything that the window shows.
#[derive(Debug, Default)]
pub struct State {
    pub settings: Settings,
    pub models: Models,
    /// Waiting, drawing and lately finished jobs, in the order they were asked for.
    pub jobs: Vec<Job>,
    pub view: View,
    /// Which picture of several is looked at closely.
    pub close_up: Option<usize>,
    pub zoom: Zoom,
    pub history: History,
    /// The newest last.
    pub toasts: Vec<Toast>,
    pub offer: Option<Offer>,
    pub dialog: Option<Dialog>,
    pub full_picture: bool,
    /// In a narrow window: whether the controls cover the picture.
    pub drawer_open: bool,
    /// In a narrow window: whether the history is unfolded for now.
    pub history_peek: bool,
    pub ideas_query: String,
    /// Of the list of models, LoRAs or VAEs that stands open.
    pub picker_query: String,
    pub details_open: bool,
    pub tokens: TokenCount,
    pub names: Arc<Names>,
    /// The name that is being typed in one of the prompts.
    pub completing: Option<Completing>,
    pub checked: Checked,
    pub checked_negative: Checked,
    /// Asks for the prompt field to be focused at the next frame.
    pub focus_prompt: bool,
}

/// What the middle of the window shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Welcome,
    Job(JobId),
    Saved(PathBuf),
}

/// The window over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialog {
    Settings,
    Help,
}

/// The models that were found, and the one in memory.
#[derive(Debug, Default)]
pub struct Models {
    pub found: Vec<ModelCard>,
    /// What lies in the model folders beside models.
    pub add_ons: Vec<AddOn>,
    /// What files of embeddings call them themselves, of those that a request gave.
    pub embedding_words: HashMap<PathBuf, String>,
    /// The search has reported.
    pub searched: bool,
    pub loading: Option<Loading>,
    pub loaded: Option<LoadedModel>,
    pub failure: Option<Failure>,
    /// Chosen by the person, taken as soon as the search has found it.
    pub wanted: Option<PathBuf>,
}

impl Models {
    /// The recipe with the files that lie here, and notes of those that do not.
    pub fn look_up(&self, recipe: &Recipe) -> Recipe {
        let mut here = recipe.clone();
        worker::look_up(&mut here, &self.found, &self.add_ons);
        here
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Loading {
    pub name: String,
    pub fraction: f32,
}

/// A job from its command to its end.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub work: Work,
    pub status: JobStatus,
    /// Asked to stop.
    pub cancelling: bool,
    pub plan: Option<JobPlan>,
    /// Width and height of the picture to come, where no plan says it.
    pub expected_size: Option<[u32; 2]>,
    pub progress: Option<Progress>,
    /// When that was told, in egui's seconds.
    pub progress_at: f64,
    /// Step of the newest preview that is shown.
    pub preview_step: Option<usize>,
    pub pictures: Vec<Option<Arc<Picture>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Draw(Box<GenerationRequest>),
    Enlarge(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub enum JobStatus {
    Waiting,
    Running,
    Done { elapsed_secs: f64 },
    Cancelled,
    Failed(Failure),
}

impl Job {
    pub fn new(id: JobId, work: Work) -> Self {
        let count = match &work {
            Work::Draw(request) => request.count.unwrap_or(1) as usize,
            Work::Enlarge(_) => 1,
        };
        Self {
            id,
            work,
            status: JobStatus::Waiting,
            cancelling: false,
            plan: None,
            expected_size: None,
            progress: None,
            progress_at: 0.0,
            preview_step: None,
            pictures: vec![None; count.max(1)],
        }
    }

    /// Not at its end yet.
    pub fn open(&self) -> bool {
        matches!(self.status, JobStatus::Waiting | JobStatus::Running)
    }

    /// Holds a finished picture that could not be saved and is nowhere else.
    pub fn unsaved(&self) -> bool {
        self.pictures
            .iter()
            .flatten()
            .any(|picture| picture.homeless())
    }

    pub fn running(&self) -> bool {
        self.status == JobStatus::Running
    }

    /// A few words for the waiting list.
    pub fn title(&self) -> String {
        match &self.work {
            Work::Draw(request) if request.prompt.trim().is_empty() => "(no words)".to_owned(),
            Work::Draw(request) => request.prompt.replace('\n', " "),
            Work::Enlarge(path) => format!("Enlarge {}", file_name(path)),
        }
    }

    /// Width and height of the finished picture, in pixels, as far as known. One that was cancelled is
    /// shown as large as it was to be: it does not jump.
    pub fn output_size(&self, index: usize) -> Option<[u32; 2]> {
        let picture = self.pictures.get(index).and_then(Option::as_ref);
        let drawn = picture.map(|picture| [picture.pixels.width_px, picture.pixels.height_px]);
        let finished = picture.is_some_and(|it| it.settings.cancelled_after.is_none());
        let planned = self
            .plan
            .as_ref()
            .map(|plan| [plan.output_width_px, plan.output_height_px]);
        let planned = planned.or(self.expected_size);
        drawn.filter(|_| finished).or(planned).or(drawn)
    }
}

/// How closely the picture is looked at; `None`: fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Zoom {
    /// Screen pixels a picture pixel.
    pub scale: Option<f32>,
    /// Of the picture's middle from the middle of its room, in points.
    pub offset: [f32; 2],
}

/// What was drawn before.
#[derive(Debug, Default)]
pub struct History {
    /// Newest first.
    pub paths: Vec<PathBuf>,
    pub listed: bool,
    /// Why there is no list.
    pub failure: Option<Failure>,
    pub query: String,
    pub search_open: bool,
    pub opened: Option<(PathBuf, OpenedPicture)>,
    /// Its recipe, with the files that were found here.
    pub opened_here: Option<Box<Recipe>>,
    /// Thumbnails that were asked for and have not come.
    pub asked: HashSet<PathBuf>,
    pub unreadable: HashMap<PathBuf, Failure>,
    /// Prompts as far as they were read, for names and the search; empty where a picture has none.
    pub prompts: HashMap<PathBuf, String>,
    /// Prompts were asked for and have not come.
    pub reading_prompts: bool,
    /// The search field wants the keyboard.
    pub focus_search: bool,
    /// A thumbnail has the keyboard.
    pub focused: bool,
}

/// A line at the bottom that goes by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Toast {
    pub text: String,
    /// The picture that a button can bring back.
    pub undo: Option<PathBuf>,
    /// When it goes, in egui's seconds; set when it is first shown.
    pub until: Option<f64>,
    pub bad: bool,
}

impl Toast {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            undo: None,
            until: None,
            bad: false,
        }
    }
}

/// Something was dropped on the window, and this can be done with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Offer {
    /// Wait for the picture to be read.
    Reading(PathBuf),
    Recipe {
        path: PathBuf,
        recipe: Box<Recipe>,
    },
    NoRecipe(PathBuf),
    Model(PathBuf),
}

/// Tokens of the prompt, as the worker counted them.
#[derive(Clone, Debug, Default)]
pub struct TokenCount {
    /// `None`: the model cannot say.
    pub counted: Option<(TokensAsked, Option<usize>)>,
    /// A question is on its way.
    pub asking: bool,
}

/// What prompts can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub loras: Vec<String>,
    /// These, and what else finds them: what they were called when they were trained, and names of
    /// the chosen picture's prompt that its hashes tell.
    pub all_of_loras: Vec<String>,
    pub embeddings: Vec<String>,
    /// The same with their files, as prompts are read; those that the request gives first, as drawing
    /// takes them.
    pub embedding_files: Arc<EmbeddingNames>,
    /// `None`: nobody has looked for any.
    pub wildcards: Option<Vec<String>>,
    /// What the request says of them.
    pub given: (Vec<PathBuf>, AddOnHashes),
}

/// The list of names below a text field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completing {
    pub field: egui::Id,
    /// The cursor, in bytes.
    pub at: usize,
    pub typed: TypedName,
    /// Closed with Esc, until another name begins.
    pub dismissed: bool,
}

/// A prompt as it was read last, and what is told of it once it stood still for a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    text: String,
    emphasis: Emphasis,
    names: Arc<Names>,
    reading: Reading,
    /// What looks like a slip; of the words that stood still last.
    pub told: Vec<Warning>,
    /// They stand still.
    settled: bool,
}

impl Checked {
    /// A longer prompt is neither coloured nor checked: reading and laying it out with every letter would
    /// be felt.
    pub const MOST_BYTES: usize = 50_000;

    /// Reads a prompt, where anything is other than the last time.
    pub fn read(&mut self, text: &str, emphasis: Emphasis, names: &Arc<Names>) {
        let known = self.text == text && self.emphasis == emphasis && self.names == *names;
        if known {
            return;
        }
        self.text.clear();
        self.text.push_str(text);
        (self.emphasis, self.names) = (emphasis, Arc::clone(names));
        self.settled = false;
        self.reading = match self.is_too_long() {
            true => Reading::default(),
            false => prompt::read(text, emphasis, &names.known()),
        };
    }

    /// Tells the slips of a prompt that stands still.
    pub fn settle(&mut self, text: &str, emphasis: Emphasis, names: &Arc<Names>) {
        self.read(text, emphasis, names);
        if !self.settled {
            self.told.clone_from(&self.reading.warnings);
            self.settled = true;
        }
    }

    /// As it was read last; nothing of one that is too long.
    pub fn spans(&self) -> &[Span] {
        &self.reading.spans
    }

    /// The slips that are told, where they are about the text that was read.
    pub fn marked(&self) -> &[Warning] {
        match self.settled {
            true => &self.told,
            false => &[],
        }
    }

    /// Too long to be read.
    pub fn is_too_long(&self) -> bool {
        self.text.len() > Self::MOST_BYTES
    }
}

impl Names {
    /// For the reading of prompts.
    fn known(&self) -> Known<'_> {
        Known {
            loras: Some(&self.all_of_loras),
            wildcards: self.wildcards.as_deref(),
            embeddings: Some(&self.embedding_files),
        }
    }
}

/// The picture that Save as, Copy, Reuse and the others act on.
pub struct Current<'a> {
    pub pixels: &'a Pixels,
    pub settings: Option<&'a PictureSettings>,
    pub recipe: Option<&'a Recipe>,
    pub picture: Option<&'a Arc<Picture>>,
    pub path: Option<&'a Path>,
}

static UNKNOWN_MODEL: ModelDefaults = ModelDefaults {
    steps: 20,
    guidance_scale: 7.0,
    sampler: SamplerId::DpmPp2m,
    schedule: ScheduleId::Model,
    width_px: 512,
    height_px: 512,
    upscaler: None,
};

impl State {
    /// The chosen model's card, where it is known.
    pub fn card(&self) -> Option<&ModelCard> {
        let chosen = &self.settings.request.model;
        let loaded = self.models.loaded.as_ref().map(|loaded| &loaded.card);
        loaded
            .filter(|card| &card.path == chosen)
            .or_else(|| self.models.found.iter().find(|card| &card.path == chosen))
    }

    /// What the model does where the person said nothing.
    pub fn defaults(&self) -> &ModelDefaults {
        self.card().map_or(&UNKNOWN_MODEL, |card| &card.defaults)
    }

    pub fn model_name(&self) -> String {
        if let Some(card) = self.card() {
            return card.name.clone();
        }
        match &self.settings.request.model {
            Some(path) => file_name(path),
            None => "Starter".to_owned(),
        }
    }

    /// There is no model to draw with, and the search is over.
    pub fn no_model(&self) -> bool {
        self.models.searched && self.models.found.is_empty() && self.models.loaded.is_none()
    }

    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    pub fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// The job that is being drawn, or is next.
    pub fn active_job(&self) -> Option<&Job> {
        let running = self.jobs.iter().find(|job| job.running());
        running.or_else(|| self.jobs.iter().find(|job| job.open()))
    }

    /// Jobs behind the active one.
    pub fn waiting_jobs(&self) -> impl Iterator<Item = &Job> {
        let active = self.active_job().map(|job| job.id);
        self.jobs
            .iter()
            .filter(move |job| job.open() && Some(job.id) != active)
    }

    pub fn busy(&self) -> bool {
        self.jobs.iter().any(Job::open)
    }

    pub fn viewed_job(&self) -> Option<&Job> {
        match &self.view {
            View::Job(id) => self.job(*id),
            View::Welcome | View::Saved(_) => None,
        }
    }

    /// The picture that is looked at: the only one, the close one, or none of several.
    pub fn current(&self) -> Option<Current<'_>> {
        match &self.view {
            View::Welcome => None,
            View::Job(id) => {
                let job = self.job(*id)?;
                let index = match (job.pictures.len(), self.close_up) {
                    (1, _) => 0,
                    (_, close_up) => close_up?,
                };
                let picture = job.pictures.get(index)?.as_ref()?;
                Some(Current {
                    pixels: &picture.pixels,
                    settings: Some(&picture.settings),
                    recipe: None,
                    picture: Some(picture),
                    path: picture.path.as_deref(),
                })
            }
            View::Saved(path) => {
                let (opened_path, opened) = self.history.opened.as_ref()?;
                let recipe = self.history.opened_here.as_deref();
                (opened_path == path).then_some(Current {
                    pixels: &opened.pixels,
                    settings: recipe.and_then(|recipe| recipe.settings.as_ref()),
                    recipe,
                    picture: None,
                    path: Some(path),
                })
            }
        }
    }

    /// The file that is looked at, also while it is still being read.
    pub fn current_path(&self) -> Option<&Path> {
        match &self.view {
            View::Saved(path) => Some(path),
            View::Welcome | View::Job(_) => self.current()?.path,
        }
    }

    /// The words that drew the current picture, as an accessible name.
    pub fn current_prompt(&self) -> Option<&str> {
        let current = self.current()?;
        let prompt = match (current.settings, current.recipe) {
            (Some(settings), _) => &settings.prompt,
            (None, Some(recipe)) => &recipe.request.prompt,
            (None, None) => return None,
        };
        Some(prompt.as_str())
    }

    /// The words of the job that is looked at.
    pub fn viewed_prompt(&self) -> Option<&str> {
        match &self.viewed_job()?.work {
            Work::Draw(request) => Some(request.prompt.as_str()),
            Work::Enlarge(_) => None,
        }
    }

    /// Whose tokens the counter tells.
    pub fn tokens_asked(&self) -> TokensAsked {
        let request = &self.settings.request;
        TokensAsked {
            model: request.model.clone(),
            prompt: request.prompt.clone(),
            emphasis: request.emphasis,
            embeddings: Arc::clone(&self.names.embedding_files),
        }
    }

    /// How the prompts' brackets are read.
    pub fn emphasis(&self) -> Emphasis {
        self.settings.request.emphasis
    }

    /// Looks anew for the files that the opened picture names: the lists grow while folders are searched.
    pub fn look_up_opened(&mut self) {
        let Some((path, opened)) = &self.history.opened else {
            return;
        };
        let recipe = opened.recipe.as_deref();
        let here = recipe.map(|recipe| Box::new(self.models.look_up(recipe)));
        if let (Some(Offer::Recipe { path: of, recipe }), Some(here)) = (&mut self.offer, &here)
            && of == path
        {
            recipe.clone_from(here);
        }
        self.history.opened_here = here;
    }

    /// Takes over what lies in the model folders beside models.
    pub fn take_add_ons(&mut self, add_ons: Vec<AddOn>) {
        self.models.add_ons = add_ons;
        self.name_anew();
    }

    /// Takes over what the files of embeddings call them.
    pub fn take_embedding_words(&mut self, words: Vec<(PathBuf, String)>) {
        self.models.embedding_words.extend(words);
        if self.names.wildcards.is_some() {
            self.name_anew();
        }
    }

    /// Follows what the request says of files that prompts name.
    pub fn follow_names(&mut self) {
        let request = &self.settings.request;
        let (embeddings, hashes) = &self.names.given;
        if self.names.wildcards.is_some()
            && (*embeddings != request.embeddings || *hashes != request.hashes)
        {
            self.name_anew();
        }
    }

    fn name_anew(&mut self) {
        let add_ons = &self.models.add_ons;
        let request = &self.settings.request;
        let named = |kind: AddOnKind| {
            let mut names: Vec<String> = add_ons
                .iter()
                .filter(|it| it.kind == kind)
                .map(|it| it.name.clone())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        let embeddings = add_ons.iter().filter(|it| it.kind == AddOnKind::Embedding);
        let found = embeddings.map(|it| &it.path);
        let files = request.embeddings.iter().chain(found).cloned().collect();
        // Drawing knows those that are given by the words in their files too.
        let given = request.embeddings.iter().enumerate();
        let words = given.filter_map(|(number, path)| {
            let word = self.models.embedding_words.get(path)?;
            Some((word.as_str(), number))
        });
        let embedding_files = EmbeddingNames::new(files).with_words(words);
        let loras = named(AddOnKind::Lora);
        let trained = add_ons.iter().filter_map(|it| it.trained_as.clone());
        let hashed = request.hashes.loras.iter().filter(|(name, hash)| {
            AddOn::find(add_ons, AddOnKind::Lora, name, Some(hash.as_str())).is_some()
        });
        let of_repositories = loras.iter().filter_map(|name| name.rsplit_once('/'));
        let more = trained
            .chain(hashed.map(|(name, _)| name.clone()))
            .chain(of_repositories.map(|(_, name)| name.to_owned()));
        self.names = Arc::new(Names {
            all_of_loras: loras.iter().cloned().chain(more).collect(),
            loras,
            embeddings: named(AddOnKind::Embedding),
            embedding_files: Arc::new(embedding_files),
            wildcards: Some(named(AddOnKind::Wildcard)),
            given: (request.embeddings.clone(), request.hashes.clone()),
        });
    }

    /// The history that the search leaves.
    pub fn history_matches(&self) -> Vec<&PathBuf> {
        let query = self.history.query.trim().to_lowercase();
        let matches = |path: &&PathBuf| {
            query.is_empty()
                || relative_name(path).to_lowercase().contains(&query)
                || self
                    .history
                    .prompts
                    .get(*path)
                    .is_some_and(|prompt| prompt.to_lowercase().contains(&query))
        };
        self.history.paths.iter().filter(matches).collect()
    }

    /// The newest pictures whose prompts nobody has read, at most `most`.
    pub fn unread_prompts(&self, most: usize) -> Vec<PathBuf> {
        let unread = |path: &&PathBuf| !self.history.prompts.contains_key(*path);
        let paths = self.history.paths.iter().filter(unread);
        paths.take(most).cloned().collect()
    }

    /// Puts a new picture at the top of the history.
    pub fn remember(&mut self, path: &Path, prompt: &str) {
        self.history
            .prompts
            .insert(path.to_path_buf(), prompt.to_owned());
        if !self.history.paths.iter().any(|known| known == path) {
            self.history.paths.insert(0, path.to_path_buf());
        }
    }

    /// Brings a picture back into the history, at its place.
    pub fn put_back(&mut self, path: PathBuf) {
        self.history.unreadable.remove(&path);
        if self.history.paths.contains(&path) {
            return;
        }
        let place = self.history.paths.partition_point(|known| *known > path);
        self.history.paths.insert(place, path);
    }

    /// Forgets finished jobs that nobody looks at, so that their pictures leave the memory; not those
    /// whose pictures could not be saved.
    pub fn drop_old_jobs(&mut self) {
        let viewed = match self.view {
            View::Job(id) => Some(id),
            View::Welcome | View::Saved(_) => None,
        };
        self.jobs
            .retain(|job| job.open() || job.unsaved() || Some(job.id) == viewed);
    }

    pub fn say(&mut self, text: impl Into<String>) {
        self.tell(Toast::new(text));
    }

    pub fn complain(&mut self, text: impl Into<String>) {
        self.tell(Toast {
            bad: true,
            ..Toast::new(text)
        });
    }

    /// Shows a line. What was said before stays for its time; of too many lines the oldest goes that
    /// offers nothing.
    pub fn tell(&mut self, toast: Toast) {
        self.toasts.retain(|shown| shown.text != toast.text);
        self.toasts.push(toast);
        if self.toasts.len() > TOASTS {
            let idle = self.toasts.iter().position(|shown| shown.undo.is_none());
            self.toasts.remove(idle.unwrap_or(0));
        }
    }
}

/// The last part of a path, for people.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// `2026-11-24/00012-1234.png`: the folder and the file.
pub fn relative_name(path: &Path) -> String {
    match path.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{}", folder.to_string_lossy(), file_name(path)),
        None => file_name(path),
    }
}

/// A path as people write it: from their home folder on.
pub fn friendly_path(path: &Path) -> String {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
    let inside = home.as_ref().and_then(|home| path.strip_prefix(home).ok());
    inside.unwrap_or(path).display().to_string()
}

/// Sizes to choose from: the model's own area in the usual shapes.
pub fn size_presets(defaults: &ModelDefaults, latent_factor: u32) -> Vec<(&'static str, u32, u32)> {
    let area = f64::from(defaults.width_px) * f64::from(defaults.height_px);
    let grid = latent_factor
        .max(defaults.width_px.min(defaults.height_px) / 8)
        .max(1);
    let round = |side: f64| ((side / f64::from(grid)).round() as u32).max(1) * grid;
    [
        ("Square", 1.0),
        ("Portrait 3:4", 0.75),
        ("Landscape 4:3", 4.0 / 3.0),
        ("Tall 9:16", 9.0 / 16.0),
        ("Wide 16:9", 16.0 / 9.0),
    ]
    .into_iter()
    .map(|(name, aspect)| {
        (
            name,
            round((area * aspect).sqrt()),
            round((area / aspect).sqrt()),
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_keep_the_models_area_and_fit_its_latents() {
        let sd1 = ModelDefaults {
            width_px: 512,
            height_px: 512,
            ..UNKNOWN_MODEL.clone()
        };
        let presets = size_presets(&sd1, 8);
        assert_eq!(presets[0], ("Square", 512, 512));
        assert_eq!(presets[1], ("Portrait 3:4", 448, 576));
        assert_eq!(presets[4], ("Wide 16:9", 704, 384));
        let starter = ModelDefaults {
            width_px: 64,
            height_px: 64,
            ..UNKNOWN_MODEL.clone()
        };
        for (name, width, height) in size_presets(&starter, 4) {
            assert!(
                width % 4 == 0 && height % 4 == 0 && width > 0,
                "{name}: {width} x {height}"
            );
        }
    }

    #[test]
    fn the_word_in_an_embeddings_file_is_read_where_the_file_is_given() {
        let path = PathBuf::from("/models/embeddings/plush.pt");
        let mut state = State::default();
        state.take_add_ons(Vec::new());
        state.take_embedding_words(vec![(path.clone(), "<cat-toy>".to_owned())]);
        let kinds = |state: &mut State| {
            let emphasis = state.emphasis();
            state
                .checked
                .read("a <cat-toy>, red", emphasis, &state.names);
            let spans = state.checked.spans().iter();
            spans.map(|span| span.kind).collect::<Vec<_>>()
        };
        use crate::prompt::SpanKind::{Embedding, Text};
        assert_eq!(kinds(&mut state), [Text]);
        state.settings.request.embeddings = vec![path];
        state.follow_names();
        assert_eq!(kinds(&mut state), [Text, Embedding, Text]);
    }

    #[test]
    fn a_restored_picture_returns_to_its_place() {
        let mut state = State::default();
        for name in ["a/00001-1.png", "a/00002-2.png", "b/00001-3.png"] {
            state.remember(Path::new(name), "");
        }
        let gone = state.history.paths.remove(1);
        state.put_back(gone.clone());
        state.put_back(gone.clone());
        assert_eq!(state.history.paths.len(), 3);
        assert_eq!(state.history.paths[1], gone);
    }
}
