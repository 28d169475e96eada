//! Low-rank side branches on a layer (LoRA): what a layer gives, plus `scale * up(down(x))`.
//!
//! The layer's own weights stay as they are, mapped from their file; branches come and go without a
//! reload. Source: Hu et al., "LoRA", arXiv 2106.09685; for convolutions LyCORIS' LoCon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::Tensor;

use crate::error::{Error, Result};

/// One side branch.
#[derive(Debug)]
pub struct Branch {
    /// `[rank, in]`, or `[rank, in, k, k]` on a convolution.
    pub down: Tensor,
    /// Only on a convolution: `[rank, rank, k, k]`, where `down` has a kernel of one.
    pub mid: Option<Tensor>,
    /// `[out, rank]`, or `[out, rank, 1, 1]`.
    pub up: Tensor,
    pub scale: f64,
}

/// The side branches of one layer, shared by the layer and whoever attaches them.
#[derive(Clone, Debug)]
pub struct Adapters {
    /// The shape of the layer's weight.
    shape: Vec<i64>,
    branches: Arc<Mutex<Vec<Branch>>>,
}

impl Adapters {
    /// None yet. `shape`: of the layer's weight, `[out, in]` or `[out, in, k, k]`.
    pub fn new(shape: &[i64]) -> Self {
        Self {
            shape: shape.to_vec(),
            branches: Arc::default(),
        }
    }

    /// Adds a branch; its tensors are in the layer's dtype, on its device.
    ///
    /// Errors: [`Error::Shape`] where it does not fit the layer.
    pub fn attach(&self, branch: Branch) -> Result<()> {
        let branch = match self.shape.as_slice() {
            [_, _] => flat(branch)?,
            _ => square(branch)?,
        };
        let (down, up) = (branch.down.size(), branch.up.size());
        let (rank, out) = (down.first(), up.first());
        let fits = rank == up.get(1)
            && down.get(1) == self.shape.get(1)
            && out == self.shape.first()
            && self.kernel_fits(&branch);
        if !fits {
            return Err(Error::Shape {
                what: "A LoRA's branch",
                got: [down, up].concat(),
                expected: format!("one that fits a layer of {:?}", self.shape),
            });
        }
        self.lock().push(branch);
        Ok(())
    }

    /// Removes all branches.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// `y` with every branch of a linear layer added. `x`: `[..., in]`, `y`: `[..., out]`.
    pub fn add_linear(&self, x: &Tensor, mut y: Tensor) -> Tensor {
        for branch in self.lock().iter() {
            let low = x.linear(&branch.down, None::<&Tensor>);
            y += low.linear(&branch.up, None::<&Tensor>) * branch.scale;
        }
        y
    }

    /// `y` with every branch of a convolution added, which strides and pads as the layer does.
    pub fn add_conv(&self, x: &Tensor, mut y: Tensor, stride: i64, padding: [i64; 2]) -> Tensor {
        let conv = |x: &Tensor, weight: &Tensor, stride, padding| {
            x.conv2d(weight, None::<&Tensor>, [stride; 2], padding, [1, 1], 1)
        };
        for branch in self.lock().iter() {
            let low = match &branch.mid {
                Some(mid) => conv(&conv(x, &branch.down, 1, [0, 0]), mid, stride, padding),
                None => conv(x, &branch.down, stride, padding),
            };
            y += conv(&low, &branch.up, 1, [0, 0]) * branch.scale;
        }
        y
    }

    /// Whether the kernel that strides and pads has the layer's size.
    fn kernel_fits(&self, branch: &Branch) -> bool {
        let kernel = |tensor: &Tensor| tensor.size().get(2..).unwrap_or_default().to_vec();
        let own = self.shape.get(2..).unwrap_or_default();
        kernel(branch.mid.as_ref().unwrap_or(&branch.down)) == own
            && branch.mid.as_ref().is_none_or(|mid| {
                mid.size().get(..2) == Some(&[branch.down.size()[0], branch.down.size()[0]])
            })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Branch>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files hold the branches of a linear layer as matrices or as kernels of one.
fn flat(branch: Branch) -> Result<Branch> {
    let matrix = |tensor: &Tensor| match tensor.size().as_slice() {
        &[out, of, 1, 1] => tensor.f_view([out, of]),
        _ => Ok(tensor.shallow_clone()),
    };
    Ok(Branch {
        down: matrix(&branch.down)?,
        up: matrix(&branch.up)?,
        ..branch
    })
}

/// The other way round, for a convolution.
fn square(branch: Branch) -> Result<Branch> {
    let kernel = |tensor: &Tensor| match tensor.size().as_slice() {
        &[out, of] => tensor.f_view([out, of, 1, 1]),
        _ => Ok(tensor.shallow_clone()),
    };
    Ok(Branch {
        down: kernel(&branch.down)?,
        up: kernel(&branch.up)?,
        ..branch
    })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn ramp(shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7)
            .sin()
            .view(shape)
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn a_branch_is_the_product_of_its_two_halves_added_to_the_weight() {
        let (weight, x) = (ramp(&[5, 4]), ramp(&[2, 3, 4]));
        let (down, up) = (ramp(&[2, 4, 1, 1]), ramp(&[5, 2]));
        let merged = &weight + up.matmul(&down.view([2, 4])) * 0.5;
        let adapters = Adapters::new(&[5, 4]);
        let branch = Branch {
            down,
            mid: None,
            up,
            scale: 0.5,
        };
        adapters.attach(branch).unwrap();
        let plain = x.linear(&weight, None::<&Tensor>);
        let with = adapters.add_linear(&x, plain.copy());
        assert!(largest_difference(&with, &x.linear(&merged, None::<&Tensor>)) < 1e-6);
        adapters.clear();
        assert!(adapters.add_linear(&x, plain.copy()).equal(&plain));
    }

    #[test]
    fn a_convolutions_branch_strides_as_it_does() {
        let (weight, x) = (ramp(&[5, 4, 3, 3]), ramp(&[1, 4, 6, 6]));
        let (down, up) = (ramp(&[2, 4, 3, 3]), ramp(&[5, 2, 1, 1]));
        let delta = up
            .view([5, 2])
            .matmul(&down.view([2, 36]))
            .view([5, 4, 3, 3]);
        let adapters = Adapters::new(&[5, 4, 3, 3]);
        adapters
            .attach(Branch {
                down,
                mid: None,
                up,
                scale: 2.0,
            })
            .unwrap();
        let conv = |weight: &Tensor| x.conv2d(weight, None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
        let with = adapters.add_conv(&x, conv(&weight), 2, [1, 1]);
        assert!(largest_difference(&with, &conv(&(&weight + delta * 2.0))) < 1e-5);
    }

    #[test]
    fn a_branch_of_another_layer_is_refused() {
        let adapters = Adapters::new(&[5, 4]);
        let branch = |down: &[i64], up: &[i64]| Branch {
            down: ramp(down),
            mid: None,
            up: ramp(up),
            scale: 1.0,
        };
        for (down, up) in [(&[2, 3], &[5, 2]), (&[2, 4], &[6, 2]), (&[3, 4], &[5, 2])] {
            assert!(adapters.attach(branch(down, up)).is_err());
        }
        let conv = Adapters::new(&[5, 4, 3, 3]);
        assert!(conv.attach(branch(&[2, 4, 1, 1], &[5, 2, 1, 1])).is_err());
    }
}
