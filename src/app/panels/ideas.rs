//! What the model knows, one click from the prompt: things, styles, backgrounds; searchable.

use egui::{Button, Layout, Popup, PopupCloseBehavior, ScrollArea, TextEdit, Ui};

use crate::app::command::{Action, Actions};
use crate::app::state::State;
use crate::app::{icons, theme, widgets};

/// A button that opens the words; nothing where the model's card names none.
pub fn ideas_button(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    let known = state.card().is_some_and(|card| {
        !(card.concepts.is_empty() && card.styles.is_empty() && card.backgrounds.is_empty())
    });
    if !known {
        return;
    }
    let button = widgets::icon_button(ui, icons::IDEAS, "Ideas")
        .on_hover_text("What this model knows; a click adds the word to the prompt");
    Popup::from_toggle_button_response(&button)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .accessible_name("Ideas")
        .layout(Layout::top_down(egui::Align::Min))
        .gap(theme::SPACE_XS)
        .show(|ui| ideas_ui(ui, state, actions));
}

fn ideas_ui(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    ui.set_width(theme::IDEAS_WIDTH);
    let search = TextEdit::singleline(&mut state.ideas_query)
        .desired_width(f32::INFINITY)
        .margin(egui::Margin::symmetric(10, 6))
        .hint_text("Search");
    ui.add(search).accessible_name("Search ideas");
    let query = state.ideas_query.trim().to_lowercase();
    let Some(card) = state.card() else {
        return;
    };
    ScrollArea::vertical()
        .max_height(theme::IDEAS_HEIGHT)
        .min_scrolled_height(theme::IDEAS_HEIGHT)
        .auto_shrink([false, true])
        .show(ui, |ui| {
            let mut any = false;
            for (heading, words, kind) in [
                ("Styles", &card.styles, Kind::Style),
                ("Backgrounds", &card.backgrounds, Kind::Background),
                ("Things", &card.concepts, Kind::Thing),
            ] {
                let matching: Vec<&String> = words
                    .iter()
                    .filter(|word| word.to_lowercase().contains(&query))
                    .collect();
                if matching.is_empty() {
                    continue;
                }
                any = true;
                ui.add_space(theme::SPACE_XS);
                ui.label(theme::hint(ui, heading));
                ui.horizontal_wrapped(|ui| {
                    ui.spacing_mut().item_spacing = egui::Vec2::splat(theme::SPACE_XS);
                    ui.spacing_mut().interact_size.y = 24.0;
                    ui.spacing_mut().button_padding = egui::vec2(8.0, 3.0);
                    for word in matching {
                        if ui.add(Button::new(word.as_str())).clicked() {
                            actions.push(Action::AddWord {
                                word: kind.phrase(word),
                                instead_of: kind.alternatives(words),
                            });
                        }
                    }
                });
            }
            if !any {
                ui.add_space(theme::SPACE_S);
                ui.label(theme::hint(
                    ui,
                    "Nothing here is called that. The model may still know it.",
                ));
            }
        });
}

#[derive(Clone, Copy)]
enum Kind {
    Thing,
    Style,
    Background,
}

impl Kind {
    /// How the word is said in a prompt.
    fn phrase(self, word: &str) -> String {
        match self {
            Self::Thing | Self::Style => word.to_owned(),
            Self::Background if word.contains("background") => word.to_owned(),
            Self::Background => format!("on a {word} background"),
        }
    }

    /// What a word of this kind takes the place of: a picture has one style and one background.
    fn alternatives(self, words: &[String]) -> Vec<String> {
        match self {
            Self::Thing => Vec::new(),
            Self::Style | Self::Background => words.iter().map(|word| self.phrase(word)).collect(),
        }
    }
}

/// Adds a phrase to a prompt, with a comma where one is missing. Where a part of the prompt is one of
/// `instead_of`, the phrase takes its place.
pub fn add_word(prompt: &str, phrase: &str, instead_of: &[String]) -> String {
    let parts: Vec<&str> = prompt.split(',').collect();
    let is_other = |part: &&str| instead_of.iter().any(|other| other == part.trim());
    if let Some(place) = parts.iter().position(is_other) {
        let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        if let Some(part) = parts.get_mut(place) {
            let space = part.len() - part.trim_start().len();
            *part = format!("{}{phrase}", part.get(..space).unwrap_or_default());
        }
        return parts.join(",");
    }
    let start = prompt.trim_end().trim_end_matches(',').trim_end();
    if start.is_empty() {
        phrase.to_owned()
    } else {
        format!("{start}, {phrase}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_style_takes_the_place_of_the_first() {
        let styles = ["3d style", "flat style"].map(str::to_owned);
        assert_eq!(
            add_word("a fox, 3d style, red", "flat style", &styles),
            "a fox, flat style, red"
        );
        assert_eq!(
            add_word("a fox", "flat style", &styles),
            "a fox, flat style"
        );
    }

    #[test]
    fn words_join_with_one_comma() {
        assert_eq!(add_word("", "penguin", &[]), "penguin");
        assert_eq!(add_word("penguin", "3d style", &[]), "penguin, 3d style");
        assert_eq!(add_word("penguin, ", "3d style", &[]), "penguin, 3d style");
        assert_eq!(Kind::Background.phrase("blue"), "on a blue background");
    }
}
