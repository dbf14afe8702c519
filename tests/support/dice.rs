//! Chance that can be had again.

use std::time::SystemTime;

/// xorshift64*: the same seed gives the same moments. `SEALIFT_SOAK_SEED` repeats a run.
pub struct Dice(u64);

impl Dice {
    /// Says its seed.
    pub fn new(kind: &str) -> Self {
        let chosen = std::env::var("SEALIFT_SOAK_SEED").ok().and_then(|text| text.parse().ok());
        let clock = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        let seed: u64 = chosen.unwrap_or_else(clock);
        eprintln!("soak: {kind}: SEALIFT_SOAK_SEED={seed}");
        Dice::seeded(seed)
    }

    /// With a seed that other dice have thrown.
    pub fn seeded(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// How often something is to be killed: `SEALIFT_SOAK`, or else this often.
pub fn kills(usual: usize) -> usize {
    std::env::var("SEALIFT_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
