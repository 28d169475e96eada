//! Undo and redo over everything that a person changes: the words and settings of the next picture,
//! and the pictures that went to the trash.
//!
//! The window hands in what stands in the controls after every frame; a change becomes a step once it
//! has stood still, so that a dragged slider or a typed word is one step and not a hundred.

use std::path::PathBuf;

use crate::request::GenerationRequest;

/// A change that stood still for so long is a step.
pub const SETTLES_SECS: f64 = 0.7;
/// Steps that are kept.
const STEPS: usize = 200;

/// What stands in the controls. A seed that nobody chose is not part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub request: GenerationRequest,
    pub seed_locked: bool,
}

/// What is to be done to go one step back or forward.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put this into the controls.
    Draft(Box<Draft>),
    /// Bring the picture back from the trash; forward: move it there.
    Deleted(PathBuf),
}

#[derive(Debug, Default)]
pub struct Undo {
    /// The newest step last.
    past: Vec<Step>,
    future: Vec<Step>,
    /// What the newest step led to.
    settled: Option<Draft>,
    /// What has changed since, and when.
    moving: Option<(Draft, f64)>,
    /// Is being deleted again by a redo.
    redoing: Option<PathBuf>,
}

impl Undo {
    /// Looks at what stands in the controls at `now`, in seconds.
    pub fn feed(&mut self, now: f64, draft: Draft) {
        let Some(settled) = &self.settled else {
            self.settled = Some(draft);
            return;
        };
        if *settled == draft {
            self.moving = None;
            return;
        }
        match &self.moving {
            Some((latest, since)) if *latest == draft => {
                if now - since >= SETTLES_SECS {
                    self.settle(draft);
                }
            }
            _ => {
                self.future.clear();
                self.moving = Some((draft, now));
            }
        }
    }

    /// Whether a change waits to become a step.
    pub fn moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Makes a step of what has changed, now.
    pub fn settle(&mut self, draft: Draft) {
        self.moving = None;
        let before = self.settled.replace(draft);
        if let Some(before) = before
            && self.settled.as_ref() != Some(&before)
        {
            self.future.clear();
            self.push(Step::Draft(Box::new(before)));
        }
    }

    /// A picture went to the trash.
    pub fn deleted(&mut self, path: PathBuf) {
        if self.redoing.as_ref() == Some(&path) {
            self.redoing = None;
        } else {
            self.future.clear();
        }
        self.push(Step::Deleted(path));
    }

    /// A picture came back by another way.
    pub fn restored(&mut self, path: &PathBuf) {
        self.past
            .retain(|step| !matches!(step, Step::Deleted(deleted) if deleted == path));
    }

    /// One step back from `draft`.
    pub fn undo(&mut self, draft: Draft) -> Option<Step> {
        self.settle(draft);
        let step = self.past.pop()?;
        let forward = self.turned(&step);
        self.future.push(forward);
        Some(step)
    }

    /// One step forward again.
    pub fn redo(&mut self, draft: Draft) -> Option<Step> {
        self.settle(draft);
        let step = self.future.pop()?;
        match &step {
            Step::Deleted(path) => self.redoing = Some(path.clone()),
            Step::Draft(_) => {
                let back = self.turned(&step);
                self.push(back);
            }
        }
        Some(step)
    }

    /// The step that leads back from where `step` leads, which is where things stand then.
    fn turned(&mut self, step: &Step) -> Step {
        match step {
            Step::Deleted(path) => Step::Deleted(path.clone()),
            Step::Draft(to) => {
                let from = self.settled.replace((**to).clone());
                Step::Draft(Box::new(from.unwrap_or_else(|| (**to).clone())))
            }
        }
    }

    fn push(&mut self, step: Step) {
        self.past.push(step);
        let surplus = self.past.len().saturating_sub(STEPS);
        self.past.drain(..surplus);
    }
}

/// Where a text cursor belongs after `before` became `after`: behind what is new, in characters.
pub fn changed_end(before: &str, after: &str) -> usize {
    let same_end = before
        .chars()
        .rev()
        .zip(after.chars().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let same_start = before
        .chars()
        .zip(after.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let length = after.chars().count();
    (length - same_end).max(same_start).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(prompt: &str) -> Draft {
        Draft {
            request: GenerationRequest {
                prompt: prompt.to_owned(),
                ..GenerationRequest::default()
            },
            seed_locked: false,
        }
    }

    fn words(step: Option<Step>) -> String {
        match step {
            Some(Step::Draft(draft)) => draft.request.prompt,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stood_still_is_a_step_and_what_moves_is_not() {
        let mut undo = Undo::default();
        undo.feed(0.0, draft(""));
        for (now, prompt) in [(1.0, "a"), (1.2, "a f"), (1.4, "a fox"), (2.2, "a fox")] {
            undo.feed(now, draft(prompt));
        }
        assert!(!undo.moving());
        undo.feed(9.0, draft("a fox, 3d"));
        assert!(undo.moving());
        assert_eq!(words(undo.undo(draft("a fox, 3d"))), "a fox");
        assert_eq!(words(undo.undo(draft("a fox"))), "");
        assert_eq!(undo.undo(draft("")), None);
        assert_eq!(words(undo.redo(draft(""))), "a fox");
        assert_eq!(words(undo.redo(draft("a fox"))), "a fox, 3d");
        assert_eq!(undo.redo(draft("a fox, 3d")), None);
        assert_eq!(words(undo.undo(draft("a fox, 3d"))), "a fox");
    }

    #[test]
    fn a_change_after_an_undo_ends_what_could_be_redone() {
        let mut undo = Undo::default();
        undo.feed(0.0, draft("a"));
        undo.settle(draft("b"));
        undo.undo(draft("b"));
        undo.feed(5.0, draft("c"));
        assert_eq!(undo.redo(draft("c")), None);
        assert_eq!(words(undo.undo(draft("c"))), "a");
    }

    #[test]
    fn deletes_stand_in_line_with_the_other_changes() {
        let mut undo = Undo::default();
        let path = PathBuf::from("a.png");
        undo.feed(0.0, draft("a"));
        undo.settle(draft("b"));
        undo.deleted(path.clone());
        undo.settle(draft("c"));
        assert_eq!(words(undo.undo(draft("c"))), "b");
        assert_eq!(undo.undo(draft("b")), Some(Step::Deleted(path.clone())));
        assert_eq!(undo.redo(draft("b")), Some(Step::Deleted(path.clone())));
        undo.deleted(path.clone());
        assert_eq!(words(undo.redo(draft("b"))), "c", "a redo ends no redo");
        undo.restored(&path);
        assert_eq!(words(undo.undo(draft("c"))), "b");
        assert_eq!(words(undo.undo(draft("b"))), "a");
    }

    #[test]
    fn the_cursor_goes_where_the_words_changed() {
        assert_eq!(changed_end("a fox", "a red fox"), 5);
        assert_eq!(changed_end("a red fox", "a fox"), 2);
        assert_eq!(changed_end("", "狐"), 1);
        assert_eq!(changed_end("aa", "a"), 1);
        assert_eq!(changed_end("same", "same"), 4);
    }
}
