//! 3x3 convolutions with less arithmetic: Winograd's minimal filtering F(m, 3).
//!
//! An output tile of m x m takes (m + 2)^2 products a pair of channels where the direct way takes
//! 9 m^2: 2.25 times fewer for F(2, 3), 4 times fewer for F(4, 3). Tiles (`V = B^T d B`) and weights
//! (`U = G g G^T`) are transformed, multiplied as (m + 2)^2 products of matrices, and transformed back
//! (`A^T (U V) A`). It is done for strips of tiles that stay in the cache: first all threads transform
//! a strip's tiles, then each takes sixteen output channels after the other, transforms their weights
//! unless they are kept transformed, multiplies and writes.
//!
//! The order of the sums is the same whatever the threads, strips and vectors: the numbers are the
//! same on every processor and with kept weights or without.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.

mod filter;
mod grid;
mod transform;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use crate::pack::transpose;
use crate::product::multiply;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd, Vector, Work};
use crate::stored::{Stored, with_values};
use crate::threads::Threads;
use filter::{F2, F4, Filter};
use grid::Grid;

/// Bytes of transformed tiles that are worked on at once.
const STRIP_BYTES: usize = 4 << 20;
/// Panels of tiles that are worked on at once even where they are more bytes: the weights are
/// transformed for every strip.
const STRIP_PANELS: usize = 8;
/// Input channels that are summed up at once: their transformed weights stay in the cache, and sums of
/// sums are more exact than one long sum.
const CHUNK: usize = 512;
/// Input channels whose tiles a thread transforms before it asks for more.
const INPUT_CHANNELS: usize = 4;

/// The size of an output tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tile {
    /// F(2, 3): 16 products for 4 values, an error of about 3e-7 of the largest output.
    Two,
    /// F(4, 3): 36 products for 16 values, an error of about 3e-6 of the largest output.
    Four,
}

impl Tile {
    /// Rows and columns of an output tile.
    pub fn side(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Products for an output tile and a pair of channels.
    pub fn products(self) -> usize {
        (self.side() + 2).pow(2)
    }
}

/// What lies above and below the rows that a convolution makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Around {
    /// Zeros: the input has as many rows as the output.
    Zeros,
    /// A row of the input each: it has two more than the output.
    Rows,
}

/// The sizes of a convolution with stride 1 and zeros to the left and right of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    /// Of the output.
    pub height: usize,
    pub width: usize,
    pub around: Around,
}

impl Shape {
    /// Rows of the input.
    pub fn input_height(&self) -> usize {
        match self.around {
            Around::Zeros => self.height,
            Around::Rows => self.height + 2,
        }
    }

    /// Panels of sixteen tiles.
    pub fn panels(&self, tile: Tile) -> usize {
        Grid::new(*self, tile.side()).panels()
    }

    /// What multiplying costs, in panels: half of one alone takes half the time.
    pub fn multiplied_panels(&self, tile: Tile) -> f64 {
        let grid = Grid::new(*self, tile.side());
        let panels = grid.panels();
        match is_half(grid, &(0..panels)) {
            true => panels as f64 - 0.5,
            false => panels as f64,
        }
    }

    /// How often the weights are transformed in one call.
    pub fn strips(&self, tile: Tile) -> usize {
        let panels = self.panels(tile);
        panels.div_ceil(strip_panels(panels, self.in_channels, tile.products()).max(1))
    }
}

/// Weights `[out_channels, in_channels, 3, 3]`, in one form or the other.
#[derive(Clone, Copy, Debug)]
pub enum Kernel<'a> {
    Plain(Stored<'a>),
    Transformed(&'a Transformed),
}

/// Weights that are kept transformed for one size of tiles.
#[derive(Clone, Debug)]
pub struct Transformed {
    tile: Tile,
    /// Sixteen output channels each: `[out_channels / 16, products, stride(in_channels)]`.
    blocks: Vec<Block>,
}

impl Transformed {
    /// Bytes that these weights take.
    pub fn bytes(in_channels: usize, out_channels: usize, tile: Tile) -> usize {
        let blocks = out_channels.div_ceil(BLOCK) * tile.products() * stride(in_channels);
        blocks * size_of::<Block>()
    }

    /// `weight`: `[out_channels, in_channels, 3, 3]`. Panics where it has another length.
    pub fn new(
        weight: Stored<'_>,
        in_channels: usize,
        out_channels: usize,
        tile: Tile,
        simd: Simd,
    ) -> Self {
        assert_eq!(
            weight.len(),
            out_channels * in_channels * 9,
            "weights of another shape"
        );
        let part = tile.products() * stride(in_channels);
        let mut blocks = vec![Block::ZERO; out_channels.div_ceil(BLOCK) * part];
        let mut taps = vec![Block::ZERO; 9 * in_channels];
        let row = in_channels * 9;
        for (first, out) in (0..).step_by(BLOCK).zip(blocks.chunks_exact_mut(part)) {
            let rows = BLOCK.min(out_channels - first);
            let (weight, taps) = (weight.part(first * row, rows * row), &mut taps);
            match tile {
                Tile::Two => simd.run(TransformKernel::<F2, 2, 4>::new(
                    weight,
                    in_channels,
                    taps,
                    out,
                )),
                Tile::Four => simd.run(TransformKernel::<F4, 4, 6>::new(
                    weight,
                    in_channels,
                    taps,
                    out,
                )),
            }
        }
        Self { tile, blocks }
    }
}

/// One convolution.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    pub shape: Shape,
    pub tile: Tile,
    /// `[batch, in_channels, input_height, width]`
    pub input: &'a [f32],
    pub kernel: Kernel<'a>,
    /// `[out_channels]`
    pub bias: &'a [f32],
}

impl Convolution<'_> {
    /// `output`: `[batch, out_channels, height, width]`, all of it is written.
    ///
    /// Panics where a slice's length is not that of its shape, or weights were transformed for another
    /// size of tiles.
    pub fn run(&self, output: &mut [f32], simd: Simd, threads: Threads) {
        self.check(output.len());
        match self.tile {
            Tile::Two => convolve::<F2, 2, 4>(self, output, simd, threads),
            Tile::Four => convolve::<F4, 4, 6>(self, output, simd, threads),
        }
    }

    fn check(&self, output: usize) {
        let shape = &self.shape;
        let (in_channels, out_channels) = (shape.in_channels, shape.out_channels);
        let rows = shape.batch * shape.width;
        let (before, after) = (rows * shape.input_height(), rows * shape.height);
        assert_eq!(
            self.input.len(),
            before * in_channels,
            "an input of another shape"
        );
        assert_eq!(output, after * out_channels, "an output of another shape");
        assert_eq!(self.bias.len(), out_channels, "a bias of another shape");
        match self.kernel {
            Kernel::Plain(weight) => {
                assert_eq!(
                    weight.len(),
                    out_channels * in_channels * 9,
                    "weights of another shape"
                );
            }
            Kernel::Transformed(kept) => {
                let bytes = Transformed::bytes(in_channels, out_channels, self.tile);
                let fits =
                    kept.tile == self.tile && kept.blocks.len() * size_of::<Block>() == bytes;
                assert!(fits, "weights of another shape");
            }
        }
    }
}

/// Blocks from one product's channels to the next one's: an odd number, so that the products' lines
/// do not all fall into the same set of the cache.
fn stride(channels: usize) -> usize {
    channels | 1
}

/// Whether the last of these panels is multiplied alone and has tiles in its first half only.
fn is_half(grid: Grid, panels: &Range<usize>) -> bool {
    let tiles = grid.tiles().min(panels.end * BLOCK) - panels.start * BLOCK;
    panels.len() % 2 == 1 && tiles <= panels.len() * BLOCK - BLOCK / 2
}

/// Panels that are worked on at once.
fn strip_panels(panels: usize, in_channels: usize, products: usize) -> usize {
    let bytes = products * stride(in_channels) * size_of::<Block>();
    (STRIP_BYTES / bytes)
        .next_multiple_of(2)
        .max(STRIP_PANELS)
        .min(panels)
}

thread_local! {
    /// Transformed tiles of a strip; the thread that asked for the convolution lends them to all.
    static TILES: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    /// What a thread works in.
    static ROOM: RefCell<Room> = const { RefCell::new(Room::new()) };
}

/// Memory that a thread uses again and again.
struct Room {
    taps: Vec<Block>,
    kernel: Vec<Block>,
    sums: Vec<Block>,
}

impl Room {
    const fn new() -> Self {
        Self {
            taps: Vec::new(),
            kernel: Vec::new(),
            sums: Vec::new(),
        }
    }
}

/// The first `len` blocks, whatever is in them.
fn at_least(blocks: &mut Vec<Block>, len: usize) -> &mut [Block] {
    if blocks.len() < len {
        blocks.resize(len, Block::ZERO);
    }
    &mut blocks[..len]
}

fn convolve<F: Filter<M, A>, const M: usize, const A: usize>(
    job: &Convolution<'_>,
    output: &mut [f32],
    simd: Simd,
    threads: Threads,
) {
    let grid = Grid::new(job.shape, M);
    let (panels, channels) = (grid.panels(), job.shape.in_channels);
    let strip = strip_panels(panels, channels, A * A);
    let output = Shared::new(output);
    TILES.with_borrow_mut(|tiles| {
        let tiles = at_least(tiles, strip * A * A * stride(channels));
        for first in (0..panels).step_by(strip.max(1)) {
            let panels = first..panels.min(first + strip);
            let out = Shared::new(tiles);
            threads.for_each(channels.div_ceil(INPUT_CHANNELS), |task| {
                let from = task * INPUT_CHANNELS;
                simd.run(TransformInput::<F, M, A> {
                    grid,
                    panels: panels.clone(),
                    channels: from..channels.min(from + INPUT_CHANNELS),
                    input: job.input,
                    out,
                    filter: PhantomData,
                });
            });
            let tiles = &*tiles;
            threads.for_each(job.shape.out_channels.div_ceil(BLOCK), |block| {
                ROOM.with_borrow_mut(|room| {
                    simd.run(Multiply::<F, M, A> {
                        job,
                        grid,
                        panels: panels.clone(),
                        block,
                        tiles,
                        room,
                        output,
                        filter: PhantomData,
                    });
                });
            });
        }
    });
}

/// Transforms the tiles of some channels of a strip.
struct TransformInput<'a, F, const M: usize, const A: usize> {
    grid: Grid,
    panels: Range<usize>,
    channels: Range<usize>,
    input: &'a [f32],
    /// `[panels, products, stride(in_channels)]`
    out: Shared<'a, Block>,
    filter: PhantomData<F>,
}

impl<F: Filter<M, A>, const M: usize, const A: usize> Work for TransformInput<'_, F, M, A> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let stride = stride(self.grid.shape.in_channels);
        let mut tiles = [[Block::ZERO; A]; A];
        for channel in self.channels {
            for (at, panel) in self.panels.clone().enumerate() {
                transform::input::<V, F, M, A>(self.grid, panel, channel, self.input, &mut tiles);
                for (product, block) in tiles.as_flattened().iter().enumerate() {
                    let place = (at * A * A + product) * stride + channel;
                    // SAFETY: no other piece of work has this channel.
                    let out = unsafe { self.out.part(place, 1) };
                    out.fill(*block);
                }
            }
        }
    }
}

/// Transforms sixteen rows of weights.
struct TransformKernel<'a, F, const M: usize, const A: usize> {
    weight: Stored<'a>,
    in_channels: usize,
    taps: &'a mut [Block],
    out: &'a mut [Block],
    filter: PhantomData<F>,
}

impl<'a, F, const M: usize, const A: usize> TransformKernel<'a, F, M, A> {
    fn new(
        weight: Stored<'a>,
        in_channels: usize,
        taps: &'a mut [Block],
        out: &'a mut [Block],
    ) -> Self {
        Self {
            weight,
            in_channels,
            taps,
            out,
            filter: PhantomData,
        }
    }
}

impl<F: Filter<M, A>, const M: usize, const A: usize> Work for TransformKernel<'_, F, M, A> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (channels, stride) = (self.in_channels, stride(self.in_channels));
        with_values!(self.weight, weight => transform::kernel::<V, _, F, M, A>(
            weight, channels, 0..channels, self.taps, self.out, stride,
        ));
    }
}

/// Multiplies and writes sixteen output channels of a strip.
struct Multiply<'a, F, const M: usize, const A: usize> {
    job: &'a Convolution<'a>,
    grid: Grid,
    panels: Range<usize>,
    /// Which sixteen.
    block: usize,
    tiles: &'a [Block],
    room: &'a mut Room,
    output: Shared<'a, f32>,
    filter: PhantomData<F>,
}

impl<F: Filter<M, A>, const M: usize, const A: usize> Work for Multiply<'_, F, M, A> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Shape {
            in_channels,
            out_channels,
            ..
        } = self.grid.shape;
        let rows = BLOCK.min(out_channels - self.block * BLOCK);
        let panel = A * A * SUMS;
        let Room { taps, kernel, sums } = self.room;
        let sums = at_least(sums, self.panels.len() * panel);
        let tiles = Tiles::<A> {
            blocks: self.tiles,
            stride: stride(in_channels),
        };
        // The half panel's tiles are multiplied as rows by sixteen channels.
        let turned = rows > BLOCK / 2 && is_half(self.grid, &self.panels);
        for first in (0..in_channels).step_by(CHUNK) {
            let channels = first..in_channels.min(first + CHUNK);
            let (kernel, kernel_stride) = match self.job.kernel {
                Kernel::Transformed(kept) => {
                    let stride = stride(in_channels);
                    let part = A * A * stride;
                    let whole = &kept.blocks[self.block * part..][..part];
                    (&whole[first..], stride)
                }
                Kernel::Plain(weight) => {
                    let stride = stride(channels.len());
                    let part = in_channels * 9;
                    let weight = weight.part(self.block * BLOCK * part, rows * part);
                    let taps = at_least(taps, 9 * channels.len());
                    let out = at_least(kernel, A * A * stride);
                    let own = channels.clone();
                    with_values!(weight, weight => transform::kernel::<V, _, F, M, A>(
                        weight, in_channels, own, taps, out, stride,
                    ));
                    (&*out, stride)
                }
            };
            for (pair, sums) in sums.chunks_mut(2 * panel).enumerate() {
                for product in 0..A * A {
                    let left = &kernel[product * kernel_stride..][..channels.len()];
                    let right = |at| tiles.get(pair * 2 + at, product, &channels);
                    let place = product * SUMS..product * SUMS + BLOCK;
                    match sums.split_at_mut_checked(panel) {
                        Some((one, two)) if !two.is_empty() => {
                            let sums = [&mut one[place.clone()], &mut two[place]];
                            multiply::<V, 2>(left, [right(0), right(1)], sums, rows, first == 0);
                        }
                        _ if turned => {
                            let sums = [&mut sums[place]];
                            multiply::<V, 1>(right(0), [left], sums, BLOCK / 2, first == 0);
                        }
                        _ => {
                            let sums = [&mut sums[place]];
                            multiply::<V, 1>(left, [right(0)], sums, rows, first == 0);
                        }
                    }
                }
            }
        }
        if turned {
            let first = sums.len() - panel;
            for sums in sums[first..].chunks_exact_mut(SUMS) {
                turn::<V>(&mut sums[..BLOCK]);
            }
        }
        for (panel, sums) in self.panels.zip(sums.chunks_exact(panel)) {
            for row in 0..rows {
                let channel = self.block * BLOCK + row;
                let mut products = [[&Block::ZERO; A]; A];
                for (place, product) in products.as_flattened_mut().iter_mut().enumerate() {
                    *product = &sums[place * SUMS + row];
                }
                let bias = self.job.bias[channel];
                transform::output::<V, F, M, A>(
                    self.grid,
                    panel,
                    channel,
                    products,
                    bias,
                    self.output,
                );
            }
        }
    }
}

/// Rows for lanes.
#[inline(always)]
fn turn<V: Vector>(blocks: &mut [Block]) {
    let mut before = [Block::ZERO; BLOCK];
    before.copy_from_slice(blocks);
    let rows = std::array::from_fn(|row| before[row].0.as_slice());
    transpose::<V, f32>(rows, BLOCK, blocks, 1);
}

/// Blocks from one product's sums to the next one's: odd, as in [`stride`].
const SUMS: usize = BLOCK + 1;

/// Transformed tiles of a strip.
#[derive(Clone, Copy)]
struct Tiles<'a, const A: usize> {
    blocks: &'a [Block],
    stride: usize,
}

impl<'a, const A: usize> Tiles<'a, A> {
    #[inline(always)]
    fn get(self, panel: usize, product: usize, channels: &Range<usize>) -> &'a [Block] {
        let from = (panel * A * A + product) * self.stride + channels.start;
        &self.blocks[from..][..channels.len()]
    }
}
