//! The middle: the picture as large as it can be, or a grid of them while several are drawn.

use egui::{
    Align2, Color32, EventFilter, FontId, Id, Pos2, Rect, Response, Sense, Ui, Vec2, pos2, vec2,
};

use super::{failure, welcome};
use crate::app::command::{Action, Actions};
use crate::app::state::{Job, JobStatus, State, View, relative_name};
use crate::app::textures::{Painted, Textures};
use crate::app::{icons, theme};
use crate::worker::message::Stage;

/// Fitting never enlarges beyond this.
const MAX_FIT: f32 = 2.0;
/// Screen pixels a picture pixel, at most.
const MAX_ZOOM: f32 = 32.0;

/// The widget that has the keyboard when the picture does.
pub fn picture_id() -> Id {
    Id::unique("the picture")
}

pub fn picture_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let room = ui.available_rect_before_wrap();
    if state.no_model() && state.view == View::Welcome {
        return welcome::no_model_ui(ui, actions);
    }
    match state.view.clone() {
        View::Welcome => welcome::welcome_ui(ui, state, actions),
        View::Saved(path) => match (textures.saved(&path), state.history.unreadable.get(&path)) {
            (_, Some(failure)) => failure::failure_ui(ui, &failure.clone(), state, actions),
            (Some(painted), None) => {
                let size = saved_size(state, painted);
                let name = picture_name(state, &relative_name(&path));
                one_picture(ui, room, state, textures, Some(painted), size, 0, &name);
            }
            (None, None) => waiting_ui(ui, room, "Opening the picture…"),
        },
        View::Job(id) => {
            let Some(job) = state.job(id).cloned() else {
                return welcome::welcome_ui(ui, state, actions);
            };
            job_ui(ui, room, state, &job, textures, actions);
        }
    }
}

fn job_ui(
    ui: &mut Ui,
    room: Rect,
    state: &mut State,
    job: &Job,
    textures: &mut Textures,
    actions: &mut Actions,
) {
    let nothing = job.pictures.iter().all(Option::is_none)
        && (0..job.pictures.len()).all(|index| textures.job(job.id, index).is_none());
    if let JobStatus::Failed(failure) = &job.status
        && job.pictures.iter().all(Option::is_none)
    {
        return failure::failure_ui(ui, failure, state, actions);
    }
    if nothing && job.status == JobStatus::Cancelled {
        return waiting_ui(ui, room, "Cancelled before anything was drawn");
    }
    if nothing && job.output_size(0).is_none() {
        return waiting_ui(ui, room, stage_words(job));
    }
    let title = job.title();
    match (job.pictures.len(), state.close_up) {
        (1, _) => {
            let name = format!("Picture: {title}");
            one_picture(
                ui,
                room,
                state,
                textures,
                textures.job(job.id, 0),
                job.output_size(0),
                0,
                &name,
            );
        }
        (count, Some(index)) if index < count => {
            let name = format!("Picture {} of {count}: {title}", index + 1);
            one_picture(
                ui,
                room,
                state,
                textures,
                textures.job(job.id, index),
                job.output_size(index),
                index,
                &name,
            );
            back_ui(ui, room, actions);
        }
        (count, _) => grid_ui(ui, room, job, count, textures, actions),
    }
    if job.status == JobStatus::Cancelled {
        badge(ui, room, &cancelled_words(job));
    }
}

/// What the pictures themselves say: the progress has gone on to decoding them.
fn cancelled_words(job: &Job) -> String {
    let reached = job.pictures.iter().flatten();
    let mut reached = reached.filter_map(|picture| picture.settings.cancelled_after);
    reached.next().map_or("Cancelled".to_owned(), |steps| {
        let plural = if steps == 1 { "" } else { "s" };
        format!("Cancelled after {steps} step{plural}; not saved")
    })
}

fn stage_words(job: &Job) -> &'static str {
    match job.progress.map(|progress| progress.stage) {
        Some(Stage::LoadingModel) => "Loading the model…",
        Some(Stage::ReadingPrompt) => "Reading the prompt…",
        Some(Stage::Drawing | Stage::Decoding | Stage::Enlarging | Stage::Saving) => "Drawing…",
        None if job.running() => "Starting…",
        None => "Waiting for its turn",
    }
}

fn picture_name(state: &State, otherwise: &str) -> String {
    let prompt = state
        .current_prompt()
        .filter(|prompt| !prompt.trim().is_empty());
    format!("Picture: {}", prompt.unwrap_or(otherwise))
}

fn saved_size(state: &State, painted: Painted) -> Option<[u32; 2]> {
    if let Some(current) = state.current() {
        return Some([current.pixels.width_px, current.pixels.height_px]);
    }
    // A thumbnail in place of the picture: as large as a fitted picture of its shape may be.
    let [width, height] = painted.size.map(|side| side as u32);
    Some([width * 4, height * 4])
}

/// A picture fitted into its room; scroll or pinch to look closer, drag to move, double click to fit.
#[expect(
    clippy::too_many_arguments,
    reason = "a view, called from three places below"
)]
fn one_picture(
    ui: &mut Ui,
    room: Rect,
    state: &mut State,
    textures: &mut Textures,
    painted: Option<Painted>,
    size: Option<[u32; 2]>,
    index: usize,
    name: &str,
) {
    let room = room.shrink(theme::SPACE_L);
    let response = ui.interact(room, picture_id(), Sense::click_and_drag());
    name_picture(&response, name);
    keep_arrows(ui, &response);
    let Some(size) = size else {
        return;
    };
    let pixel = 1.0 / ui.ctx().pixels_per_point();
    let natural = vec2(size[0] as f32, size[1] as f32) * pixel;
    let fit = (room.size() / natural).min_elem().min(MAX_FIT);
    zoom_input(ui, room, &response, state, fit);
    let scale = state.zoom.scale.unwrap_or(fit);
    let offset = Vec2::from(state.zoom.offset);
    let rect = snap(
        Rect::from_center_size(room.center() + offset, natural * scale),
        pixel,
    );
    if let Some(current) = state.current() {
        let nearest = scale > MAX_FIT;
        textures.sharpen(ui.ctx(), &state.view, index, current.pixels, nearest);
    }
    paint_picture(ui, room.expand(theme::SPACE_L), rect, painted);
    // Alone on the screen it needs no sign that the keys are for it.
    if response.has_focus() && !state.full_picture {
        let stroke = ui.visuals().selection.stroke;
        ui.painter().rect_stroke(
            rect.intersect(room).expand(3.0),
            theme::CORNER,
            stroke,
            egui::StrokeKind::Outside,
        );
    }
    // The keys are the pictures' where nothing else has them: a frame would only be in the way.
    if response.clicked() {
        ui.memory_mut(|memory| {
            if let Some(focused) = memory.focused() {
                memory.surrender_focus(focused);
            }
        });
    }
}

fn zoom_input(ui: &Ui, room: Rect, response: &Response, state: &mut State, fit: f32) {
    if response.double_clicked() {
        state.zoom = Default::default();
        return;
    }
    if response.dragged() && state.zoom.scale.is_some() {
        let moved = Vec2::from(state.zoom.offset) + response.drag_delta();
        state.zoom.offset = moved.into();
    }
    let Some(pointer) = response.hover_pos() else {
        return;
    };
    let (scroll, pinch) = ui.input(|input| (input.smooth_scroll_delta().y, input.zoom_delta()));
    let factor = pinch * (scroll / 240.0).exp();
    if (factor - 1.0).abs() < 1e-4 {
        return;
    }
    let old = state.zoom.scale.unwrap_or(fit);
    let new = (old * factor).clamp(fit.min(1.0), MAX_ZOOM);
    let from_middle = pointer - room.center();
    let offset = Vec2::from(state.zoom.offset);
    state.zoom.offset = (from_middle - (from_middle - offset) * (new / old)).into();
    state.zoom.scale = Some(new);
    if new <= fit {
        state.zoom = Default::default();
    }
}

/// Whole screen pixels, so that a picture at 100 % is exact.
fn snap(rect: Rect, pixel: f32) -> Rect {
    let round = |value: f32| (value / pixel).round() * pixel;
    let min = pos2(round(rect.min.x), round(rect.min.y));
    Rect::from_min_size(min, vec2(round(rect.width()), round(rect.height())))
}

fn paint_picture(ui: &Ui, clip: Rect, rect: Rect, painted: Option<Painted>) {
    let painter = ui.painter_at(clip);
    match painted {
        Some(painted) => {
            let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
            painter.image(painted.id, rect, whole, Color32::WHITE);
        }
        None => {
            painter.rect_filled(rect, 0, theme::tokens(ui).panel);
        }
    }
}

fn name_picture(response: &Response, name: &str) {
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, name));
}

/// Arrows walk the history while this has the keyboard, instead of moving the focus.
pub fn keep_arrows(ui: &Ui, response: &Response) {
    if response.has_focus() {
        let filter = EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            tab: false,
            escape: false,
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    }
}

/// All pictures of a job; a click looks at one closely.
fn grid_ui(
    ui: &mut Ui,
    room: Rect,
    job: &Job,
    count: usize,
    textures: &Textures,
    actions: &mut Actions,
) {
    let Some(size) = job.output_size(0) else {
        return;
    };
    let room = room.shrink(theme::SPACE_L);
    let natural = vec2(size[0] as f32, size[1] as f32) / ui.ctx().pixels_per_point();
    let (columns, scale) = best_columns(room.size(), natural, count);
    let cell = natural * scale;
    let rows = count.div_ceil(columns);
    let total = vec2(
        columns as f32 * (cell.x + theme::SPACE_S) - theme::SPACE_S,
        rows as f32 * (cell.y + theme::SPACE_S) - theme::SPACE_S,
    );
    let start = room.center() - total / 2.0;
    for index in 0..count {
        let (column, row) = ((index % columns) as f32, (index / columns) as f32);
        let at = start
            + vec2(
                column * (cell.x + theme::SPACE_S),
                row * (cell.y + theme::SPACE_S),
            );
        let rect = snap(
            Rect::from_min_size(at, cell),
            1.0 / ui.ctx().pixels_per_point(),
        );
        let response = ui.interact(rect, Id::unique(("grid", job.id.0, index)), Sense::click());
        let name = format!("Picture {} of {count}", index + 1);
        response
            .widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, &name));
        paint_picture(ui, room, rect, textures.job(job.id, index));
        if response.hovered() || response.has_focus() {
            let stroke = ui.visuals().selection.stroke;
            ui.painter()
                .rect_stroke(rect, 0, stroke, egui::StrokeKind::Outside);
        }
        if response.on_hover_text("Click to look closely").clicked() {
            actions.push(Action::LookAt(Some(index)));
        }
    }
}

/// The number of columns that shows the pictures largest, and the scale it gives.
fn best_columns(room: Vec2, natural: Vec2, count: usize) -> (usize, f32) {
    (1..=count)
        .map(|columns| {
            let rows = count.div_ceil(columns);
            let gaps = vec2((columns - 1) as f32, (rows - 1) as f32) * theme::SPACE_S;
            let free = (room - gaps).max(Vec2::splat(1.0));
            let scale =
                (free.x / (natural.x * columns as f32)).min(free.y / (natural.y * rows as f32));
            (columns, scale.min(MAX_FIT))
        })
        .fold(
            (1, 0.0),
            |best, next| if next.1 > best.1 + 1e-4 { next } else { best },
        )
}

fn back_ui(ui: &mut Ui, room: Rect, actions: &mut Actions) {
    let rect = Rect::from_min_size(
        room.min + Vec2::splat(theme::SPACE_M),
        vec2(140.0, theme::ROW_HEIGHT),
    );
    let button = egui::Button::new((icons::atom(icons::BACK), "All pictures"));
    if ui.place(rect, button).clicked() {
        actions.push(Action::LookAt(None));
    }
}

fn waiting_ui(ui: &mut Ui, room: Rect, words: &str) {
    let label = egui::Label::new(theme::hint(ui, words));
    ui.place(
        Rect::from_center_size(room.center(), vec2(room.width(), 24.0)),
        label,
    );
}

/// A word in the corner of the picture's room.
fn badge(ui: &mut Ui, room: Rect, text: &str) {
    let tokens = theme::tokens(ui);
    let galley = ui.painter().layout_no_wrap(
        text.to_owned(),
        FontId::proportional(theme::HINT),
        tokens.text,
    );
    let size = galley.size() + vec2(2.0 * theme::SPACE_M, theme::SPACE_S);
    let rect = Align2::CENTER_TOP.anchor_size(room.center_top() + vec2(0.0, theme::SPACE_M), size);
    ui.painter().rect_filled(rect, theme::CORNER, tokens.raised);
    ui.place(
        rect,
        egui::Label::new(egui::RichText::new(text).size(theme::HINT)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_use_the_room_and_never_enlarge_beyond_twice() {
        let (columns, scale) = best_columns(vec2(600.0, 600.0), vec2(256.0, 256.0), 4);
        assert_eq!(columns, 2);
        assert!((scale - (600.0 - theme::SPACE_S) / 512.0).abs() < 1e-3);
        assert_eq!(best_columns(vec2(900.0, 200.0), vec2(100.0, 100.0), 3).0, 3);
        assert_eq!(
            best_columns(vec2(5000.0, 5000.0), vec2(64.0, 64.0), 2).1,
            MAX_FIT
        );
    }
}
