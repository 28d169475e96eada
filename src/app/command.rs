//! Everything a person can do: one table with text, tooltip and shortcut. Views emit [`Action`]s;
//! one place ([`super::App`]'s `execute`) carries them out.

use std::path::PathBuf;

use egui::{Key, KeyboardShortcut, Modifiers};

use crate::error::Remedy;
use crate::worker::message::JobId;

/// What a view asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Ui(UiCommand),
    ChooseModel(Option<PathBuf>),
    /// Search again, with this folder or model among the places, and take it when it is found.
    OpenModel(PathBuf),
    ForgetModelFolder(PathBuf),
    SetPrompt(String),
    AddWord {
        word: String,
        /// Parts of the prompt that it takes the place of.
        instead_of: Vec<String>,
    },
    /// Names it in the prompt.
    AddLora(String),
    ShowSaved(PathBuf),
    /// A picture of several; `None`: back to all of them.
    LookAt(Option<usize>),
    CancelJob(JobId),
    Remedy(Remedy),
    Restore(PathBuf),
    UseRecipe,
    DismissOffer,
    WantThumbnail(PathBuf),
    /// Opens the search of the history, or closes it.
    ToggleSearch,
    CopyText(String),
}

/// What the views collect during a frame.
#[derive(Debug, Default)]
pub struct Actions(pub Vec<Action>);

impl Actions {
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    pub fn ui(&mut self, command: UiCommand) {
        self.0.push(Action::Ui(command));
    }
}

/// A command with a name, for buttons, menus and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UiCommand {
    Generate,
    Cancel,
    CancelAll,
    Heavier,
    Lighter,
    SaveAs,
    Copy,
    Reuse,
    Vary,
    Enlarge,
    Delete,
    Undo,
    Redo,
    ShowInFolder,
    Newer,
    Older,
    FullPicture,
    ChooseModelFolder,
    ChooseModelFile,
    ChooseVae,
    ChooseRefiner,
    ChooseUnet,
    ChooseWildcards,
    ChoosePicturesFolder,
    ToggleHistory,
    ToggleControls,
    ToggleTheme,
    Settings,
    Help,
    LargerText,
    SmallerText,
    NormalText,
}

/// How a command is called and reached.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    pub command: UiCommand,
    pub text: &'static str,
    pub tooltip: &'static str,
    pub shortcut: Option<KeyboardShortcut>,
}

const fn plain(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::NONE, key))
}

const fn command(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND, key))
}

const fn command_shift(key: Key) -> Option<KeyboardShortcut> {
    let modifiers = Modifiers {
        shift: true,
        ..Modifiers::COMMAND
    };
    Some(KeyboardShortcut::new(modifiers, key))
}

const fn row(
    command: UiCommand,
    text: &'static str,
    tooltip: &'static str,
    shortcut: Option<KeyboardShortcut>,
) -> CommandInfo {
    CommandInfo {
        command,
        text,
        tooltip,
        shortcut,
    }
}

/// Every command, in the order of the help window.
pub const COMMANDS: &[CommandInfo] = &[
    row(
        UiCommand::Generate,
        "Generate",
        "Draw the picture; while one is being drawn, wait in line",
        command(Key::Enter),
    ),
    row(
        UiCommand::Cancel,
        "Cancel",
        "Stop the drawing; again, everything that waits",
        plain(Key::Escape),
    ),
    row(
        UiCommand::CancelAll,
        "Cancel all",
        "Stop the drawing and everything that waits",
        None,
    ),
    row(
        UiCommand::Heavier,
        "Stronger words",
        "Give the selected words 0.1 more weight",
        command(Key::ArrowUp),
    ),
    row(
        UiCommand::Lighter,
        "Weaker words",
        "Give the selected words 0.1 less weight",
        command(Key::ArrowDown),
    ),
    row(
        UiCommand::SaveAs,
        "Save as…",
        "Save this picture under another name or in another format",
        command(Key::S),
    ),
    row(UiCommand::Copy, "Copy", "Copy the picture", command(Key::C)),
    row(
        UiCommand::Reuse,
        "Reuse",
        "Put this picture's prompt, settings and seed back into the controls",
        None,
    ),
    row(
        UiCommand::Vary,
        "Vary",
        "Draw again with the same settings and a new seed",
        None,
    ),
    row(
        UiCommand::Enlarge,
        "Enlarge",
        "Make a copy four times as wide and high, with detail added (upscaler)",
        None,
    ),
    row(
        UiCommand::Delete,
        "Delete",
        "Move this picture to the trash",
        plain(Key::Delete),
    ),
    row(
        UiCommand::Undo,
        "Undo",
        "Take back the last change, also a delete",
        command(Key::Z),
    ),
    row(
        UiCommand::Redo,
        "Redo",
        "Make the change again that was taken back",
        command_shift(Key::Z),
    ),
    row(
        UiCommand::ShowInFolder,
        "Show in folder",
        "Show the file in the file manager",
        None,
    ),
    row(
        UiCommand::Newer,
        "Newer picture",
        "Show the next newer picture of the history",
        plain(Key::ArrowLeft),
    ),
    row(
        UiCommand::Older,
        "Older picture",
        "Show the next older picture of the history",
        plain(Key::ArrowRight),
    ),
    row(
        UiCommand::FullPicture,
        "Full picture",
        "Show nothing but the picture; again, or Esc, to come back",
        plain(Key::F11),
    ),
    row(
        UiCommand::ChooseModelFolder,
        "Open a model folder…",
        "Choose a folder in the diffusers layout, or one with several models",
        None,
    ),
    row(
        UiCommand::ChooseModelFile,
        "Open a model file…",
        "Choose a checkpoint in one file: .safetensors or .ckpt",
        None,
    ),
    row(
        UiCommand::ChooseVae,
        "Choose a VAE file…",
        "Draw with a VAE in a file: .safetensors, .ckpt or .pt",
        None,
    ),
    row(
        UiCommand::ChooseRefiner,
        "Choose a refiner file…",
        "Draw the last steps with a checkpoint in one file: .safetensors or .ckpt",
        None,
    ),
    row(
        UiCommand::ChooseUnet,
        "Choose a UNet file…",
        "Draw with a UNet in a file of its own: .safetensors or .gguf",
        None,
    ),
    row(
        UiCommand::ChooseWildcards,
        "Choose a folder of wildcards…",
        "Choose where the lists lie that __name__ in a prompt draws from",
        None,
    ),
    row(
        UiCommand::ChoosePicturesFolder,
        "Choose the pictures folder…",
        "Choose where finished pictures go",
        None,
    ),
    row(
        UiCommand::ToggleHistory,
        "History",
        "Show or hide what was drawn before",
        None,
    ),
    row(
        UiCommand::ToggleControls,
        "Controls",
        "Show or hide the controls",
        None,
    ),
    row(
        UiCommand::ToggleTheme,
        "Dark or light",
        "Switch between the dark and the light look",
        None,
    ),
    row(
        UiCommand::Settings,
        "Settings",
        "Folders, file format, look, device",
        command(Key::Comma),
    ),
    row(
        UiCommand::Help,
        "Keyboard",
        "Show all keys",
        plain(Key::Questionmark),
    ),
    row(
        UiCommand::LargerText,
        "Larger text",
        "Make everything larger",
        command(Key::Plus),
    ),
    row(
        UiCommand::SmallerText,
        "Smaller text",
        "Make everything smaller",
        command(Key::Minus),
    ),
    row(
        UiCommand::NormalText,
        "Normal text",
        "Back to the normal size",
        command(Key::Num0),
    ),
];

impl UiCommand {
    /// The row of [`COMMANDS`] for this command.
    pub fn info(self) -> &'static CommandInfo {
        COMMANDS
            .iter()
            .find(|info| info.command == self)
            .unwrap_or(&COMMANDS[0])
    }

    /// The tooltip with the key, as buttons show it.
    pub fn hover(self, ctx: &egui::Context) -> String {
        let info = self.info();
        match &info.shortcut {
            Some(shortcut) => format!("{} ({})", info.tooltip, ctx.format_shortcut(shortcut)),
            None => info.tooltip.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_one_row_and_no_two_share_a_key() {
        for (index, info) in COMMANDS.iter().enumerate() {
            assert_eq!(info.command.info().text, info.text);
            assert!(!info.tooltip.is_empty());
            let same = COMMANDS.iter().skip(index + 1).any(|other| {
                other.command == info.command
                    || (other.shortcut.is_some() && other.shortcut == info.shortcut)
            });
            assert!(!same, "{:?}", info.command);
        }
    }
}
