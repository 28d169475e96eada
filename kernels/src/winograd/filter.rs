//! The transforms of Winograd's minimal filtering in one dimension, for two sizes of tiles.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, for
//! the method. F(4, 3) interpolates at 0, 3/4, -3/4, 3/2, -3/2 and infinity instead of the paper's
//! 0, 1, -1, 2, -2 and infinity: its largest error is a third (3e-6 of the largest output at 320
//! channels, where the paper's has 1e-5), and its input's matrix is exact in f32 as well.

use crate::simd::Vector;

/// F(M, 3): `M` outputs from `A = M + 2` inputs by `A` products.
pub(crate) trait Filter<const M: usize, const A: usize> {
    /// `B^T d`
    fn input<V: Vector>(d: [V; A]) -> [V; A];
    /// `G g`
    fn kernel<V: Vector>(g: [V; 3]) -> [V; A];
    /// `A^T m`
    fn output<V: Vector>(m: [V; A]) -> [V; M];
}

/// F(2, 3) at the points 0, 1, -1 and infinity.
pub(crate) struct F2;

impl Filter<2, 4> for F2 {
    #[inline(always)]
    fn input<V: Vector>([d0, d1, d2, d3]: [V; 4]) -> [V; 4] {
        [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)]
    }

    #[inline(always)]
    fn kernel<V: Vector>([g0, g1, g2]: [V; 3]) -> [V; 4] {
        let half = V::splat(0.5);
        let (even, odd) = (g0.add(g2).mul(half), g1.mul(half));
        [g0, even.add(odd), even.sub(odd), g2]
    }

    #[inline(always)]
    fn output<V: Vector>([m0, m1, m2, m3]: [V; 4]) -> [V; 2] {
        [m0.add(m1.add(m2)), m1.sub(m2).sub(m3)]
    }
}

/// F(4, 3) at the points 0, `P`, `-P`, `Q`, `-Q` and infinity.
pub(crate) struct F4;

const P: f32 = 0.75;
const Q: f32 = 1.5;
const PP: f32 = P * P;
const QQ: f32 = Q * Q;

impl Filter<4, 6> for F4 {
    /// `x (x^2 - PP) (x^2 - QQ)`, and what remains of it without each of its roots.
    #[inline(always)]
    fn input<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; 6]) -> [V; 6] {
        let (sum, product) = (V::splat(-PP - QQ), V::splat(PP * QQ));
        let (pp, qq) = (V::splat(-PP), V::splat(-QQ));
        let (p, q, minus_p, minus_q) = (V::splat(P), V::splat(Q), V::splat(-P), V::splat(-Q));
        let (even_p, odd_p) = (d2.mul_add(qq, d4), d1.mul_add(qq, d3));
        let (even_q, odd_q) = (d2.mul_add(pp, d4), d1.mul_add(pp, d3));
        [
            d0.mul_add(product, d2.mul_add(sum, d4)),
            odd_p.mul_add(p, even_p),
            odd_p.mul_add(minus_p, even_p),
            odd_q.mul_add(q, even_q),
            odd_q.mul_add(minus_q, even_q),
            d1.mul_add(product, d3.mul_add(sum, d5)),
        ]
    }

    #[inline(always)]
    fn kernel<V: Vector>([g0, g1, g2]: [V; 3]) -> [V; 6] {
        // One over the product of a point's distances from the other points.
        let at_0 = V::splat(1.0 / (PP * QQ));
        let at_p = V::splat(1.0 / (2.0 * PP * (PP - QQ)));
        let at_q = V::splat(1.0 / (2.0 * QQ * (QQ - PP)));
        let even_p = g2.mul_add(V::splat(PP), g0).mul(at_p);
        let even_q = g2.mul_add(V::splat(QQ), g0).mul(at_q);
        let (odd_p, odd_q) = (g1.mul(V::splat(P)).mul(at_p), g1.mul(V::splat(Q)).mul(at_q));
        [
            g0.mul(at_0),
            even_p.add(odd_p),
            even_p.sub(odd_p),
            even_q.add(odd_q),
            even_q.sub(odd_q),
            g2,
        ]
    }

    #[inline(always)]
    fn output<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
        let (even_p, odd_p) = (m1.add(m2), m1.sub(m2));
        let (even_q, odd_q) = (m3.add(m4), m3.sub(m4));
        let powers = |p: f32, q: f32, x: V, y: V| x.mul_add(V::splat(p), y.mul(V::splat(q)));
        [
            m0.add(even_p.add(even_q)),
            powers(P, Q, odd_p, odd_q),
            powers(PP, QQ, even_p, even_q),
            powers(P * PP, Q * QQ, odd_p, odd_q).add(m5),
        ]
    }
}
