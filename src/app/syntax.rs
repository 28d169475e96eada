//! Paints a prompt as it is read: brackets, weights, LoRAs and wildcards in quiet colours, what is
//! probably a slip underlined. Looks only; the reading is `prompt/`'s.

use std::sync::Arc;

use egui::text::{LayoutJob, TextFormat};
use egui::{Color32, FontId, Galley, Stroke, Ui};

use crate::app::theme::{self, Tokens};
use crate::prompt::{Reading, SpanKind, Warning};

/// Lays a prompt out for a text field. `warnings`: those that are still true of this text.
pub fn layout(
    ui: &Ui,
    text: &str,
    reading: &Reading,
    warnings: &[Warning],
    wrap_width: f32,
) -> Arc<Galley> {
    let tokens = theme::tokens(ui);
    let mut job = LayoutJob {
        keep_trailing_whitespace: true,
        ..LayoutJob::default()
    };
    job.wrap.max_width = wrap_width;
    let mut at = 0;
    for span in &reading.spans {
        let color = color(tokens, span.kind);
        // A span is cut where what is underlined begins and ends.
        while at < span.range.end {
            let wrong = warnings.iter().find(|it| it.range.contains(&at));
            let next = warnings
                .iter()
                .map(|it| it.range.start)
                .filter(|start| *start > at);
            let end = match wrong {
                Some(warning) => warning.range.end,
                None => next.min().unwrap_or(text.len()),
            };
            let end = end.min(span.range.end);
            let Some(part) = text.get(at..end) else {
                break;
            };
            job.append(part, 0.0, format(color, wrong.map(|_| tokens.danger)));
            at = end;
        }
    }
    // What the reading does not reach, should it ever fall short.
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
