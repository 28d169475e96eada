//! Pictures on disk: saving, the settings inside, the history, the trash.
//!
//! The last room of the data flow: `pipeline/` hands finished pixels and their settings to
//! [`save_picture`], the file thread of `worker/` lists, opens and deletes what is there. Knows nothing of
//! tensors, threads or widgets.

mod carried;
mod encode;
mod exif;
mod hashes;
mod history;
mod infotext;
mod metadata;
pub mod names;
mod programs;
mod save;
mod trash;
mod xmp;

pub use history::{list as list_pictures, open_picture, thumbnail};
pub use infotext::write as infotext;
pub use metadata::read_recipe;
pub use save::{
    check_size, check_target, enlarged_by, long_prompt_note, save_as, save_enlarged, save_picture,
    save_plain_png,
};
pub use trash::{delete, restore};

/// The longest settings text that Easel reads from a picture; A1111's own are a few KB.
const MAX_TEXT_BYTES: usize = 2 << 20;
