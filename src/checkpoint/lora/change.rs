//! What a LoRA file's tensors add to a layer's weight.
//!
//! Source: Hu et al. 2106.09685 (LoRA); LyCORIS 4.1.3 `functional/{locon,loha,lokr,general}.py`,
//! `modules/ia3.py` (2309.14859; Hyeon-Woo et al. 2108.06098 for LoHa); peft 0.21.2
//! `tuners/lora/dora.py` (Liu et al. 2402.09353 for DoRA).

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// What becomes of one layer.
#[derive(Debug)]
pub struct Change {
    pub weight: Option<WeightChange>,
    /// DoRA's.
    pub magnitude: Option<Magnitude>,
    /// Added to the bias.
    pub bias: Option<Tensor>,
}

/// What becomes of a layer's weight.
#[derive(Debug)]
pub enum WeightChange {
    /// `up x down` is added; nothing but this can be a side branch.
    LowRank(LowRank),
    /// LoHa: two products, multiplied value by value, and the scale.
    Hadamard(Factor, Factor, f64),
    /// LoKr: the Kronecker product of a small and a large factor, and the scale.
    Kronecker(Factor, Factor, f64),
    /// Added as it is.
    Difference(Tensor),
    /// IA3: each row, or each column, is scaled by `1 + by`.
    Scaling { by: Tensor, of_input: bool },
}

/// LoRA's pair.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, in]` or `[rank, in, k, k]`.
    pub down: Tensor,
    /// `[rank, rank, k, k]`, in convolutions that are split in three.
    pub mid: Option<Tensor>,
    /// `[out, rank]` or `[out, rank, 1, 1]`.
    pub up: Tensor,
    /// `alpha / rank`.
    pub scale: f64,
}

/// A matrix, or a kernel, and how it is stored.
#[derive(Debug)]
pub enum Factor {
    Whole(Tensor),
    /// `[rows, rank]` and `[rank, columns...]`.
    Product(Tensor, Tensor),
    /// Tucker's: `core` `[rank, rank, k, k]`, `rows` `[rank, rows]`, `columns` `[rank, columns]`.
    Tucker {
        core: Tensor,
        rows: Tensor,
        columns: Tensor,
    },
}

/// The sides of a weight, a kernel taken for a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    rows: i64,
    columns: i64,
}

impl Sides {
    fn of(tensor: &Tensor) -> Option<Self> {
        match tensor.size().as_slice() {
            [] => None,
            [rows, rest @ ..] => Some(Self {
                rows: *rows,
                columns: rest.iter().product(),
            }),
        }
    }

    /// Of the Kronecker product.
    fn times(self, other: Self) -> Option<Self> {
        Some(Self {
            rows: self.rows.checked_mul(other.rows)?,
            columns: self.columns.checked_mul(other.columns)?,
        })
    }
}

/// How long the rows (or the columns) of a weight are in the end, whatever was added to it.
#[derive(Debug)]
pub struct Magnitude {
    pub values: Tensor,
    /// One value a column instead of one a row.
    pub of_input: bool,
    /// A strength is of the whole change, so that 0 is the base (ComfyUI's rule), instead of what is
    /// added before the lengths are set (peft).
    pub fades: bool,
}

/// What is added to a layer's weight and bias, in f32, in their shapes.
#[derive(Debug)]
pub struct Differences {
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
}

impl Change {
    /// Whether a side branch on the layer does all of it.
    pub fn as_branch(&self) -> Option<&LowRank> {
        match self {
            Self {
                weight: Some(WeightChange::LowRank(pair)),
                magnitude: None,
                bias: None,
            } => Some(pair),
            _ => None,
        }
    }

    /// What is added to the weight `base` and its bias at `strength`; 1 is as trained.
    ///
    /// Errors: [`Error::Shape`] where it was made for a layer of another shape.
    pub fn differences(&self, base: &Tensor, strength: f64) -> Result<Differences> {
        let base = base.f_to_kind(Kind::Float)?;
        let weight = match &self.weight {
            None => None,
            Some(change) => {
                let added = change.added(&base)?;
                Some(match &self.magnitude {
                    Some(magnitude) if magnitude.fades => {
                        (magnitude.stretched(&(&base + added))? - base) * strength
                    }
                    Some(magnitude) => magnitude.stretched(&(&base + added * strength))? - base,
                    None => added * strength,
                })
            }
        };
        let bias = match &self.bias {
            None => None,
            Some(bias) => Some(bias.f_to_kind(Kind::Float)?.f_reshape([-1])? * strength),
        };
        Ok(Differences { weight, bias })
    }
}

impl WeightChange {
    /// In the shape of `base`.
    fn added(&self, base: &Tensor) -> Result<Tensor> {
        self.multiplied(base).map_err(|error| match error {
            // Ranks that differ, a kernel of other dimensions.
            Error::Torch { .. } => misfit(self, &base.size()),
            error => error,
        })
    }

    /// Sizes are compared before anything is multiplied out: a small file may claim a huge product.
    fn multiplied(&self, base: &Tensor) -> Result<Tensor> {
        let shape = base.size();
        let own = Sides::of(base);
        let fits = |sides: Option<Sides>| match sides == own {
            true => Ok(()),
            false => Err(misfit(self, &shape)),
        };
        let added = match self {
            Self::LowRank(pair) => {
                let factor = pair.factor()?;
                fits(factor.sides())?;
                factor.value()? * pair.scale
            }
            Self::Hadamard(first, second, scale) => {
                fits(first.sides())?;
                fits(second.sides())?;
                first.value()?.f_reshape(&*shape)? * second.value()?.f_reshape(&*shape)? * *scale
            }
            Self::Kronecker(first, second, scale) => {
                let sides = first.sides().zip(second.sides());
                fits(sides.and_then(|(first, second)| first.times(second)))?;
                kronecker(&first.value()?, &second.value()?)? * *scale
            }
            Self::Difference(difference) => {
                fits(Sides::of(difference))?;
                difference.f_to_kind(Kind::Float)?
            }
            Self::Scaling { by, of_input } => {
                let axis = usize::from(*of_input);
                let mut each = vec![1; shape.len()];
                match (each.get_mut(axis), shape.get(axis)) {
                    (Some(side), Some(count)) if by.numel() as i64 == *count => *side = *count,
                    _ => return Err(misfit(self, &shape)),
                }
                base * by.f_to_kind(Kind::Float)?.f_reshape(&*each)?
            }
        };
        Ok(added.f_reshape(&*shape)?)
    }

    /// The shapes of its tensors, one after another.
    fn shapes(&self) -> Vec<i64> {
        match self {
            Self::LowRank(pair) => [pair.down.size(), pair.up.size()].concat(),
            Self::Hadamard(first, second, _) | Self::Kronecker(first, second, _) => {
                [first.shapes(), second.shapes()].concat()
            }
            Self::Difference(tensor) | Self::Scaling { by: tensor, .. } => tensor.size(),
        }
    }
}

fn misfit(change: &WeightChange, shape: &[i64]) -> Error {
    Error::Shape {
        what: "A LoRA's change",
        got: change.shapes(),
        expected: format!("one that fits a layer of {shape:?}"),
    }
}

/// `first`: `[a, c]`; `second`: `[b, d]` or `[b, d, k, k]`.
fn kronecker(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let mut shape = first.size();
    shape.resize(second.dim(), 1);
    let first = first.f_reshape(&*shape)?;
    Ok(first.f_kron(&second.f_contiguous()?)?)
}

impl LowRank {
    fn factor(&self) -> Result<Factor> {
        let matrix = |tensor: &Tensor| tensor.f_flatten(1, -1);
        let (up, down) = (matrix(&self.up)?, matrix(&self.down)?);
        Ok(match &self.mid {
            Some(mid) => Factor::Tucker {
                core: mid.shallow_clone(),
                rows: up.f_transpose(0, 1)?,
                columns: down,
            },
            None => Factor::Product(up, down),
        })
    }
}

impl Factor {
    pub(super) fn new(core: Option<Tensor>, rows: Tensor, columns: Tensor) -> Self {
        match core {
            Some(core) => Self::Tucker {
                core,
                rows,
                columns,
            },
            None => Self::Product(rows, columns),
        }
    }

    /// The tensor whose first side is the rank, where there is one.
    pub(super) fn rank(&self) -> Option<&Tensor> {
        match self {
            Self::Whole(_) => None,
            Self::Product(_, columns) | Self::Tucker { columns, .. } => Some(columns),
        }
    }

    fn shapes(&self) -> Vec<i64> {
        match self {
            Self::Whole(tensor) => tensor.size(),
            Self::Product(rows, columns) | Self::Tucker { rows, columns, .. } => {
                [rows.size(), columns.size()].concat()
            }
        }
    }

    /// Of the matrix that it is when it is multiplied out; `None` for more than can be.
    fn sides(&self) -> Option<Sides> {
        let side = |tensor: &Tensor, at: usize| tensor.size().get(at).copied();
        match self {
            Self::Whole(tensor) => Sides::of(tensor),
            Self::Product(rows, columns) => Some(Sides {
                rows: side(rows, 0)?,
                columns: Sides::of(columns)?.columns,
            }),
            Self::Tucker {
                core,
                rows,
                columns,
            } => {
                let kernel: i64 = core.size().get(2..)?.iter().product();
                Some(Sides {
                    rows: side(rows, 1)?,
                    columns: side(columns, 1)?.checked_mul(kernel)?,
                })
            }
        }
    }

    /// Multiplied out, in f32.
    fn value(&self) -> Result<Tensor> {
        let wide = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
        Ok(match self {
            Self::Whole(tensor) => wide(tensor)?,
            Self::Product(rows, columns) => {
                let (rows, columns) = (wide(rows)?.f_flatten(1, -1)?, wide(columns)?);
                rows.f_matmul(&columns.f_flatten(1, -1)?)?
            }
            Self::Tucker {
                core,
                rows,
                columns,
            } => {
                let tensors = [wide(core)?, wide(columns)?, wide(rows)?];
                Tensor::f_einsum("ijkl,jr,ip->prkl", &tensors, None::<i64>)?
            }
        })
    }
}

impl Magnitude {
    /// `weight` with its rows (or columns) brought to these lengths.
    fn stretched(&self, weight: &Tensor) -> Result<Tensor> {
        let shape = weight.size();
        let axis = usize::from(self.of_input);
        let count = shape.get(axis).copied().unwrap_or_default();
        if self.values.numel() as i64 != count {
            return Err(Error::Shape {
                what: "A DoRA's magnitude",
                got: self.values.size(),
                expected: format!("one that fits a layer of {shape:?}"),
            });
        }
        let mut each = vec![1; shape.len()];
        if let Some(side) = each.get_mut(axis) {
            *side = count;
        }
        let others: Vec<i64> = (0..shape.len() as i64)
            .filter(|side| *side != axis as i64)
            .collect();
        let lengths = weight.f_norm_scalaropt_dim(2.0, &*others, true)?;
        let wanted = self.values.f_to_kind(Kind::Float)?.f_reshape(&*each)?;
        Ok(weight * (wanted / lengths))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn ones(shape: &[i64]) -> Tensor {
        Tensor::ones(shape, (Kind::Float, Device::Cpu))
    }

    fn refused(weight: WeightChange, base: &[i64]) -> String {
        let change = Change {
            weight: Some(weight),
            magnitude: None,
            bias: None,
        };
        change
            .differences(&ones(base), 1.0)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn tensors_of_another_layer_or_rank_are_refused_with_both_shapes() {
        let product = |rows: &[i64], columns: &[i64]| Factor::new(None, ones(rows), ones(columns));
        for weight in [
            WeightChange::Hadamard(product(&[5, 2], &[2, 3]), product(&[5, 2], &[2, 4]), 1.0),
            WeightChange::Hadamard(product(&[5, 2], &[2, 4]), product(&[5, 3], &[2, 4]), 1.0),
            WeightChange::Kronecker(
                Factor::Whole(ones(&[5, 2])),
                Factor::Whole(ones(&[1, 3])),
                1.0,
            ),
            WeightChange::Kronecker(Factor::Whole(ones(&[2])), Factor::Whole(ones(&[10])), 1.0),
            WeightChange::Difference(ones(&[4, 5])),
            WeightChange::Scaling {
                by: ones(&[4]),
                of_input: false,
            },
        ] {
            let message = refused(weight, &[5, 4]);
            assert!(message.contains("[5, 4]"), "{message}");
        }
    }

    #[test]
    fn a_small_file_that_claims_a_huge_product_costs_nothing() {
        let million = 1 << 20;
        let huge = || Factor::new(None, ones(&[million, 1]), ones(&[1, million]));
        refused(WeightChange::Kronecker(huge(), huge(), 1.0), &[5, 4]);
        refused(WeightChange::Hadamard(huge(), huge(), 1.0), &[5, 4]);
        let core = ones(&[1, 1, 1, million]);
        let tucker = Factor::new(Some(core), ones(&[1, million]), ones(&[1, million]));
        refused(WeightChange::Kronecker(tucker, huge(), 1.0), &[5, 4]);
    }

    #[test]
    fn a_magnitude_of_another_length_is_refused() {
        let change = Change {
            weight: Some(WeightChange::Difference(ones(&[5, 4]))),
            magnitude: Some(Magnitude {
                values: ones(&[4, 1]),
                of_input: false,
                fades: true,
            }),
            bias: None,
        };
        let message = change
            .differences(&ones(&[5, 4]), 1.0)
            .unwrap_err()
            .to_string();
        assert!(message.contains("magnitude"), "{message}");
    }
}
