//! Paints a prompt as it is read: brackets, weights, LoRAs and wildcards in quiet colours, what is
//! probably a slip underlined. Looks only; the reading is `prompt/`'s.

use std::sync::Arc;

use egui::text::{LayoutJob, TextFormat};
use egui::{Color32, FontId, Galley, Stroke, Ui};

use crate::app::state::Checked;
use crate::app::theme::{self, Tokens};
use crate::prompt::SpanKind;

/// Lays a prompt out for a text field, as it was read last.
pub fn layout(ui: &Ui, text: &str, checked: &Checked, wrap_width: f32) -> Arc<Galley> {
    let tokens = theme::tokens(ui);
    let mut job = LayoutJob {
        keep_trailing_whitespace: true,
        ..LayoutJob::default()
    };
    job.wrap.max_width = wrap_width;
    let mut at = 0;
    let mut warnings = checked.marked().iter().peekable();
    for span in checked.spans() {
        let color = color(tokens, span.kind);
        // A span is cut where what is underlined begins and ends.
        while at < span.range.end {
            while warnings.next_if(|it| it.range.end <= at).is_some() {}
            let (end, wrong) = match warnings.peek() {
                Some(warning) if warning.range.start <= at => (warning.range.end, true),
                Some(warning) => (warning.range.start, false),
                None => (text.len(), false),
            };
            let end = end.min(span.range.end);
            let Some(part) = text.get(at..end) else {
                break;
            };
            job.append(part, 0.0, format(color, wrong.then_some(tokens.danger)));
            at = end;
        }
    }
    // What the reading does not reach: all of a prompt that is too long.
    job.append(
        text.get(at..).unwrap_or_default(),
        0.0,
        format(tokens.text, None),
    );
    ui.fonts_mut(|fonts| fonts.layout_job(job))
}

fn format(color: Color32, underline: Option<Color32>) -> TextFormat {
    TextFormat {
        underline: underline.map_or(Stroke::NONE, |color| Stroke::new(1.0, color)),
        ..TextFormat::simple(FontId::proportional(theme::BODY), color)
    }
}

fn color(tokens: &Tokens, kind: SpanKind) -> Color32 {
    match kind {
        SpanKind::Text => tokens.text,
        SpanKind::Bracket | SpanKind::Escape => tokens.quiet,
        SpanKind::Weight => tokens.syntax_number,
        SpanKind::Edit | SpanKind::Keyword => tokens.syntax_keyword,
        SpanKind::Network | SpanKind::Embedding => tokens.syntax_network,
        SpanKind::Wildcard | SpanKind::Choice => tokens.syntax_choice,
    }
}
