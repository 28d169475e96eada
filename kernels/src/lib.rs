//! Arithmetic of Easel's own where libtorch does more of it than needed: on plain slices of f32, and of
//! weights in 16 bits, on the processor only.

mod attention;
mod functions;
mod matmul;
mod norm;
mod pack;
mod product;
mod shared;
mod simd;
mod stored;
mod threads;
mod winograd;

pub use attention::Attention;
pub use matmul::{Bias, Finish, Matrix, Product};
pub use norm::GroupNorm;
pub use simd::Simd;
pub use stored::Stored;
pub use threads::Threads;
pub use winograd::{Around, Convolution, Kernel, Shape, Tile, Transformed};
