//! What goes wrong in one seed, and which party lies.

use std::time::Duration;

use crate::simulation::world::World;

/// A party that does not do what it has to, or a node whose protocol lacks a step: each must be caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// All keep to their contracts.
    #[default]
    None,
    /// A node never asks whether its lease has run out.
    LeaseNotChecked,
    /// A look counts from its answer.
    LeaseFromTheAnswer,
    /// The lease is longer before what the look showed is applied.
    LeaseBeforeTheNews,
    /// A node that is rung says that it knows the record, and has not looked.
    RingWithoutSequence,
    /// Who does not answer the ring is not waited for.
    SilentNotWaitedFor,
    /// Who did not answer once is not waited for the next time.
    DroppedAtOnce,
    /// A node does not see that it was passed over.
    NoRejoin,
    /// An append's own record is applied before what others had appended.
    OutOfOrder,
    /// Two swaps of the same version may both succeed.
    SwapsRace,
    /// A look may show what was true a moment ago.
    LooksLag,
}

/// How bad things are between the nodes, in percent and milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub nodes: usize,
    pub lease: Duration,
    /// Each way of a request to S3 takes up to this.
    pub s3_delay: u64,
    pub s3_slow: u32,
    pub s3_fails: u32,
    pub s3_loses: u32,
    pub s3_late: u32,
    pub ring_delay: u64,
    pub ring_slow: u32,
    pub ring_loses: u32,
    pub folds: u32,
    pub large_records: u32,
    /// Of all deeds.
    pub mishaps: u64,
    /// Clocks of the nodes differ by up to this.
    pub skew: u64,
}

impl Storm {
    pub fn draw(world: &World) -> Self {
        // Half of the seeds are spared each kind: faults hide bugs from one another.
        let percent = |most: u64| if world.below(2) == 0 { 0 } else { u32::try_from(1 + world.below(most)).unwrap() };
        Storm {
            nodes: 2 + usize::try_from(world.below(4) * world.below(4) / 3).unwrap(),
            lease: Duration::from_millis(*world.pick(&[200, 200, 600, 2000])),
            s3_delay: 2 + world.below(60),
            s3_slow: percent(15),
            s3_fails: percent(15),
            s3_loses: percent(12),
            s3_late: percent(15),
            ring_delay: 1 + world.below(40),
            ring_slow: percent(40),
            ring_loses: percent(60),
            folds: percent(30),
            large_records: percent(10) / 3,
            mishaps: 4 + world.below(10),
            skew: world.below(100_000),
        }
    }
}
