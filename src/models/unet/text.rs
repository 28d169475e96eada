//! The text as the UNet's transformers look at it, and what they make of it only once.
//!
//! Every step asks the same text: the keys and values that each attention projects from it are kept
//! from the first call on. (diffusers projects them anew at each call.)

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;

/// The keys and values of one text in one network, `[batch, tokens, channels]` each, by attention.
///
/// For one drawing: who changes the network's weights or the text begins a new one.
#[derive(Debug, Default)]
pub struct KeyValues(RefCell<BTreeMap<AttentionId, (Tensor, Tensor)>>);

/// Names an attention among all that were ever built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttentionId(u64);

impl AttentionId {
    pub fn new() -> Self {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        Self(BUILT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a transformer is given of the text.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    /// `[batch, tokens, cross_attention_dim]`
    pub states: &'a Tensor,
    pub kept: Option<&'a KeyValues>,
}

impl Text<'_> {
    /// The keys and values for attention `id`, which `project` makes where they are not kept.
    pub fn key_value(
        &self,
        id: AttentionId,
        project: impl FnOnce(&Tensor) -> (Tensor, Tensor),
    ) -> (Tensor, Tensor) {
        let Some(KeyValues(kept)) = self.kept else {
            return project(self.states);
        };
        let mut kept = kept.borrow_mut();
        let (key, value) = kept.entry(id).or_insert_with(|| project(self.states));
        (key.shallow_clone(), value.shallow_clone())
    }
}
