//! What a LoRA and its kin do to a layer: low-rank side branches (what the layer gives, plus
//! `scale * up(down(x))`), or a patched copy of its weight and bias for what is no such branch.
//!
//! The layer's own weights stay as they are, mapped from their file; branches and copies come and go
//! without a reload. A weight that is stored in another dtype than the network computes in is read as it
//! lies by the kernels that can; where libtorch computes, it becomes that dtype when it is used, and stays
//! so where there is room. Source: Hu et al., "LoRA", arXiv 2106.09685; for convolutions LyCORIS' LoCon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use super::conversions::{WeightId, converted};
use super::profile;
use super::weights::Budget;
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

/// The weight and bias that a layer computes with.
#[derive(Debug)]
pub struct Parameters {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Parameters {
    fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// A layer's own weight and bias.
#[derive(Debug)]
struct Own {
    id: WeightId,
    /// The weight in `kind`, or in the dtype of its file.
    stored: Mutex<Parameters>,
    shape: Vec<i64>,
    /// What the layer computes in, and where.
    kind: Kind,
    device: Device,
    /// The network's memory for weights that were made `kind`.
    room: Budget,
}

impl Own {
    /// In [`Self::kind`].
    fn parameters(&self) -> Parameters {
        let mut stored = lock(&self.stored);
        let mut parameters = stored.shallow_clone();
        if parameters.weight.kind() != self.kind {
            let convert = || stored.weight.to_kind(self.kind);
            let convert = || profile::layer("weights, converted", convert);
            parameters.weight = converted(self.id, self.bytes(), convert);
            if self.room.take(self.bytes()) {
                *stored = parameters.shallow_clone();
            }
        }
        parameters
    }

    /// Of the weight in [`Self::kind`].
    fn bytes(&self) -> usize {
        let count: i64 = self.shape.iter().product();
        usize::try_from(count).unwrap_or_default() * self.kind.elt_size_in_bytes()
    }
}

#[derive(Debug, Default)]
struct State {
    branches: Vec<Branch>,
    patched: Option<Parameters>,
}

/// What is attached to one layer, shared by the layer and whoever attaches it.
#[derive(Clone, Debug)]
pub struct Adapters {
    /// The layer's own.
    own: Arc<Own>,
    state: Arc<Mutex<State>>,
}

impl Adapters {
    /// None yet. `weight`: `[out, in]`, `[out, in, k, k]`, or `[features]` of a norm.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Self {
        Self::computing_in(weight.kind(), weight, bias, Budget::of(0))
    }

    /// As [`Self::new`], of a layer that computes in `kind`, whatever its weight is stored in. `room`: the
    /// network's memory for weights that were made `kind`; where it is used up, they are made anew each
    /// time.
    pub fn computing_in(kind: Kind, weight: &Tensor, bias: Option<&Tensor>, room: Budget) -> Self {
        Self {
            own: Arc::new(Own {
                id: WeightId::new(),
                shape: weight.size(),
                device: weight.device(),
                stored: Mutex::new(Parameters {
                    weight: weight.shallow_clone(),
                    bias: bias.map(Tensor::shallow_clone),
                }),
                kind,
                room,
            }),
            state: Arc::default(),
        }
    }

    /// The layer's own weight, in [`Self::kind`]; it is not kept so.
    pub fn weight(&self) -> Tensor {
        let stored = lock(&self.own.stored).weight.shallow_clone();
        stored.to_kind(self.kind())
    }

    /// Of the layer's weight.
    pub fn shape(&self) -> &[i64] {
        &self.own.shape
    }

    /// What the layer computes in.
    pub fn kind(&self) -> Kind {
        self.own.kind
    }

    pub fn device(&self) -> Device {
        self.own.device
    }

    /// What a copy of it takes that [`Self::add`] makes; nothing where there is one.
    pub fn copy_bytes(&self) -> u64 {
        match self.patched() {
            Some(_) => 0,
            None => self.own.bytes() as u64,
        }
    }

    /// Adds a branch; its tensors are in the layer's dtype, on its device.
    ///
    /// Errors: [`Error::Shape`] where it does not fit the layer.
    pub fn attach(&self, branch: Branch) -> Result<()> {
        let shape = self.shape();
        let branch = match shape {
            [_, _] => flat(branch)?,
            _ => square(branch)?,
        };
        let (down, up) = (branch.down.size(), branch.up.size());
        let (rank, out) = (down.first(), up.first());
        let fits = rank == up.get(1)
            && down.get(1) == shape.get(1)
            && out == shape.first()
            && kernel_fits(&branch, shape);
        if !fits {
            return Err(Error::Shape {
                what: "A LoRA's branch",
                got: [down, up].concat(),
                expected: format!("one that fits a layer of {shape:?}"),
            });
        }
        self.lock().branches.push(branch);
        Ok(())
    }

    /// Adds to the weight and the bias, in a copy that the layer computes with from now on. Several
    /// add up. `weight`: in the shape of the layer's; `bias`: `[out]`.
    ///
    /// Errors: [`Error::Shape`] where it does not fit the layer; then nothing is added.
    pub fn add(&self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<()> {
        let shape = self.shape();
        let out = shape.first().copied();
        let fits = weight.is_none_or(|weight| weight.size() == shape)
            && bias.is_none_or(|bias| bias.dim() == 1 && bias.size().first().copied() == out);
        if !fits {
            return Err(Error::Shape {
                what: "A LoRA's change",
                got: [weight, bias]
                    .into_iter()
                    .flatten()
                    .flat_map(Tensor::size)
                    .collect(),
                expected: format!("one that fits a layer of {shape:?}"),
            });
        }
        let mut patched = self.as_stored();
        patched.weight = patched.weight.to_kind(self.kind());
        if let Some(weight) = weight {
            patched.weight = sum(&patched.weight, weight)?;
        }
        if let Some(bias) = bias {
            let none = || Tensor::f_zeros(bias.size(), (self.kind(), self.device()));
            let own = patched.bias.map_or_else(none, Ok)?;
            patched.bias = Some(sum(&own, bias)?);
        }
        self.lock().patched = Some(patched);
        Ok(())
    }

    /// Removes everything that is attached.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// The layer's own weight and bias.
    pub fn own(&self) -> Parameters {
        self.own.parameters()
    }

    /// What the layer computes with, beside its branches.
    pub fn current(&self) -> Parameters {
        self.patched().unwrap_or_else(|| self.own())
    }

    /// As [`Self::current`], but the weight in the dtype that it is stored in: for kernels that read each.
    pub fn as_stored(&self) -> Parameters {
        self.patched()
            .unwrap_or_else(|| lock(&self.own.stored).shallow_clone())
    }

    /// What the layer computes with in place of its own weight and bias, where that is so.
    pub fn patched(&self) -> Option<Parameters> {
        self.lock().patched.as_ref().map(Parameters::shallow_clone)
    }

    /// Whether something is added to what the layer itself gives.
    pub fn has_branches(&self) -> bool {
        !self.lock().branches.is_empty()
    }

    /// `y` with every branch of a linear layer added. `x`: `[..., in]`, `y`: `[..., out]`.
    pub fn add_linear(&self, x: &Tensor, mut y: Tensor) -> Tensor {
        for branch in &self.lock().branches {
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
        for branch in &self.lock().branches {
            let low = match &branch.mid {
                Some(mid) => conv(&conv(x, &branch.down, 1, [0, 0]), mid, stride, padding),
                None => conv(x, &branch.down, stride, padding),
            };
            y += conv(&low, &branch.up, 1, [0, 0]) * branch.scale;
        }
        y
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the kernel that strides and pads has the layer's size.
fn kernel_fits(branch: &Branch, shape: &[i64]) -> bool {
    let kernel = |tensor: &Tensor| tensor.size().get(2..).unwrap_or_default().to_vec();
    let own = shape.get(2..).unwrap_or_default();
    let rank = branch.down.size().first().copied().unwrap_or_default();
    kernel(branch.mid.as_ref().unwrap_or(&branch.down)) == own
        && branch
            .mid
            .as_ref()
            .is_none_or(|mid| mid.size().get(..2) == Some(&[rank, rank]))
}

/// `own + added`, which is added in its own dtype and kept in the layer's.
fn sum(own: &Tensor, added: &Tensor) -> Result<Tensor> {
    let added = added.f_to_device(own.device())?;
    Ok(own.f_add(&added)?.f_to_kind(own.kind())?)
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
    use crate::models::layers::KeepConverted;

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
        let adapters = Adapters::new(&weight, None);
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
        let adapters = Adapters::new(&weight, None);
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
    fn a_weight_of_another_dtype_is_kept_as_it_is_used_while_there_is_room() {
        let stored = ramp(&[5, 4]).to_kind(Kind::Half);
        let expected = stored.to_kind(Kind::Float);
        let room = Budget::of(100);
        let layer = || Adapters::computing_in(Kind::Float, &stored, None, room.clone());
        let (first, second) = (layer(), layer());
        for (adapters, is_kept) in [(&first, true), (&second, false)] {
            let [a, b] = [adapters.own().weight, adapters.clone().own().weight];
            assert!(a.equal(&expected) && b.equal(&expected));
            assert_eq!(a.data_ptr() == b.data_ptr(), is_kept);
            assert_eq!((adapters.kind(), adapters.copy_bytes()), (Kind::Float, 80));
        }
        assert_eq!(room.left(), 20);
        let _keep = KeepConverted::within(80);
        let [a, b] = [second.own().weight, second.own().weight];
        assert_eq!(a.data_ptr(), b.data_ptr());
    }

    #[test]
    fn a_branch_of_another_layer_is_refused() {
        let adapters = Adapters::new(&ramp(&[5, 4]), None);
        let branch = |down: &[i64], up: &[i64]| Branch {
            down: ramp(down),
            mid: None,
            up: ramp(up),
            scale: 1.0,
        };
        for (down, up) in [(&[2, 3], &[5, 2]), (&[2, 4], &[6, 2]), (&[3, 4], &[5, 2])] {
            assert!(adapters.attach(branch(down, up)).is_err());
        }
        let conv = Adapters::new(&ramp(&[5, 4, 3, 3]), None);
        assert!(conv.attach(branch(&[2, 4, 1, 1], &[5, 2, 1, 1])).is_err());
    }

    #[test]
    fn what_is_added_lies_in_a_copy_and_the_layers_own_stays() {
        let (weight, bias) = (ramp(&[5, 4]), ramp(&[5]));
        let (before, own) = (weight.copy(), bias.copy());
        let adapters = Adapters::new(&weight, Some(&bias));
        adapters.add(Some(&ramp(&[5, 4])), None).unwrap();
        adapters
            .add(Some(&ramp(&[5, 4])), Some(&ramp(&[5])))
            .unwrap();
        let patched = adapters.patched().unwrap();
        assert!(largest_difference(&patched.weight, &(ramp(&[5, 4]) * 3.0)) < 1e-6);
        assert!(largest_difference(&patched.bias.unwrap(), &(ramp(&[5]) * 2.0)) < 1e-6);
        assert!(weight.equal(&before) && bias.equal(&own));
        adapters.clear();
        assert!(adapters.patched().is_none());
    }

    #[test]
    fn a_change_of_another_shape_is_refused_and_a_missing_bias_is_made() {
        let adapters = Adapters::new(&ramp(&[5, 4]), None);
        assert!(adapters.add(Some(&ramp(&[4, 5])), None).is_err());
        assert!(adapters.add(None, Some(&ramp(&[4]))).is_err());
        assert!(adapters.patched().is_none());
        adapters.add(None, Some(&ramp(&[5]))).unwrap();
        assert!(adapters.patched().unwrap().bias.unwrap().equal(&ramp(&[5])));
    }
}
