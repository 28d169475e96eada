//! Attention without the matrix of all pairs: 32 queries, one a lane, look at some keys after the other
//! and keep what they saw so far, normalised by the largest product until then.
//!
//! Products lie key by key with a value for each query: the largest and the sums need nothing across
//! lanes, and they already are in the order in which they are multiplied with the values. All sums
//! have an order of their own, whatever the vectors and threads: the same numbers on every processor.
//!
//! Source: Dao et al., "FlashAttention", arXiv 2205.14135; Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", arXiv 1805.02867.

use std::cell::RefCell;
use std::ops::Range;

use crate::functions::exp2;
use crate::pack::{flat, transpose};
use crate::product::multiply_rows;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd, Vector, Work};
use crate::threads::Threads;

/// Blocks of queries that look together.
const WIDTH: usize = 2;
/// Queries that look together.
const LOOKING: usize = WIDTH * BLOCK;
/// Keys that are looked at before other queries do: their products stay in the nearest cache.
const KEYS: usize = 128;
/// How many times [`LOOKING`] queries look at the same keys one after the other.
const TURNS: usize = 4;
/// Numbers of a head's keys that are kept near as a whole: 1 MB.
const MOST_BROUGHT: usize = 1 << 18;
/// Queries of a piece of work, where there are too few heads for the threads.
const PIECE_QUERIES: usize = 256;
/// Pieces of work for each thread, so that all end at about the same time.
const PIECES: usize = 4;

/// `softmax(query * key^T / sqrt(head_dim)) * value` for each head of each picture.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub batch: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// `[batch, queries, heads, head_dim]`
    pub query: &'a [f32],
    /// `[batch, keys, heads, head_dim]`
    pub key: &'a [f32],
    /// `[batch, keys, heads, head_dim]`
    pub value: &'a [f32],
}

thread_local! {
    /// What a thread works in.
    static ROOM: RefCell<Room> = const {
        RefCell::new(Room {
            keys: Vec::new(),
            values: Vec::new(),
            turns: Vec::new(),
            weights: Vec::new(),
        })
    };
}

/// Memory that a thread uses again and again.
struct Room {
    /// `[keys, head_dim]`
    keys: Vec<f32>,
    /// `[keys / KEYS, head_dim, KEYS / 16]`: sixteen keys a block.
    values: Vec<Block>,
    turns: Vec<Turn>,
    /// `[KEYS]`: products, then weights.
    weights: Vec<[Block; WIDTH]>,
}

/// Queries that look together, and what they saw so far.
#[derive(Default)]
struct Turn {
    /// `[head_dim]`, scaled.
    queries: Vec<[Block; WIDTH]>,
    /// The largest products with a key, and the sums of all weights.
    state: State,
    /// `[head_dim]`: sums of values.
    sums: Vec<[Block; WIDTH]>,
}

struct State {
    largest: [Block; WIDTH],
    weight: [Block; WIDTH],
}

impl Default for State {
    fn default() -> Self {
        Self {
            largest: [Block([f32::NEG_INFINITY; BLOCK]); WIDTH],
            weight: [Block::ZERO; WIDTH],
        }
    }
}

impl Attention<'_> {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn queries(&self) -> usize {
        self.query.len() / (self.batch * self.width()).max(1)
    }

    fn keys(&self) -> usize {
        self.key.len() / (self.batch * self.width()).max(1)
    }

    /// `out`: as `query`; all of it is written.
    ///
    /// Panics where sizes do not fit each other, or there are no keys.
    pub fn run(&self, out: &mut [f32], simd: Simd, threads: Threads) {
        let (queries, keys) = (self.queries(), self.keys());
        let of = |tokens: usize| self.batch * tokens * self.width();
        assert_eq!(self.query.len(), of(queries), "queries of another size");
        assert_eq!(self.key.len(), of(keys), "keys of another size");
        assert_eq!(self.value.len(), of(keys), "values of another size");
        assert_eq!(out.len(), of(queries), "an output of another size");
        if out.is_empty() {
            return;
        }
        assert!(keys > 0, "nothing to look at");
        let heads = self.batch * self.heads;
        let pieces = match threads.count() {
            1 => 1,
            count => (count * PIECES)
                .div_ceil(heads)
                .clamp(1, queries.div_ceil(PIECE_QUERIES)),
        };
        let piece = queries.div_ceil(pieces).next_multiple_of(LOOKING);
        let out = Shared::new(out);
        threads.for_each(heads * pieces, |task| {
            let (head, from) = (task / pieces, task % pieces * piece);
            let queries = from.min(queries)..queries.min(from + piece);
            let head = Head {
                job: self,
                picture: head / self.heads,
                head: head % self.heads,
                out,
            };
            ROOM.with_borrow_mut(|room| {
                simd.run(Look {
                    head,
                    queries,
                    room,
                });
            });
        });
    }
}

/// Some queries of one head look.
struct Look<'a> {
    head: Head<'a>,
    queries: Range<usize>,
    room: &'a mut Room,
}

impl Work for Look<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Room {
            keys: near,
            values,
            turns,
            weights,
        } = self.room;
        let (head, keys) = (self.head, self.head.job.keys());
        weights.resize(KEYS, [Block::ZERO; WIDTH]);
        // A head with few numbers is brought once, a large one bit by bit: threads keep their room.
        let bit = match keys * head.job.head_dim > MOST_BROUGHT {
            true => KEYS,
            false => keys,
        };
        if bit == keys {
            head.bring::<V>(0..keys, near, values);
        }
        for first in self.queries.clone().step_by(TURNS * LOOKING) {
            let here = first..self.queries.end.min(first + TURNS * LOOKING);
            let starts = || here.clone().step_by(LOOKING);
            let queries = |from: usize| from..here.end.min(from + LOOKING);
            turns.resize_with(starts().len().max(turns.len()), Turn::default);
            for (turn, from) in turns.iter_mut().zip(starts()) {
                head.begin::<V>(turn, queries(from));
            }
            for from in (0..keys).step_by(KEYS) {
                let mut keys = from..keys.min(from + KEYS);
                if bit < head.job.keys() {
                    head.bring::<V>(keys.clone(), near, values);
                    keys = 0..keys.len();
                }
                for (turn, _) in turns.iter_mut().zip(starts()) {
                    head.look::<V>(turn, keys.clone(), near, values, weights);
                }
            }
            for (turn, from) in turns.iter_mut().zip(starts()) {
                head.end::<V>(turn, queries(from));
            }
        }
    }
}

/// One head of one picture.
#[derive(Clone, Copy)]
struct Head<'a> {
    job: &'a Attention<'a>,
    picture: usize,
    head: usize,
    out: Shared<'a, f32>,
}

impl<'a> Head<'a> {
    /// Where this head's values of one of so many tokens begin.
    #[inline(always)]
    fn place(&self, tokens: usize, token: usize) -> usize {
        ((self.picture * tokens + token) * self.job.heads + self.head) * self.job.head_dim
    }

    /// This head's values of sixteen tokens or, at the end, fewer.
    #[inline(always)]
    fn lines(&self, of: &'a [f32], tokens: usize, some: Range<usize>) -> [&'a [f32]; BLOCK] {
        let mut lines = [[].as_slice(); BLOCK];
        for (line, token) in lines.iter_mut().zip(some) {
            *line = &of[self.place(tokens, token)..][..self.job.head_dim];
        }
        lines
    }

    /// Brings some of the keys and their values near, one after the other.
    #[inline(always)]
    fn bring<V: Vector>(&self, some: Range<usize>, near: &mut Vec<f32>, values: &mut Vec<Block>) {
        let (dim, keys) = (self.job.head_dim, self.job.keys());
        near.clear();
        near.reserve_exact(some.len() * dim);
        for key in some.clone() {
            near.extend_from_slice(&self.job.key[self.place(keys, key)..][..dim]);
        }
        let blocks = KEYS / BLOCK;
        values.resize(some.len().div_ceil(KEYS) * dim * blocks, Block::ZERO);
        for (block, first) in some.clone().step_by(BLOCK).enumerate() {
            let lines = self.lines(self.job.value, keys, first..some.end.min(first + BLOCK));
            let to = &mut values[block / blocks * dim * blocks + block % blocks..];
            transpose::<V, f32>(lines, dim, to, blocks);
        }
    }

    #[inline(always)]
    fn begin<V: Vector>(&self, turn: &mut Turn, queries: Range<usize>) {
        let (dim, all) = (self.job.head_dim, self.job.queries());
        turn.state = State::default();
        turn.sums.clear();
        turn.sums.resize(dim, [Block::ZERO; WIDTH]);
        turn.queries.resize(dim, [Block::ZERO; WIDTH]);
        for place in 0..WIDTH {
            let first = queries.end.min(queries.start + place * BLOCK);
            let lines = self.lines(self.job.query, all, first..queries.end.min(first + BLOCK));
            let to = &mut turn.queries.as_flattened_mut()[place..];
            transpose::<V, f32>(lines, dim, to, WIDTH);
        }
        // Powers of two are the cheaper ones.
        let scale = V::splat(std::f32::consts::LOG2_E / (dim as f32).sqrt());
        for block in turn.queries.as_flattened_mut() {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let scaled = V::load(&block.0[lane..]).mul(scale);
                scaled.store(&mut block.0[lane..]);
            }
        }
    }

    /// These queries look at some of the keys that were brought, no more than [`KEYS`].
    #[inline(always)]
    fn look<V: Vector>(
        &self,
        turn: &mut Turn,
        keys: Range<usize>,
        near: &[f32],
        values: &[Block],
        weights: &mut [[Block; WIDTH]],
    ) {
        let dim = self.job.head_dim;
        let weights = &mut weights[..keys.len()];
        let key = |at| &near[(keys.start + at) * dim..][..dim];
        multiply_rows::<V, WIDTH>(key, &turn.queries, weights, true);
        let fade = weigh::<V>(weights, &mut turn.state);
        for (sum, fade) in turn
            .sums
            .iter_mut()
            .flat_map(|sums| sums.iter_mut().zip(&fade))
        {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let faded = V::load(&sum.0[lane..]).mul(V::load(&fade.0[lane..]));
                faded.store(&mut sum.0[lane..]);
            }
        }
        let values = flat(&values[keys.start * dim / BLOCK..]);
        let value = |at| &values[at * KEYS..][..keys.len()];
        multiply_rows::<V, WIDTH>(value, weights, &mut turn.sums, false);
    }

    /// Writes what these queries saw.
    #[inline(always)]
    fn end<V: Vector>(&self, turn: &mut Turn, queries: Range<usize>) {
        let dim = self.job.head_dim;
        for (at, query) in queries.enumerate() {
            let (block, lane) = (at / BLOCK, at % BLOCK);
            let whole = 1.0 / turn.state.weight[block].0[lane];
            // SAFETY: no other piece of work has this head and query.
            let out = unsafe { self.out.part(self.place(self.job.queries(), query), dim) };
            for (out, sums) in out.iter_mut().zip(&turn.sums) {
                *out = sums[block].0[lane] * whole;
            }
        }
    }
}

/// Turns products into weights, and returns what earlier weights are worth now.
#[inline(always)]
fn weigh<V: Vector>(products: &mut [[Block; WIDTH]], state: &mut State) -> [Block; WIDTH] {
    let mut fades = [Block::ZERO; WIDTH];
    for (place, fade) in fades.iter_mut().enumerate() {
        let (largest, sum) = (&mut state.largest[place], &mut state.weight[place]);
        for lane in (0..BLOCK).step_by(V::LANES) {
            let before = V::load(&largest.0[lane..]);
            let mut most = before;
            for products in products.iter() {
                most = most.max(V::load(&products[place].0[lane..]));
            }
            most.store(&mut largest.0[lane..]);
            let faded = exp2(before.sub(most));
            faded.store(&mut fade.0[lane..]);
            let mut weights = V::load(&sum.0[lane..]).mul(faded);
            for products in products.iter_mut() {
                let weight = exp2(V::load(&products[place].0[lane..]).sub(most));
                weight.store(&mut products[place].0[lane..]);
                weights = weights.add(weight);
            }
            weights.store(&mut sum.0[lane..]);
        }
    }
    fades
}
