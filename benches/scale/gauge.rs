//! What does this thread spend, and what does this process take?

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread so far, in nanoseconds: others on the machine do not count, but for the caches they share.
pub(crate) fn cpu_nanoseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Memory of this process now, in bytes: resident pages.
pub(crate) fn resident_bytes() -> f64 {
    status_bytes("VmRSS")
}

/// The most it ever was.
pub(crate) fn peak_bytes() -> f64 {
    status_bytes("VmHWM")
}

fn status_bytes(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("this bench needs Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<f64>().expect("a number") * 1024.0
}

/// xorshift64 (Marsaglia): quick enough to stand beside what is measured, and the same in every run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
