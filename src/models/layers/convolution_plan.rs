//! Which way a convolution is computed on a CPU: libtorch's direct one, or Winograd's with fewer
//! products (`kernels/`), from its sizes and what it may keep in memory.
//!
//! The costs are cycles of a processor that multiplies and adds 16 values in one, fitted to times of
//! the layers of Stable Diffusion's UNet and VAE and of the starter's on Zen 4. Only their proportions
//! count.

use std::cell::Cell;
use std::fmt;

use easel_kernels::{Around, Shape, Simd, Tile, Transformed};

use super::weights::Budget;

/// Values that are worked on at once in the costs below.
const LANES: f64 = 16.0;
/// The share of the processor's peak that the direct convolution reaches.
const DIRECT_SHARE: f64 = 0.8;
/// Cycles to get the nine weights of a pair of channels, in f32, from memory.
const DIRECT_WEIGHTS: f64 = 10.0;
/// Winograd's must be this much cheaper: it rounds a little more.
const WORTH_IT: f64 = 0.9;
/// The share of a call's time from which transformed weights are worth keeping.
const WORTH_KEEPING: f64 = 0.05;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By libtorch: the arithmetic as written.
    Direct,
    /// With tiles of this size; the weights are transformed in every call.
    Winograd(Tile),
    /// The same, with weights that are kept transformed.
    WinogradKept(Tile),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tile, kept) = match self {
            Self::Direct => return f.write_str("direct"),
            Self::Winograd(tile) => (tile, ""),
            Self::WinogradKept(tile) => (tile, ", weights kept"),
        };
        write!(f, "Winograd F({},3){kept}", tile.side())
    }
}

/// Tells how the 3x3 convolutions of a network would be computed, and computes none.
#[derive(Debug, Default)]
pub struct ConvolutionPlanner(Budget);

impl ConvolutionPlanner {
    /// The next one in the order of the calls. `channels`: in and out; `size`: rows and columns.
    pub fn plan(&self, channels: [i64; 2], batch: i64, size: [i64; 2]) -> Method {
        let plain = |value: i64| usize::try_from(value).unwrap_or_default();
        let shape = Shape {
            batch: plain(batch),
            in_channels: plain(channels[0]),
            out_channels: plain(channels[1]),
            height: plain(size[0]),
            width: plain(size[1]),
            around: Around::Zeros,
        };
        let method = choose(&shape, self.0.left());
        if let Method::WinogradKept(tile) = method {
            let bytes = Transformed::bytes(shape.in_channels, shape.out_channels, tile);
            self.0.take(bytes);
        }
        method
    }
}

/// Pictures that a call is planned for, however many it has: both halves of guidance. A picture must
/// not depend on what is drawn beside it.
const USUAL_BATCH: usize = 2;

/// The cheapest way for these sizes. `may_keep`: bytes of transformed weights that may be kept.
pub fn choose(shape: &Shape, may_keep: usize) -> Method {
    if Simd::detect() == Simd::PORTABLE {
        return Method::Direct;
    }
    let shape = &Shape {
        batch: USUAL_BATCH,
        ..*shape
    };
    let tiles = [Tile::Two, Tile::Four].map(|tile| (tile, Costs::new(shape, tile)));
    let cheapest = tiles
        .iter()
        .min_by(|(_, a), (_, b)| a.total().total_cmp(&b.total()));
    match cheapest {
        Some((tile, costs)) if costs.total() < WORTH_IT * direct_cost(shape) => {
            let bytes = Transformed::bytes(shape.in_channels, shape.out_channels, *tile);
            let worth_it = costs.kernel > WORTH_KEEPING * costs.total();
            if worth_it && bytes <= may_keep {
                Method::WinogradKept(*tile)
            } else {
                Method::Winograd(*tile)
            }
        }
        _ => Method::Direct,
    }
}

fn direct_cost(shape: &Shape) -> f64 {
    // Output channels fill whole registers.
    let channels = shape.in_channels * shape.out_channels.next_multiple_of(16);
    let pixels = shape.batch * shape.height * shape.width;
    channels as f64 * ((pixels * 9) as f64 / LANES / DIRECT_SHARE + DIRECT_WEIGHTS)
}

/// What the parts of a call cost.
struct Costs {
    input: f64,
    kernel: f64,
    products: f64,
    output: f64,
}

impl Costs {
    fn new(shape: &Shape, tile: Tile) -> Self {
        let (input, kernel, output) = match tile {
            Tile::Two => (40.0, 15.0, 22.0),
            Tile::Four => (100.0, 34.0, 70.0),
        };
        let panels = shape.panels(tile) as f64;
        let (c, k) = (shape.in_channels as f64, shape.out_channels as f64);
        let rows = shape.out_channels.next_multiple_of(8) as f64;
        Self {
            input: input * LANES * panels * c,
            kernel: kernel * shape.strips(tile) as f64 * c * k,
            products: tile.products() as f64 * shape.multiplied_panels(tile) * c * rows,
            output: output * LANES * panels * k,
        }
    }

    fn total(&self) -> f64 {
        self.input + self.kernel + self.products + self.output
    }
}

thread_local! {
    static EXACT: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread's networks compute by libtorch's operators alone, to the last bit.
#[must_use = "it lasts as long as it is held"]
pub struct Exactly {
    before: bool,
}

impl Exactly {
    /// `exact`: whether anything changes at all.
    pub fn when(exact: bool) -> Self {
        let before = EXACT.get();
        EXACT.set(before || exact);
        Self { before }
    }

    /// Whether it holds on this thread.
    pub fn holds() -> bool {
        EXACT.get()
    }
}

impl Drop for Exactly {
    fn drop(&mut self) {
        EXACT.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(batch: usize, channels: [usize; 2], side: usize) -> Shape {
        Shape {
            batch,
            in_channels: channels[0],
            out_channels: channels[1],
            height: side,
            width: side,
            around: Around::Zeros,
        }
    }

    #[test]
    fn large_layers_take_the_fewest_products_and_tiny_ones_the_direct_way() {
        if Simd::detect() == Simd::PORTABLE {
            return;
        }
        for (channels, side) in [([320, 320], 64), ([640, 640], 32), ([1280, 1280], 16)] {
            let method = choose(&shape(2, channels, side), 0);
            assert_eq!(method, Method::Winograd(Tile::Four), "{channels:?}");
        }
        assert_eq!(
            choose(&shape(2, [1280, 1280], 8), 0),
            Method::Winograd(Tile::Two)
        );
        assert_eq!(choose(&shape(1, [4, 8], 4), usize::MAX), Method::Direct);
    }

    #[test]
    fn what_is_drawn_beside_a_picture_does_not_change_its_way() {
        for (channels, side) in [([320, 320], 64), ([128, 128], 8), ([256, 256], 4)] {
            let alone = choose(&shape(1, channels, side), 0);
            for batch in 2..9 {
                assert_eq!(choose(&shape(batch, channels, side), 0), alone);
            }
        }
    }

    #[test]
    fn weights_are_kept_where_they_are_dear_and_there_is_room() {
        if Simd::detect() == Simd::PORTABLE {
            return;
        }
        let small = shape(2, [128, 128], 8);
        assert!(matches!(
            choose(&small, usize::MAX),
            Method::WinogradKept(_)
        ));
        assert!(matches!(choose(&small, 1000), Method::Winograd(_)));
        let wide = shape(1, [128, 128], 512);
        assert!(matches!(choose(&wide, usize::MAX), Method::Winograd(_)));
    }

    #[test]
    fn a_budget_is_spent_once() {
        let budget = Budget::default();
        assert!(budget.take(budget.left() - 10));
        assert!(!budget.clone().take(11));
        assert!(budget.take(10) && budget.left() == 0);
    }

    #[test]
    fn exactness_ends_with_its_guard_and_an_inner_one_does_not_end_it() {
        let outer = Exactly::when(true);
        drop(Exactly::when(false));
        assert!(Exactly::holds());
        drop(outer);
        assert!(!Exactly::holds());
    }
}
