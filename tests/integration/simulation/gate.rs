//! Does a process run? Everything that goes in or out of a node passes its gate, which stands still while the node is paused, and for ever once it is dead.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::world::World;

/// Of one life of a node.
#[derive(Debug)]
pub struct Gate {
    world: Arc<World>,
    /// In the world's milliseconds.
    paused_until: Mutex<u64>,
    dead: CancellationToken,
}

impl Gate {
    pub fn new(world: &Arc<World>) -> Self {
        Gate { world: Arc::clone(world), paused_until: Mutex::default(), dead: CancellationToken::new() }
    }

    /// At once, or when the node runs again, or never.
    pub async fn pass(&self) {
        loop {
            if self.dead.is_cancelled() {
                return std::future::pending().await;
            }
            let until = *self.paused_until.lock();
            let left = until.saturating_sub(self.world.milliseconds());
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
    }

    pub fn pause(&self, milliseconds: u64) {
        let until = self.world.milliseconds() + milliseconds;
        let mut paused_until = self.paused_until.lock();
        *paused_until = until.max(*paused_until);
    }

    pub fn is_paused(&self) -> bool {
        *self.paused_until.lock() > self.world.milliseconds()
    }

    pub fn kill(&self) {
        self.dead.cancel();
    }

    /// What somebody has of this node, until it is dead.
    pub async fn while_alive<F: Future>(&self, work: F) -> Option<F::Output> {
        self.dead.run_until_cancelled(work).await
    }
}
