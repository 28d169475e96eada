//! Several texts that the network is told at once, as one: compel's `.blend()` and `.and()`. Every other
//! text is a mixture of itself alone.

use super::attention::{Piece, pieces};
use super::compel;
use crate::request::Emphasis;

/// Its states stand behind those of the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// How far they are from the empty prompt's; 1 is as they are.
    pub weight: f64,
    /// Added up; at least one.
    pub blended: Vec<Blended>,
}

/// A text and its share of the sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Blended {
    pub share: f64,
    pub pieces: Vec<Piece>,
}

impl Joined {
    pub(super) fn plain(weight: f64, pieces: Vec<Piece>) -> Self {
        let blended = vec![Blended { share: 1.0, pieces }];
        Self { weight, blended }
    }
}

/// The texts of one phase of a prompt; at least one.
pub fn mixture(text: &str, emphasis: Emphasis) -> Vec<Joined> {
    let mixed = match emphasis {
        Emphasis::Compel => compel::mixed(&compel::spaced(text)).map(|mixed| mixed.joined),
        _ => None,
    };
    mixed.unwrap_or_else(|| vec![Joined::plain(1.0, pieces(text, emphasis))])
}
