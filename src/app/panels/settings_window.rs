//! The settings: folders, file format, look, device. It takes the settings apart by name, so that a
//! forgotten one does not compile.

use std::path::PathBuf;

use egui::{Align, Id, Layout, Modal, Ui, Vec2};

use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{State, friendly_path};
use crate::app::{icons, theme, widgets};
use crate::request::{Arithmetic, DeviceChoice, DtypeChoice, GenerationRequest, PictureFormat};
use crate::settings::{Settings, ThemeChoice};

const LABELS: f32 = 120.0;

pub fn settings_ui(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    let folder = friendly_path(&state.settings.pictures_folder());
    let modal = Modal::new(Id::unique("settings"))
        .frame(theme::dialog_frame(ui))
        .show(ui.ctx(), |ui| {
            ui.set_width(460.0_f32.min(ui.ctx().content_rect().width() - 48.0));
            ui.label(theme::title("Settings").size(15.0));
            ui.add_space(theme::SPACE_S);
            let height = ui.ctx().content_rect().height() - 160.0;
            egui::ScrollArea::vertical()
                .max_height(height)
                .min_scrolled_height(height)
                .show(ui, |ui| {
                    rows_ui(ui, &mut state.settings, &folder, actions);
                });
            ui.add_space(theme::SPACE_M);
            ui.button("Close").clicked()
        });
    if modal.should_close() || modal.inner {
        state.dialog = None;
    }
}

fn rows_ui(ui: &mut Ui, settings: &mut Settings, folder: &str, actions: &mut Actions) {
    let Settings {
        request,
        seed_locked: _, // the lock beside the seed
        theme,
        zoom,
        reduce_motion,
        previews,
        pictures,
        format,
        model_folders,
        layout: _, // dragged with the mouse
        window: _, // dragged with the mouse
    } = settings;
    section(ui, "Pictures");
    folder_row(ui, pictures, folder, actions);
    let formats = PictureFormat::ALL.map(|format| (format, format_label(format)));
    choice(ui, "File format", format, &formats);
    widgets::tick_row(
        ui,
        previews,
        "Show pictures while they form",
        "Costs a little time at every step",
    );
    section(ui, "Look");
    let themes = ThemeChoice::ALL.map(|choice| (choice, choice.label()));
    choice(ui, "Theme", theme, &themes);
    zoom_row(ui, zoom);
    widgets::tick_row(
        ui,
        reduce_motion,
        "No motion",
        "Panels and menus appear at once",
    );
    section(ui, "Engine");
    engine_rows(ui, request);
    section(ui, "Models");
    models_rows(ui, model_folders, actions);
    section(ui, "Prompts");
    wildcards_row(ui, &mut request.wildcards, actions);
}

/// Where the lists of `__name__` lie, beside those in the model folders.
fn wildcards_row(ui: &mut Ui, wildcards: &mut Option<PathBuf>, actions: &mut Actions) {
    row(ui, "Wildcards", |ui| {
        let choose = UiCommand::ChooseWildcards;
        let button = ui.button("Choose…").on_hover_text(choose.info().tooltip);
        let button = button.accessible_name("Choose a folder of wildcards");
        if button.clicked() {
            actions.ui(choose);
        }
        let other = wildcards.as_deref().map(friendly_path);
        let text = match &other {
            Some(folder) => folder.as_str(),
            None => "Only those in the model folders",
        };
        let none = ui.add_visible(other.is_some(), egui::Button::new("None"));
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.add(egui::Label::new(theme::hint(ui, text)).truncate())
                .on_hover_text(text);
        });
        if none
            .on_hover_text("Only those in the model folders")
            .clicked()
        {
            *wildcards = None;
        }
    });
}

fn folder_row(ui: &mut Ui, pictures: &mut Option<PathBuf>, folder: &str, actions: &mut Actions) {
    row(ui, "Folder", |ui| {
        if ui
            .button("Choose…")
            .on_hover_text(UiCommand::ChoosePicturesFolder.info().tooltip)
            .clicked()
        {
            actions.ui(UiCommand::ChoosePicturesFolder);
        }
        if pictures.is_some()
            && ui
                .button("Default")
                .on_hover_text("Back to Easel in your pictures folder")
                .clicked()
        {
            *pictures = None;
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.add(egui::Label::new(theme::hint(ui, folder)).truncate())
                .on_hover_text(folder);
        });
    });
}

fn zoom_row(ui: &mut Ui, zoom: &mut f32) {
    row(ui, "Text size", |ui| {
        let mut percent = (*zoom * 100.0).round();
        let field = egui::DragValue::new(&mut percent)
            .range(50.0..=300.0)
            .speed(5.0)
            .suffix(" %")
            .update_while_editing(false);
        let size = Vec2::new(theme::VALUE_WIDTH + 20.0, theme::ROW_HEIGHT);
        let field = ui.add_sized(size, field);
        if field.accessible_name("Text size").changed() {
            *zoom = percent / 100.0;
        }
    });
}

fn engine_rows(ui: &mut Ui, request: &mut GenerationRequest) {
    let GenerationRequest {
        device,
        dtype,
        arithmetic,
        ..
    } = request;
    let devices = [
        (DeviceChoice::Auto, "Automatic"),
        (DeviceChoice::Cpu, "Processor (CPU)"),
        (DeviceChoice::Cuda, "Graphics card (CUDA)"),
    ];
    choice(ui, "Device", device, &devices);
    let dtypes = [
        (DtypeChoice::Auto, "Automatic"),
        (DtypeChoice::F32, "f32: exact"),
        (DtypeChoice::F16, "f16: half the memory"),
        (DtypeChoice::Bf16, "bf16: half the memory"),
    ];
    choice(ui, "Precision", dtype, &dtypes);
    let ways = [
        (Arithmetic::Fast, "Fast"),
        (Arithmetic::Exact, "To libtorch's last bit"),
    ];
    choice(ui, "On a processor", arithmetic, &ways);
}

fn models_rows(ui: &mut Ui, model_folders: &[PathBuf], actions: &mut Actions) {
    if model_folders.is_empty() {
        ui.label(theme::hint(
            ui,
            "Only the model that comes with Easel. Open others from the menu at the top.",
        ));
    }
    for path in model_folders {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let name = format!("Forget {}", friendly_path(path));
                let tooltip = "Forget this place; nothing is deleted";
                if widgets::bare_icon(ui, icons::CANCEL, &name, tooltip).clicked() {
                    actions.push(Action::ForgetModelFolder(path.clone()));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(egui::Label::new(friendly_path(path)).truncate());
                });
            });
        });
    }
}

fn format_label(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "PNG: every pixel kept",
        PictureFormat::Jpeg => "JPEG: small files",
        PictureFormat::Webp => "WebP: small, every pixel kept",
    }
}

fn section(ui: &mut Ui, text: &str) {
    ui.add_space(theme::SPACE_M);
    ui.label(theme::title(text));
}

fn row(ui: &mut Ui, label: &str, content: impl FnOnce(&mut Ui)) {
    ui.horizontal(|ui| {
        let size = Vec2::new(LABELS, theme::ROW_HEIGHT);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.set_min_size(size);
            ui.label(label);
        });
        ui.with_layout(Layout::right_to_left(Align::Center), content);
    });
}

fn choice<T: PartialEq + Copy>(ui: &mut Ui, label: &str, value: &mut T, all: &[(T, &'static str)]) {
    row(ui, label, |ui| {
        let rows: Vec<_> = all
            .iter()
            .map(|(value, text)| (*value, *text, ""))
            .collect();
        if let Some(picked) = widgets::combo(ui, label, *value, &rows) {
            *value = picked;
        }
    });
}
