//! The empty middle: three prompts to start from, or what to do where there is no model.

use egui::{Align, Button, Layout, RichText, TextStyle, Ui, Vec2};

use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::State;
use crate::app::{icons, theme};

const EXAMPLES: usize = 3;

pub fn welcome_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let examples = state
        .card()
        .map(|card| card.examples.as_slice())
        .unwrap_or_default();
    let shown = examples.len().min(EXAMPLES);
    let height = 96.0 + shown as f32 * 44.0;
    centered(ui, height, |ui| {
        icons::show(
            ui,
            icons::PICTURE,
            theme::ICON_LARGE,
            theme::tokens(ui).quiet,
        );
        ui.add_space(theme::SPACE_M);
        ui.label(RichText::new("Say what you want to see").text_style(TextStyle::Heading));
        ui.add_space(theme::SPACE_XS);
        if shown == 0 {
            ui.label(theme::hint(ui, "Type a prompt and press Generate."));
            return;
        }
        ui.label(theme::hint(
            ui,
            "Type a prompt and press Generate, or start from one of these.",
        ));
        ui.add_space(theme::SPACE_L);
        for example in examples.iter().take(EXAMPLES) {
            let button = Button::new(example.as_str())
                .truncate()
                .min_size(Vec2::new(340.0_f32.min(ui.available_width()), 36.0));
            if ui.add(button).clicked() {
                actions.push(Action::SetPrompt(example.clone()));
            }
        }
    });
}

pub fn no_model_ui(ui: &mut Ui, actions: &mut Actions) {
    centered(ui, 250.0, |ui| {
        icons::show(ui, icons::MODEL, theme::ICON_LARGE, theme::tokens(ui).quiet);
        ui.add_space(theme::SPACE_M);
        ui.label(RichText::new("No model yet").text_style(TextStyle::Heading));
        ui.add_space(theme::SPACE_XS);
        let width = 440.0_f32.min(ui.available_width());
        ui.allocate_ui(Vec2::new(width, 0.0), |ui| {
            ui.vertical_centered(|ui| {
                ui.label(theme::hint(
                    ui,
                    "A model is what a program has learned about pictures. \
                     Choose a Stable Diffusion 1 or 2 model: a folder with a model_index.json (the diffusers layout), \
                     or a checkpoint in one file, .safetensors or .ckpt. \
                     It stays where it is. Easel's own Starter belongs in the folder weights/starter; \
                     put it back there and start again to draw at once.",
                ));
            });
        });
        ui.add_space(theme::SPACE_L);
        let size = Vec2::new(240.0, 36.0);
        for command in [UiCommand::ChooseModelFolder, UiCommand::ChooseModelFile] {
            let button =
                Button::new((icons::atom(icons::FOLDER), command.info().text)).min_size(size);
            if ui
                .add(button)
                .on_hover_text(command.info().tooltip)
                .clicked()
            {
                actions.ui(command);
            }
        }
    });
}

/// Shows something about `height` high in the middle of the room.
pub fn centered(ui: &mut Ui, height: f32, content: impl FnOnce(&mut Ui)) {
    let space = ((ui.available_height() - height) / 2.0).max(theme::SPACE_M);
    ui.add_space(space);
    ui.with_layout(Layout::top_down(Align::Center), content);
}
