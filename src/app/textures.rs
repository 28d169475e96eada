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
/// Pixels that all pictures of one job may have on the graphics card, 4 bytes each: a screen has
/// fewer. The one that is looked at closely is there whole beside them.
const JOB_PIXELS: usize = 32 << 20;

/// The textures of the window.
#[derive(Default)]
pub struct Textures {
    jobs: HashMap<(JobId, usize), Shown>,
    /// The picture of a job that is looked at closely, where `jobs` holds it smaller.
    close: Option<((JobId, usize), Shown)>,
    opened: Option<(PathBuf, Shown)>,
    thumbnails: HashMap<PathBuf, (TextureHandle, u64)>,
    clock: u64,
}

struct Shown {
    texture: TextureHandle,
    finished: bool,
    nearest: bool,
    /// Smaller than the picture.
    reduced: bool,
}

/// Which picture of which job.
#[derive(Clone, Copy)]
pub struct Place {
    pub job: JobId,
    pub index: usize,
    /// Pictures of the job.
    pub count: usize,
}

/// A picture that can be painted.
#[derive(Clone, Copy)]
pub struct Painted {
    pub id: egui::TextureId,
    /// Of the texture, in pixels.
    pub size: [usize; 2],
}

impl Textures {
    /// Takes the picture of a job as it is now, smaller where the job has very many. The same texture
    /// stays, so nothing flickers.
    pub fn set_job(&mut self, ctx: &Context, place: Place, pixels: &Pixels, finished: bool) {
        let Some(image) = shrunk(ctx, pixels, JOB_PIXELS / place.count.max(1)) else {
            return;
        };
        let reduced = image.size[0] < pixels.width_px as usize;
        let options = options(false);
        match self.jobs.get_mut(&(place.job, place.index)) {
            // A preview that comes late never covers the finished picture.
            Some(shown) if shown.finished && !finished => {}
            Some(shown) => {
                shown.texture.set(image, options);
                shown.finished = finished;
                shown.nearest = false;
                shown.reduced = reduced;
            }
            None => {
                let name = format!("job {}/{}", place.job.0, place.index);
                let texture = ctx.load_texture(name, image, options);
                let shown = Shown {
                    texture,
                    finished,
                    nearest: false,
                    reduced,
                };
                self.jobs.insert((place.job, place.index), shown);
            }
        }
    }

    /// Takes a picture of the history, whole.
    pub fn set_opened(&mut self, ctx: &Context, path: &Path, pixels: &Pixels) {
        let Some(image) = shrunk(ctx, pixels, usize::MAX) else {
            return;
        };
        let texture = ctx.load_texture("opened", image, options(false));
        let shown = Shown {
            texture,
            finished: true,
            nearest: false,
            reduced: false,
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
        let close = self.close.as_ref();
        let close = close.filter(|(place, _)| *place == (job, index));
        let shown = close
            .map(|(_, shown)| shown)
            .or_else(|| self.jobs.get(&(job, index)));
        shown.map(Shown::painted)
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

    /// Readies the picture that is looked at for its size on the screen: whole, and beyond 200 % with
    /// nearest filtering, so that pixels stay pixels; linear below.
    pub fn sharpen(
        &mut self,
        ctx: &Context,
        view: &View,
        index: usize,
        pixels: &Pixels,
        nearest: bool,
    ) {
        let shown = match view {
            View::Job(job) => {
                let place = (*job, index);
                let close = self.close.as_mut().filter(|(close, _)| *close == place);
                match close {
                    Some((_, shown)) => Some(shown),
                    None => self.jobs.get_mut(&place),
                }
            }
            View::Saved(path) => self
                .opened
                .as_mut()
                .filter(|(opened, _)| opened == path)
                .map(|(_, shown)| shown),
            View::Welcome => None,
        };
        let Some(shown) = shown.filter(|shown| shown.finished) else {
            return;
        };
        if shown.nearest == nearest && !shown.reduced {
            return;
        }
        let Some(image) = shrunk(ctx, pixels, usize::MAX) else {
            return;
        };
        if let (true, View::Job(job)) = (shown.reduced, view) {
            let whole = Shown {
                texture: ctx.load_texture("close", image, options(nearest)),
                finished: true,
                nearest,
                reduced: false,
            };
            self.close = Some(((*job, index), whole));
        } else {
            shown.texture.set(image, options(nearest));
            shown.nearest = nearest;
        }
    }

    /// Drops what is no longer shown.
    pub fn trim(&mut self, state: &State) {
        self.jobs.retain(|(id, _), _| state.job(*id).is_some());
        self.close.take_if(|((job, index), _)| {
            state.view != View::Job(*job) || state.close_up.unwrap_or(0) != *index
        });
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

/// The same, smaller where the picture is larger than a texture can be (the painter would end the
/// program) or has more than `most` pixels: every pixel of the small one is the mean of a square.
fn shrunk(ctx: &Context, pixels: &Pixels, most: usize) -> Option<ColorImage> {
    let limit = ctx.input(|input| input.max_texture_side).max(1);
    let [width, height] = [pixels.width_px as usize, pixels.height_px as usize];
    if width == 0 || pixels.rgb.len() != width.checked_mul(height)?.checked_mul(3)? {
        return None;
    }
    let area = |stride: usize| width.div_ceil(stride) * height.div_ceil(stride);
    let mut stride = width.max(height).div_ceil(limit);
    while area(stride) > most && area(stride) > 1 {
        stride += 1;
    }
    if stride <= 1 {
        return image(pixels);
    }
    let mut rgb = Vec::with_capacity(3 * area(stride));
    let mut sums = vec![[0_u32; 4]; width.div_ceil(stride)];
    for rows in pixels.rgb.chunks(3 * width * stride) {
        sums.fill([0; 4]);
        for row in rows.chunks_exact(3 * width) {
            for (sum, square) in sums.iter_mut().zip(row.chunks(3 * stride)) {
                for pixel in square.chunks_exact(3) {
                    for (channel, value) in sum.iter_mut().zip(pixel) {
                        *channel += u32::from(*value);
                    }
                    sum[3] += 1;
                }
            }
        }
        for [red, green, blue, count] in &sums {
            let count = (*count).max(1);
            rgb.extend([red, green, blue].map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    let size = [width, height].map(|side| side.div_ceil(stride));
    Some(ColorImage::from_rgb(size, &rgb))
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

    fn place(job: u64) -> Place {
        Place {
            job: JobId(job),
            index: 0,
            count: 1,
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
        let checks = Pixels {
            width_px: 5,
            height_px: 2,
            rgb: [[0, 100, 200], [40, 60, 80]].concat().repeat(5),
        };
        let image = shrunk(&ctx, &checks, 3).unwrap();
        assert_eq!(image.size, [3, 1]);
        assert_eq!(image[(0, 0)], egui::Color32::from_rgb(20, 80, 140));
    }

    #[test]
    fn very_many_large_pictures_are_kept_small_and_the_close_one_whole() {
        let ctx = Context::default();
        let mut textures = Textures::default();
        let (job, count) = (JobId(1), 100);
        let large = pixels(1024);
        for index in 6..8 {
            let place = Place { job, index, count };
            textures.set_job(&ctx, place, &large, true);
        }
        let size = |textures: &Textures| textures.job(job, 7).unwrap().size;
        assert!(count * size(&textures).into_iter().product::<usize>() <= JOB_PIXELS);
        assert!(size(&textures)[0] >= 500);
        textures.sharpen(&ctx, &View::Job(job), 7, &large, false);
        assert_eq!(size(&textures), [1024, 1024]);
        textures.trim(&State::default());
        assert!(textures.close.is_none() && textures.jobs.is_empty());
    }

    #[test]
    fn a_late_preview_never_covers_the_finished_picture() {
        let ctx = Context::default();
        let mut textures = Textures::default();
        textures.set_job(&ctx, place(1), &pixels(8), true);
        textures.set_job(&ctx, place(1), &pixels(4), false);
        assert_eq!(textures.job(JobId(1), 0).unwrap().size, [8, 8]);
        let broken = Pixels {
            rgb: vec![0; 5],
            ..pixels(2)
        };
        textures.set_job(&ctx, place(2), &broken, true);
        assert!(textures.job(JobId(2), 0).is_none());
    }
}
