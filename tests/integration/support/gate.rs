//! Where requests wait until they are let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Far more than any request takes to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Holds requests up until the test lets them go, and tells when they have arrived.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { arrived: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// In the origin: waits here.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    /// In the test: until the next request stands at the gate.
    pub async fn arrival(&self) {
        let arrival = tokio::time::timeout(PATIENCE, self.arrived.acquire()).await;
        arrival.expect("a request comes to the gate").unwrap().forget();
    }

    /// In the test: lets one request go.
    pub fn release(&self) {
        self.released.add_permits(1);
    }

    /// In the test: lets all go, now and later.
    pub fn open(&self) {
        self.released.add_permits(10_000);
    }
}
