//! Which pages are there, how large are they, and who asks for which? The same for every server and every run: nothing here depends on time.

use std::f64::consts::TAU;

use bytes::Bytes;
use rand::distr::weighted::WeightedIndex;
use rand::prelude::*;

/// Pages of the mix.
pub(crate) const MIX_PAGES: usize = 100_000;
/// Exponent of Zipf's law: the page of rank `k` is asked for in proportion to `1 / k^s`.
pub(crate) const MIX_EXPONENT: f64 = 1.0;
/// Sizes of the mix in bytes: smallest, median, largest; lognormal between.
pub(crate) const MIX_BYTES: [f64; 3] = [1024.0, 6144.0, 65536.0];
/// Standard deviation of the logarithm of the sizes.
const MIX_SIGMA: f64 = 1.0;
/// Requests after which the mix begins again.
const DRAWS: usize = 1 << 20;
/// The largest page, and room for the places at which those of the mix begin.
const TEXT_BYTES: usize = 2 << 20;

/// All pages, slices of one text.
pub(crate) struct Pages {
    text: Bytes,
    mix_bytes: Vec<usize>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let mut chance = StdRng::seed_from_u64(1);
        let mut text = Vec::with_capacity(TEXT_BYTES + 16);
        while text.len() < TEXT_BYTES {
            text.extend((0..chance.random_range(2..10)).map(|_| chance.random_range(b'a'..=b'z')));
            text.push(if chance.random_ratio(1, 12) { b'\n' } else { b' ' });
        }
        let mix_bytes = (0..MIX_PAGES).map(|_| lognormal(&mut chance)).collect();
        Pages { text: text.into(), mix_bytes }
    }

    /// The body of `/page/<bytes>` or `/mix/<number>`.
    pub(crate) fn body(&self, path: &str) -> Option<Bytes> {
        let (kind, number) = path.strip_prefix('/')?.split_once('/')?;
        let number: usize = number.parse().ok()?;
        let (begin, bytes) = match kind {
            "page" => (0, number),
            // Seven: neighbours differ in each byte, and the last one still fits into the text.
            "mix" => (number * 7, *self.mix_bytes.get(number)?),
            _ => return None,
        };
        (begin + bytes <= self.text.len()).then(|| self.text.slice(begin..begin + bytes))
    }

    /// Bytes of all bodies of the mix.
    pub(crate) fn mix_total_bytes(&self) -> usize {
        self.mix_bytes.iter().sum()
    }

    /// Bytes of a body of the mix as it is asked for.
    pub(crate) fn mix_mean_bytes(&self, draws: &[u32]) -> f64 {
        draws.iter().map(|number| self.mix_bytes[*number as usize] as f64).sum::<f64>() / draws.len() as f64
    }
}

fn lognormal(chance: &mut StdRng) -> usize {
    let [smallest, median, largest] = MIX_BYTES;
    // Box and Muller's way from two uniform numbers to a normal one.
    let (one, other): (f64, f64) = (1.0 - chance.random::<f64>(), chance.random());
    let normal = (-2.0 * one.ln()).sqrt() * (TAU * other).cos();
    (median * (MIX_SIGMA * normal).exp()).clamp(smallest, largest) as usize
}

/// Page numbers of the mix in the order in which they are asked for.
pub(crate) fn draws() -> Vec<u32> {
    let ranks = (1..=MIX_PAGES).map(|rank| (rank as f64).powf(-MIX_EXPONENT));
    let ranks = WeightedIndex::new(ranks).expect("weights are above zero");
    let mut chance = StdRng::seed_from_u64(2);
    (0..DRAWS).map(|_| u32::try_from(ranks.sample(&mut chance)).expect("few pages")).collect()
}
