//! The parts of the window, one file each: `fn x_ui(ui, state, .., actions)`. No I/O, no locks, no
//! waiting; what a person asks for goes into `actions`.

pub mod controls;
pub mod failure;
pub mod fine;
pub mod help;
pub mod history;
pub mod ideas;
pub mod loras;
pub mod models;
pub mod noise;
pub mod picker;
pub mod picture;
pub mod progress;
pub mod prompt;
pub mod settings_window;
pub mod toast;
pub mod top_bar;
pub mod welcome;
pub mod xl;
