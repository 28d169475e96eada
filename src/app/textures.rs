//! Pictures on the graphics card: forming and finished ones of the viewed jobs, the opened one,
//! and a bounded number of thumbnails, the least lately seen of which is dropped first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use egui::{ColorImage, Context, TextureFilter, TextureHandle, TextureOptions};

use super::state::{State, View};
use crate::request::Pixels;
use crate::worker::message::JobId;

/// Thumbnails kept; about 60 MB at 128 px.
const THUMBNAILS: usize = 600;

/// The textures of the window.
#[derive(Default)]
pub struct Textures {
    jobs: HashMap<(JobId, usize), Shown>,
    opened: Option<(PathBuf, Shown)>,
    thumbnails: HashMap<PathBuf, (TextureHandle, u64)>,
    clock: u64,
}

struct Shown {
    texture: TextureHandle,
    finished: bool,
    nearest: bool,
}

/// A picture that can be painted.
#[derive(Clone, Copy)]
pub struct Painted {
    pub id: egui::TextureId,
    /// Of the texture, in pixels.
    pub size: [usize; 2],
}

impl Textures {
    /// Takes the picture of a job as it is now. The same texture stays, so nothing flickers.
    pub fn set_job(
        &mut self,
        ctx: &Context,
        job: JobId,
        index: usize,
        pixels: &Pixels,
        finished: bool,
    ) {
        let Some(image) = shrunk(ctx, pixels) else {
            return;
        };
        let options = options(false);
        match self.jobs.get_mut(&(job, index)) {
            // A preview that comes late never covers the finished picture.
            Some(shown) if shown.finished && !finished => {}
            Some(shown) => {
                shown.texture.set(image, options);
                shown.finished = finished;
                shown.nearest = false;
            }
            None => {
                let texture = ctx.load_texture(format!("job {}/{index}", job.0), image, options);
                let shown = Shown {
                    texture,
                    finished,
                    nearest: false,
                };
                self.jobs.insert((job, index), shown);
            }
        }
    }

    /// Takes a picture of the history, whole.
    pub fn set_opened(&mut self, ctx: &Context, path: &Path, pixels: &Pixels) {
        let Some(image) = shrunk(ctx, pixels) else {
            return;
        };
        let texture = ctx.load_texture("opened", image, options(false));
        let shown = Shown {
            texture,
            finished: true,
            nearest: false,
        };
        self.opened = Some((path.to_path_buf(), shown));
    }

    pub fn set_thumbnail(&mut self, ctx: &Context, path: &Path, pixels: &Pixels) {
        let Some(image) = image(pixels) else {
            return;
        };
        if self.thumbnails.len() >= THUMBNAILS {
            self.drop_oldest_thumbnails();
        }
        let texture = ctx.load_texture("thumbnail", image, options(false));
        self.thumbnails
            .insert(path.to_path_buf(), (texture, self.clock));
    }

    pub fn job(&self, job: JobId, index: usize) -> Option<Painted> {
        self.jobs.get(&(job, index)).map(Shown::painted)
    }

    /// The opened picture; its thumbnail while it is still being read.
    pub fn saved(&self, path: &Path) -> Option<Painted> {
        if let Some((opened, shown)) = &self.opened
            && opened == path
        {
            return Some(shown.painted());
        }
        let (texture, _) = self.thumbnails.get(path)?;
        Some(Painted {
            id: texture.id(),
            size: texture.size(),
        })
    }

    /// A thumbnail, and marks it as seen.
    pub fn thumbnail(&mut self, path: &Path) -> Option<Painted> {
        self.clock += 1;
        let (texture, seen) = self.thumbnails.get_mut(path)?;
        *seen = self.clock;
        Some(Painted {
            id: texture.id(),
            size: texture.size(),
        })
    }

    pub fn forget(&mut self, path: &Path) {
        self.thumbnails.remove(path);
    }

    /// Nearest beyond 200 %, so that pixels stay pixels; linear below.
    pub fn sharpen(
        &mut self,
        ctx: &Context,
        view: &View,
        index: usize,
        pixels: &Pixels,
        nearest: bool,
    ) {
        let shown = match view {
            View::Job(job) => self.jobs.get_mut(&(*job, index)),
            View::Saved(path) => self
                .opened
                .as_mut()
                .filter(|(opened, _)| opened == path)
                .map(|(_, shown)| shown),
            View::Welcome => None,
        };
        if let Some(shown) = shown
            && shown.nearest != nearest
            && shown.finished
            && let Some(image) = shrunk(ctx, pixels)
        {
            shown.texture.set(image, options(nearest));
            shown.nearest = nearest;
        }
    }

    /// Drops what is no longer shown.
    pub fn trim(&mut self, state: &State) {
        self.jobs.retain(|(id, _), _| state.job(*id).is_some());
        if let Some((path, _)) = &self.opened
            && state.view != View::Saved(path.clone())
        {
            self.opened = None;
        }
    }

    fn drop_oldest_thumbnails(&mut self) {
        let mut seen: Vec<u64> = self.thumbnails.values().map(|(_, seen)| *seen).collect();
        seen.sort_unstable();
        let limit = seen.get(seen.len() / 4).copied().unwrap_or_default();
        self.thumbnails.retain(|_, (_, seen)| *seen > limit);
    }
}

impl Shown {
    fn painted(&self) -> Painted {
        Painted {
            id: self.texture.id(),
            size: self.texture.size(),
        }
    }
}

/// `None` where the pixels do not have the size they claim.
pub fn image(pixels: &Pixels) -> Option<ColorImage> {
    let size = [pixels.width_px as usize, pixels.height_px as usize];
    let length = size[0].checked_mul(size[1])?.checked_mul(3)?;
    (length == pixels.rgb.len() && length > 0).then(|| ColorImage::from_rgb(size, &pixels.rgb))
}

/// The same, with pixels left out where the picture is larger than a texture can be: the painter
/// would end the program.
fn shrunk(ctx: &Context, pixels: &Pixels) -> Option<ColorImage> {
    let limit = ctx.input(|input| input.max_texture_side).max(1);
    let [width, height] = [pixels.width_px as usize, pixels.height_px as usize];
    let stride = width.max(height).div_ceil(limit);
    if stride <= 1 {
        return image(pixels);
    }
    let mut rgb = Vec::new();
    for row in pixels.rgb.chunks_exact(3 * width).step_by(stride) {
        rgb.extend(row.chunks_exact(3).step_by(stride).flatten());
    }
    let size = [width, height].map(|side| side.div_ceil(stride));
    (rgb.len() == 3 * size[0] * size[1]).then(|| ColorImage::from_rgb(size, &rgb))
}

fn options(nearest: bool) -> TextureOptions {
    let options = if nearest {
        TextureOptions::NEAREST
    } else {
        TextureOptions::LINEAR
    };
    TextureOptions {
        minification: TextureFilter::Linear,
        ..options
    }
    .with_mipmap_mode(Some(TextureFilter::Linear))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(side: u32) -> Pixels {
        Pixels {
            width_px: side,
            height_px: side,
            rgb: vec![7; (side * side * 3) as usize],
        }
    }

    #[test]
    fn thumbnails_are_bounded_and_the_lately_seen_stay() {
        let ctx = Context::default();
        let mut textures = Textures::default();
        for number in 0..THUMBNAILS {
            textures.set_thumbnail(&ctx, Path::new(&format!("{number}.png")), &pixels(2));
        }
        for number in 0..THUMBNAILS / 2 {
            assert!(
                textures
                    .thumbnail(Path::new(&format!("{number}.png")))
                    .is_some()
            );
        }
        textures.set_thumbnail(&ctx, Path::new("new.png"), &pixels(2));
        assert!(textures.thumbnails.len() < THUMBNAILS);
        assert!(textures.thumbnails.contains_key(Path::new("0.png")));
        assert!(!textures.thumbnails.contains_key(Path::new("500.png")));
    }

    #[test]
    fn a_picture_larger_than_a_texture_can_be_is_shown_smaller() {
        let ctx = Context::default();
        let limit = ctx.input(|input| input.max_texture_side) as u32;
        let (width_px, height_px) = (2 * limit + 1, 5);
        let wide = Pixels {
            width_px,
            height_px,
            rgb: (0..3 * width_px * height_px)
                .map(|value| value as u8)
                .collect(),
        };
        let mut textures = Textures::default();
        textures.set_opened(&ctx, Path::new("wide.png"), &wide);
        let [width, height] = textures.saved(Path::new("wide.png")).unwrap().size;
        assert_eq!([width, height], [width_px.div_ceil(3) as usize, 2]);
        let image = shrunk(&ctx, &wide).unwrap();
        let [r, g, b] = [0, 1, 2].map(|channel| (3 * 3 * width_px + 9 + channel) as u8);
        assert_eq!(image[(1, 1)], egui::Color32::from_rgb(r, g, b));
    }

    #[test]
    fn a_late_preview_never_covers_the_finished_picture() {
        let ctx = Context::default();
        let mut textures = Textures::default();
        textures.set_job(&ctx, JobId(1), 0, &pixels(8), true);
        textures.set_job(&ctx, JobId(1), 0, &pixels(4), false);
        assert_eq!(textures.job(JobId(1), 0).unwrap().size, [8, 8]);
        let broken = Pixels {
            rgb: vec![0; 5],
            ..pixels(2)
        };
        textures.set_job(&ctx, JobId(2), 0, &broken, true);
        assert!(textures.job(JobId(2), 0).is_none());
    }
}
