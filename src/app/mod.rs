//! The window: an eframe app over the worker's handle.
//!
//! `App::logic` takes what the worker reports into [`state::State`]; `App::ui` lays out the
//! panels, which emit [`command::Action`]s; `execute` carries them out. No tensor comes here, and
//! the window's thread waits for nothing.

pub mod command;
mod completion;
pub mod dialogs;
mod emphasis;
mod execute;
mod fonts;
mod icons;
mod keyboard;
mod logic;
mod lora_tags;
mod panels;
pub mod state;
mod syntax;
mod textures;
pub mod theme;
mod undo;
mod widgets;

use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender, bounded};
use egui::{CentralPanel, Context, Frame, Margin, Panel, Ui, vec2};

use self::command::{Action, Actions};
use self::dialogs::{Answer, Ask};
use self::panels::top_bar::Narrow;
use self::panels::{controls, help, history, picture, progress, settings_window, toast, top_bar};
use self::state::{Dialog, State};
use self::textures::Textures;
use self::undo::{Draft, SETTLES_SECS, Undo};
use crate::error::{Error, Result};
use crate::request::GenerationRequest;
use crate::settings::{self, Saver, Settings, WindowPlace};
use crate::worker::Handle;
use crate::worker::message::ModelChoice;

/// Answers of file dialogs that may wait; more than a person opens.
const ANSWERS_WAITING: usize = 16;

/// Asks the window for a new frame, from any thread.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What a window needs beside the worker.
pub struct Setup {
    pub settings: Settings,
    /// Writes changes of the settings; `None`: they are forgotten.
    pub saver: Option<Saver>,
    pub ask: Ask,
}

/// The whole window.
pub struct App {
    worker: Handle,
    state: State,
    textures: Textures,
    saver: Option<Saver>,
    /// As handed to the saver last.
    saved: Settings,
    ask: Ask,
    answers: (Sender<Answer>, Receiver<Answer>),
    last_job: u64,
    /// What Generate drew last.
    last_drawn: Option<GenerationRequest>,
    /// When Esc was pressed last, in egui's seconds.
    escaped_at: Option<f64>,
    asked_model: Option<ModelChoice>,
    /// Embeddings whose words were asked for.
    asked_embeddings: Vec<PathBuf>,
    listed_root: Option<PathBuf>,
    /// The folder of lists that was looked through.
    searched_wildcards: Option<PathBuf>,
    applied: Option<Look>,
    undo: Undo,
    /// The window had the keyboard in the last frame.
    focused: bool,
}

/// What egui was told about the look.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    theme: settings::ThemeChoice,
    zoom: f32,
    reduce_motion: bool,
}

/// Opens the window and returns when it is closed.
///
/// `start` makes the worker; it is given what wakes the window. `settings_path`: where the settings
/// are kept; `None`: nowhere.
///
/// Errors: [`Error::Device`] where no window can be opened; what `start` reports.
pub fn run(
    start: impl FnOnce(Wake) -> Result<Handle> + 'static,
    settings_path: Option<PathBuf>,
) -> Result<()> {
    let settings = settings_path
        .as_deref()
        .map(settings::load)
        .unwrap_or_default();
    let saver = settings_path.map(Saver::start).transpose()?;
    let options = eframe::NativeOptions {
        viewport: viewport(&settings.window),
        ..Default::default()
    };
    let created = eframe::run_native(
        "Easel",
        options,
        Box::new(move |creation| {
            let ctx = creation.egui_ctx.clone();
            let worker = start(Box::new(move || ctx.request_repaint()))?;
            let setup = Setup {
                settings,
                saver,
                ask: dialogs::system(),
            };
            Ok(Box::new(App::new(&creation.egui_ctx, worker, setup)))
        }),
    );
    created.map_err(|error| match error {
        eframe::Error::AppCreation(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::Device(format!("The window cannot be opened: {error}")),
        },
        error => Error::Device(format!("The window cannot be opened: {error}")),
    })
}

fn viewport(place: &WindowPlace) -> egui::ViewportBuilder {
    let mut viewport = egui::ViewportBuilder::default()
        .with_title("Easel")
        .with_app_id("easel")
        .with_icon(icon())
        .with_min_inner_size(theme::MIN_WINDOW)
        .with_inner_size(place.size)
        .with_maximized(place.maximized);
    if let Some(position) = place.position {
        viewport = viewport.with_position(position);
    }
    viewport
}

/// The picture of the window in task bars; on Wayland the menu entry's, by the app id.
fn icon() -> egui::IconData {
    let png = include_bytes!("../../assets/easel.png");
    eframe::icon_data::from_png_bytes(png).unwrap_or_default()
}

impl App {
    /// A window over a worker, real or scripted. Asks it for models, history and the model to load.
    pub fn new(ctx: &Context, worker: Handle, setup: Setup) -> Self {
        let Setup {
            settings,
            saver,
            ask,
        } = setup;
        fonts::install(ctx);
        let state = State {
            settings: settings.clone(),
            focus_prompt: true,
            drawer_open: true,
            ..State::default()
        };
        let mut app = Self {
            worker,
            state,
            textures: Textures::default(),
            saver,
            saved: settings,
            ask,
            answers: bounded(ANSWERS_WAITING),
            last_job: 0,
            last_drawn: None,
            escaped_at: None,
            asked_model: None,
            asked_embeddings: Vec::new(),
            listed_root: None,
            searched_wildcards: None,
            applied: None,
            undo: Undo::default(),
            focused: true,
        };
        app.apply_look(ctx);
        app.find_models();
        app.follow_settings();
        app
    }

    /// What the window shows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Tells egui about theme, text size and motion, and takes over a text size set by its keys.
    fn apply_look(&mut self, ctx: &Context) {
        let settings = &mut self.state.settings;
        let zoom = ctx.zoom_factor();
        if let Some(applied) = self.applied
            && applied.zoom == settings.zoom
            && (zoom - applied.zoom).abs() > 1e-3
        {
            settings.zoom = zoom;
        }
        let look = Look {
            theme: settings.theme,
            zoom: settings.zoom,
            reduce_motion: settings.reduce_motion,
        };
        if self.applied == Some(look) {
            return;
        }
        if self.applied.map(|applied| applied.reduce_motion) != Some(look.reduce_motion) {
            theme::install(ctx, look.reduce_motion);
        }
        theme::choose(ctx, look.theme);
        ctx.set_zoom_factor(look.zoom);
        self.applied = Some(look);
    }

    /// What stands in the controls, for undo: a seed that is drawn anew each time is no change.
    fn draft(&self) -> Draft {
        let Settings {
            request,
            seed_locked,
            ..
        } = &self.state.settings;
        let mut request = request.clone();
        request.seed = request.seed.filter(|_| *seed_locked);
        Draft {
            request,
            seed_locked: *seed_locked,
        }
    }

    fn follow_changes(&mut self, ctx: &Context) {
        let now = ctx.input(|input| input.time);
        self.undo.feed(now, self.draft());
        if !self.undo.moving() {
            self.follow_prompts();
        } else {
            ctx.request_repaint_after_secs(SETTLES_SECS as f32);
        }
    }

    /// Hands changed settings to the thread that writes them.
    fn keep_settings(&mut self, ctx: &Context) {
        self.remember_window(ctx);
        if self.state.settings == self.saved {
            return;
        }
        let taken = self
            .saver
            .as_ref()
            .is_none_or(|saver| saver.offer(&self.state.settings));
        if taken {
            self.saved = self.state.settings.clone();
        } else {
            ctx.request_repaint_after(std::time::Duration::from_millis(100));
        }
    }

    fn remember_window(&mut self, ctx: &Context) {
        let zoom = ctx.zoom_factor();
        ctx.input(|input| {
            let viewport = input.viewport();
            let odd = viewport.minimized == Some(true) || viewport.fullscreen == Some(true);
            if odd || self.state.full_picture {
                return;
            }
            let place = &mut self.state.settings.window;
            place.maximized = viewport.maximized.unwrap_or(false);
            if place.maximized {
                return;
            }
            if let Some(inner) = viewport.inner_rect {
                place.size = [
                    (inner.width() * zoom).round(),
                    (inner.height() * zoom).round(),
                ];
            }
            if let Some(outer) = viewport.outer_rect {
                place.position = Some([(outer.min.x * zoom).round(), (outer.min.y * zoom).round()]);
            }
        });
    }

    fn panels_ui(&mut self, ui: &mut Ui, actions: &mut Actions) {
        let tokens = theme::tokens(ui);
        let narrow = Narrow::at(ui.ctx().content_rect().width());
        let panel = Frame::new().fill(tokens.panel);
        let bar = panel.inner_margin(Margin::symmetric(14, 0));
        Panel::top("top bar")
            .exact_size(48.0)
            .frame(bar)
            .show(ui, |ui| {
                let (state, textures) = (&mut self.state, &mut self.textures);
                top_bar::top_bar_ui(ui, state, textures, narrow, actions);
            });
        if narrow.controls_drawer {
            if self.state.drawer_open {
                CentralPanel::default()
                    .frame(panel.inner_margin(theme::SPACE_L))
                    .show(ui, |ui| {
                        controls::controls_ui(ui, &mut self.state, &mut self.textures, actions);
                    });
                return;
            }
        } else {
            self.controls_panel(ui, panel, actions);
        }
        self.history_panel(ui, panel, narrow, actions);
        self.middle_ui(ui, narrow, actions);
    }

    fn controls_panel(&mut self, ui: &mut Ui, frame: Frame, actions: &mut Actions) {
        let width = self.state.settings.layout.controls_width;
        let shown = Panel::left("controls")
            .default_size(width)
            .size_range(272.0..=460.0)
            .frame(frame.inner_margin(Margin::symmetric(14, 12)))
            .show(ui, |ui| {
                controls::controls_ui(ui, &mut self.state, &mut self.textures, actions);
            });
        self.state.settings.layout.controls_width = shown.response.rect.width().round();
    }

    fn history_panel(&mut self, ui: &mut Ui, frame: Frame, narrow: Narrow, actions: &mut Actions) {
        let open = if narrow.history_folds {
            self.state.history_peek
        } else {
            self.state.settings.layout.history_open
        };
        if !open {
            return;
        }
        let width = self.state.settings.layout.history_width;
        let shown = Panel::right("history")
            .default_size(width)
            .size_range(140.0..=480.0)
            .frame(frame.inner_margin(Margin {
                left: 14,
                right: 8,
                top: 12,
                bottom: 12,
            }))
            .show(ui, |ui| {
                history::history_ui(ui, &mut self.state, &mut self.textures, actions);
            });
        self.state.settings.layout.history_width = shown.response.rect.width().round();
    }

    fn middle_ui(&mut self, ui: &mut Ui, narrow: Narrow, actions: &mut Actions) {
        let tokens = theme::tokens(ui);
        let footer = Frame::new()
            .fill(tokens.panel)
            .inner_margin(Margin::symmetric(14, 8));
        let drawer = narrow.controls_drawer;
        if progress::something_to_say(&self.state) || self.state.busy() || drawer {
            Panel::bottom("progress").frame(footer).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = theme::SPACE_XS;
                progress::progress_ui(ui, &self.state, actions);
                if drawer {
                    controls::generate_ui(ui, &self.state, actions);
                }
            });
        }
        CentralPanel::default()
            .frame(Frame::new().fill(tokens.ground))
            .show(ui, |ui| {
                picture::picture_ui(ui, &mut self.state, &mut self.textures, actions);
            });
    }

    fn full_picture_ui(&mut self, ui: &mut Ui, actions: &mut Actions) {
        let ground = Frame::new().fill(theme::tokens(ui).ground);
        CentralPanel::default().frame(ground).show(ui, |ui| {
            picture::picture_ui(ui, &mut self.state, &mut self.textures, actions);
        });
    }

    fn overlays_ui(&mut self, ui: &mut Ui, actions: &mut Actions) {
        toast::toast_ui(ui, &mut self.state, actions);
        toast::offer_ui(ui, &self.state, actions);
        match self.state.dialog {
            Some(Dialog::Settings) => settings_window::settings_ui(ui, &mut self.state, actions),
            Some(Dialog::Help) => help::help_ui(ui, &mut self.state),
            None => {}
        }
        let hovering = ui.input(|input| !input.raw.hovered_files.is_empty());
        if hovering {
            drop_hint_ui(ui);
        }
    }

    fn take_dropped_file(&mut self, ctx: &Context) {
        let dropped = ctx.input(|input| {
            input
                .raw
                .dropped_files
                .first()
                .map(|file| file.path().to_path_buf())
        });
        if let Some(path) = dropped {
            self.drop_file(path);
        }
    }
}

/// What may be dropped, over everything else, while something hangs over the window.
fn drop_hint_ui(ui: &Ui) {
    let tokens = theme::tokens(ui);
    let rect = ui.ctx().content_rect();
    let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop hint"));
    let painter = ui.ctx().layer_painter(layer);
    painter.rect_filled(rect, 0, tokens.veil);
    let font = egui::FontId::new(theme::LARGE, theme::semibold());
    let words = "Drop a picture to see its settings, or a model to open it";
    let galley = painter.layout_no_wrap(words.to_owned(), font, tokens.text);
    let card = egui::Rect::from_center_size(rect.center(), galley.size() + vec2(48.0, 32.0));
    painter.rect_filled(card, theme::CORNER, tokens.raised);
    painter.galley(card.center() - galley.size() / 2.0, galley, tokens.text);
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.take_reports(ctx);
        // The first frame is on the screen when the second begins; `benches/peer/window.rs` waits for this.
        match ctx.cumulative_frame_nr() {
            0 => ctx.request_repaint(),
            1 => log::info!("the window is usable"),
            _ => {}
        }
    }

    /// Where panels meet between two pixels, this shines through.
    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let mut actions = Actions::default();
        self.take_dropped_file(&ctx);
        keyboard::read(&ctx, &self.state, &mut actions);
        // Weights change before the field is shown, so that it shows what it then holds.
        let mut pending: Vec<Action> = std::mem::take(&mut actions.0);
        for action in pending.drain(..) {
            self.execute(&ctx, action);
        }
        if self.state.full_picture {
            self.full_picture_ui(ui, &mut actions);
        } else {
            self.panels_ui(ui, &mut actions);
        }
        self.overlays_ui(ui, &mut actions);
        let acted = !actions.0.is_empty();
        if acted {
            // What an action changes is a step of its own.
            self.undo.settle(self.draft());
        }
        for action in actions.0 {
            self.execute(&ctx, action);
        }
        self.textures.trim(&self.state);
        self.follow_focus(&ctx);
        self.follow_settings();
        self.follow_changes(&ctx);
        self.apply_look(&ctx);
        self.keep_settings(&ctx);
        if acted {
            ctx.request_repaint();
        }
    }
}
