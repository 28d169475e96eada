//! Named tensors on their way into layers, with the record of what was asked for.
//!
//! A network walks its own structure with [`Scope`]s ("down_blocks.0.resnets.1") and takes what it
//! needs. Missing tensors are collected, so that one message names them all; what nobody took is in
//! [`Weights::unused`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::Adapters;
use crate::error::{Error, Result};

/// A file of the wrong kind lacks hundreds of tensors; a few names say as much.
const MAX_MISSING: usize = 12;
/// Transformed weights that one network may keep. They are 1.8 to 4 times as large as the weights: the
/// starter keeps all of them, and a large network those of its layers where it helps the most.
const KEPT_BYTES: usize = 64 << 20;

/// The tensors of one model.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    used: RefCell<BTreeSet<String>>,
    missing: RefCell<Vec<String>>,
    adapters: RefCell<BTreeMap<String, Adapters>>,
    budget: Budget,
    /// What the network computes in, where tensors may be stored in something else.
    kind: Option<Kind>,
    /// The network's memory for weights that were made `kind`.
    room: Budget,
}

impl Weights {
    /// Of tensors that are in the dtype that the network computes in. `path` is what messages name.
    pub fn new(path: impl Into<PathBuf>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            path: path.into(),
            tensors,
            used: RefCell::default(),
            missing: RefCell::default(),
            adapters: RefCell::default(),
            budget: Budget::default(),
            kind: None,
            room: Budget::of(0),
        }
    }

    /// The same for a network that computes in `kind`, whatever floats are stored in: large weights become
    /// that when they are used, and stay so as far as `room` goes.
    pub fn computing_in(self, kind: Kind, room: Budget) -> Self {
        Self {
            kind: Some(kind),
            room,
            ..self
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where names begin.
    pub fn root(&self) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: String::new(),
        }
    }

    /// Names that no layer took, in order. A model that is built makes them final.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.tensors
            .keys()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect()
    }

    /// Where the layers built so far can be changed, by the layers' names.
    pub fn adapters(&self) -> BTreeMap<String, Adapters> {
        self.adapters.borrow().clone()
    }

    /// See [`Self::computing_in`].
    pub fn room(&self) -> Budget {
        self.room.clone()
    }

    /// Every network's last word while it is built.
    ///
    /// Errors: [`Error::Model`] that names the tensors asked for and not there.
    pub fn check_complete(&self) -> Result<()> {
        let missing = self.missing.borrow();
        match missing.as_slice() {
            [] => Ok(()),
            [one] => Err(self.error(format!("the tensor {one} is missing"))),
            many => Err(self.error(format!("tensors are missing: {}", many.join(", ")))),
        }
    }

    fn error(&self, why: String) -> Error {
        Error::model(&self.path, why)
    }

    /// Remembers a missing tensor; the last straw is an error at once, so that a config that asks for
    /// a million layers stops.
    fn miss(&self, name: String) -> Result<()> {
        self.missing.borrow_mut().push(name);
        if self.missing.borrow().len() < MAX_MISSING {
            return Ok(());
        }
        self.missing.borrow_mut().push("and more".to_owned());
        self.check_complete()
    }
}

/// What is left of a network's memory for weights that it keeps in another form; shared by its layers.
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self::of(KEPT_BYTES)
    }
}

impl Budget {
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// No more than this is left from now on.
    pub fn limit(&self, bytes: usize) {
        self.0.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Whether there was as much, which is taken then.
    pub fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// A place in the names: "encoder.mid_block".
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// One level down.
    pub fn child(&self, name: &str) -> Self {
        Self {
            weights: self.weights,
            prefix: self.full(name),
        }
    }

    /// One of a numbered list.
    pub fn index(&self, index: usize) -> Self {
        self.child(&index.to_string())
    }

    /// The first of `names` that holds a weight; the first name where none does.
    pub fn child_of(&self, names: [&str; 2]) -> Self {
        let [first, second] = names.map(|name| self.child(name));
        if second.has("weight") && !first.has("weight") {
            second
        } else {
            first
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(&self.full(name))
    }

    /// The shape as stored, where the size of a layer follows from its weights.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.weights.tensors.get(&self.full(name))?.size())
    }

    /// The tensor of this name, in what the network computes in. Where it is missing, [`Weights::check_complete`] says so later and a
    /// stand-in of that shape comes back (no memory behind it).
    ///
    /// Errors: another shape than `shape`; too many missing.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        Ok(self.stored(name, shape)?.f_to_kind(self.kind(name))?)
    }

    /// As [`Self::tensor`], in the dtype that it is stored in; for [`Self::adapters`].
    pub fn stored(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        if let Some(tensor) = self.find(name, shape)? {
            return Ok(tensor);
        }
        self.weights.miss(self.full(name))?;
        let stand_in = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?;
        Ok(stand_in.f_expand(shape, false)?)
    }

    /// What the network computes in with the tensor of this name.
    pub fn kind(&self, name: &str) -> Kind {
        let stored = self.weights.tensors.get(&self.full(name));
        match (stored, self.weights.kind) {
            (Some(stored), Some(kind)) if stored.is_floating_point() => kind,
            (Some(stored), _) => stored.kind(),
            (None, kind) => kind.unwrap_or(Kind::Float),
        }
    }

    fn find(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let full = self.full(name);
        let Some(tensor) = self.weights.tensors.get(&full) else {
            return Ok(None);
        };
        if tensor.size() != shape {
            return Err(self.weights.error(format!(
                "its tensor {full} has the shape {:?}, but its config asks for {shape:?}",
                tensor.size()
            )));
        }
        self.weights.used.borrow_mut().insert(full);
        Ok(Some(tensor.shallow_clone()))
    }

    /// Marks a tensor that is stored but says nothing (`position_ids`) as used.
    pub fn ignore(&self, name: &str) {
        self.weights.used.borrow_mut().insert(self.full(name));
    }

    /// What is attached to the layer here, whose own weight and bias these are; nothing yet.
    pub fn adapters(&self, weight: &Tensor, bias: Option<&Tensor>) -> Adapters {
        let kind = self.weights.kind.unwrap_or(weight.kind());
        let adapters = Adapters::computing_in(kind, weight, bias, self.weights.room.clone());
        let mut all = self.weights.adapters.borrow_mut();
        all.insert(self.prefix.clone(), adapters.clone());
        adapters
    }

    /// The network's memory for what its convolutions keep.
    pub(super) fn budget(&self) -> Budget {
        self.weights.budget.clone()
    }

    /// An error about what is found at this place.
    pub fn error(&self, why: impl std::fmt::Display) -> Error {
        self.weights.error(format!("{}: {why}", self.prefix))
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let tensor = || Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let names = ["a.0.weight", "a.0.bias", "old.weight"];
        let tensors = names.map(|name| (name.to_owned(), tensor()));
        Weights::new("folder/unet", tensors.into())
    }

    #[test]
    fn what_is_taken_is_used_and_the_rest_is_reported() {
        let weights = weights();
        let scope = weights.root().child("a").index(0);
        assert_eq!(scope.tensor("weight", &[2, 3]).unwrap().size(), [2, 3]);
        assert!(scope.has("bias") && !scope.has("gamma"));
        assert_eq!(scope.shape("bias"), Some(vec![2, 3]));
        assert_eq!(weights.unused(), ["a.0.bias", "old.weight"]);
        weights.root().child_of(["new", "old"]).ignore("weight");
        assert_eq!(weights.unused(), ["a.0.bias"]);
        weights.check_complete().unwrap();
    }

    #[test]
    fn one_message_names_all_missing_tensors() {
        let weights = weights();
        let scope = weights.root().child("b");
        assert_eq!(scope.tensor("weight", &[4, 5]).unwrap().size(), [4, 5]);
        assert_eq!(scope.tensor("bias", &[4]).unwrap().size(), [4]);
        let message = weights.check_complete().unwrap_err().to_string();
        for part in ["folder/unet", "b.weight", "b.bias"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_wrong_shape_names_the_tensor_and_both_shapes() {
        let weights = weights();
        let error = weights.root().child("old").tensor("weight", &[3, 2]);
        let message = error.unwrap_err().to_string();
        for part in ["old.weight", "[2, 3]", "[3, 2]"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_config_that_asks_for_endless_layers_stops() {
        let weights = weights();
        let layers = (0usize..).map(|index| weights.root().index(index).tensor("weight", &[1]));
        let asked = layers.take_while(Result::is_ok).take(1000).count();
        assert!(asked < MAX_MISSING, "{asked}");
    }
}
