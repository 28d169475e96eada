//! ComfyUI's brackets: `(x)` multiplies by 1.1, `(x:1.3)` sets the weight, nothing else counts.
//!
//! Source: ComfyUI `comfy/sd1_clip.py` (`parse_parentheses`, `token_weights`, `escape_important`).

use super::Piece;
use super::attention::{ROUND_FACTOR, held, product};

/// Deeper brackets keep the weight that they are in: bounds the recursion.
const MAX_DEPTH: usize = 100;

/// Stand for escaped brackets while brackets are counted.
const CLOSE: &str = "\0\u{1}";
const OPEN: &str = "\0\u{2}";

pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let escaped = text.replace("\\)", CLOSE).replace("\\(", OPEN);
    let mut pieces = Vec::new();
    weigh(&escaped, 1.0, 0, &mut pieces);
    pieces
}

fn weigh(text: &str, weight: f64, depth: usize, to: &mut Vec<Piece>) {
    for item in outermost(text) {
        let inside = item
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .filter(|_| depth < MAX_DEPTH);
        match inside {
            Some(inside) => {
                let said = inside
                    .rsplit_once(':')
                    .filter(|(words, _)| !words.is_empty());
                let said = said.and_then(|(words, number)| Some((words, held(number.trim())?)));
                let (words, weight) = said.unwrap_or((inside, product(weight, ROUND_FACTOR)));
                weigh(words, weight, depth + 1, to);
            }
            None => {
                let text = item.replace(CLOSE, ")").replace(OPEN, "(");
                to.push(Piece::text(text, weight));
            }
        }
    }
}

/// The stretches inside and outside of the outermost brackets.
fn outermost(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut from, mut level) = (0, 0i64);
    let mut push = |from: usize, to: usize| {
        items.extend(text.get(from..to).filter(|item| !item.is_empty()));
    };
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => {
                if level == 0 {
                    push(from, at);
                    from = at;
                }
                level += 1;
            }
            ')' => {
                level -= 1;
                if level == 0 {
                    push(from, at + 1);
                    from = at + 1;
                }
            }
            _ => {}
        }
    }
    push(from, text.len());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_sets_the_weight_and_brackets_alone_multiply_it() {
        let shown: Vec<(String, f64)> = pieces("a ((b) c:0.5) [d] \\(e\\)")
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Text { text, weight } => Some((text, weight)),
                Piece::Break => None,
            })
            .collect();
        let want = [("a ", 1.0), ("b", 0.55), (" c", 0.5), (" [d] (e)", 1.0)];
        let want = want.map(|(text, weight)| (text.to_owned(), weight));
        assert_eq!(shown, want);
    }

    #[test]
    fn thousands_of_brackets_are_read() {
        let deep = format!("{}a{}", "(".repeat(50_000), ")".repeat(50_000));
        assert_eq!(pieces(&deep).len(), 1);
    }
}
