//! Tensors as the slices that `kernels/` works on: f32, and weights in 16 bits too.

use std::slice;

use easel_kernels::{Stored, Threads};
use tch::{Device, Kind, Tensor};

use super::convolution_plan::Exactly;

/// Whether `kernels/` may work on all of these in libtorch's place: f32 on the CPU, nobody asks for a
/// gradient, and nobody wants libtorch's last bit.
pub(super) fn all_plain<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> bool {
    let is_plain = |tensor: &Tensor| {
        tensor.kind() == Kind::Float && tensor.device() == Device::Cpu && !tensor.requires_grad()
    };
    !Exactly::holds() && tensors.into_iter().all(is_plain)
}

/// The values of a contiguous f32 tensor on the CPU.
pub(super) fn values(tensor: &Tensor) -> &[f32] {
    check(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: a contiguous tensor on the CPU has as many values of its kind one after the other from
    // its data pointer on; it is borrowed as long as they are, and nobody writes into it meanwhile:
    // this thread is inside the network's `forward`.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The values of a weight on the CPU, whatever floats it is stored in; `None` where a kernel cannot read
/// it in place.
pub(super) fn stored(weight: &Tensor) -> Option<Stored<'_>> {
    let lies_plain = weight.device() == Device::Cpu
        && weight.is_contiguous()
        && !weight.requires_grad()
        && !weight.data_ptr().is_null();
    if !lies_plain {
        return None;
    }
    let (start, count) = (weight.data_ptr(), weight.numel());
    // SAFETY: as in `values`; the slice's type is the tensor's kind. The loader copies what does not lie
    // aligned in its file.
    unsafe {
        match weight.kind() {
            Kind::Float => Some(Stored::F32(slice::from_raw_parts(start.cast(), count))),
            Kind::Half => Some(Stored::F16(slice::from_raw_parts(start.cast(), count))),
            Kind::BFloat16 => Some(Stored::Bf16(slice::from_raw_parts(start.cast(), count))),
            _ => None,
        }
    }
}

/// As [`values`], of a tensor that was just made.
pub(super) fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    check(tensor);
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as in `values`; nobody else knows the tensor yet. libtorch's memory came from its own
    // allocator, so that every bit pattern in it is some f32.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

fn check(tensor: &Tensor) {
    let is_plain = tensor.kind() == Kind::Float
        && tensor.device() == Device::Cpu
        && tensor.is_contiguous()
        && !tensor.data_ptr().is_null();
    assert!(is_plain || tensor.numel() == 0, "not a plain tensor");
}

/// A tensor to be filled.
pub(super) fn empty(size: &[i64]) -> Tensor {
    Tensor::empty(size, (Kind::Float, Device::Cpu))
}

/// As many threads as libtorch works with.
pub(super) fn threads() -> Threads {
    Threads::new(usize::try_from(tch::get_num_threads()).unwrap_or(1))
}

/// A size that is not negative.
pub(super) fn count(size: i64) -> usize {
    usize::try_from(size).unwrap_or_default()
}

/// For the tests of layers that have a kernel.
#[cfg(test)]
pub(super) mod both_ways {
    use easel_kernels::Simd;

    use super::*;

    pub fn ramp(shape: &[i64], scale: f64) -> Tensor {
        let count: i64 = shape.iter().product();
        let at = Tensor::arange(count, (Kind::Double, Device::Cpu));
        ((&at * &at * 0.37).sin() * scale)
            .to_kind(Kind::Float)
            .view(shape)
    }

    /// Both ways, and that they are two: long sums are taken in another order.
    #[track_caller]
    pub fn same_both_ways(work: impl Fn() -> Tensor) {
        let _no_grad = tch::no_grad_guard();
        let fast = work();
        let exact = {
            let _exactly = Exactly::when(true);
            work()
        };
        assert_eq!(fast.size(), exact.size());
        let error = (&fast - &exact).abs().max() / exact.abs().max();
        let error = error.double_value(&[]);
        assert!(error < 2e-6, "{error:e}");
        if Simd::detect() != Simd::PORTABLE {
            assert!(!fast.equal(&exact), "libtorch computed both");
        }
    }
}
