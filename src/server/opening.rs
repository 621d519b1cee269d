//! Which store, and which journal? What `[store]` asks for, tried before anybody is answered.

use std::sync::Arc;

use super::{address, upkeep};
use crate::clock::Clock;
use crate::config::{Config, StoreKind};
use crate::invalidation::journal::memory::MemoryJournal;
use crate::invalidation::journal::{self, Journal, Recovered, random_identity};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::filesystem::{FilesystemStore, Limits};
use crate::store::memory::MemoryStore;
use crate::store::s3::S3Store;
use crate::store::s3::bucket::Bucket;
use crate::store::s3::export::ExportingStore;
use crate::store::tiered::TieredStore;

/// What pages and invalidations are kept in.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) recovered: Recovered,
    /// With `store.kind = "s3"`: the bucket alone, without what lies before it.
    pub(super) pages: Option<Arc<S3Store>>,
}

pub(super) async fn open(config: &Config, metrics: &Arc<Metrics>, clock: Clock) -> anyhow::Result<Opened> {
    match config.store.kind {
        StoreKind::Memory => {
            let journal = Arc::new(MemoryJournal::new(random_identity()));
            let store = Arc::new(MemoryStore::new(config.memory.capacity));
            Ok(Opened { store, journal, recovered: Recovered::default(), pages: None })
        }
        StoreKind::Filesystem => open_folder(config, clock),
        StoreKind::S3 => open_bucket(config, metrics, clock).await,
    }
}

/// The store's lock covers the journal in the same folder: it comes first.
fn open_folder(config: &Config, clock: Clock) -> anyhow::Result<Opened> {
    let settings = &config.store.filesystem;
    let flavor = &config.cache.flavor;
    let limits = Limits { max_bytes: settings.max_bytes, max_memory_bytes: config.cache.max_memory_size };
    let store = FilesystemStore::open(&settings.path, flavor, config.cache.version, limits, clock)?;
    let folder = settings.path.join(if flavor.is_empty() { "default" } else { flavor });
    let (journal, recovered) = journal::filesystem::open(&folder, clock.now(), random_identity)?;
    Ok(Opened { store: Arc::new(store), journal: Arc::new(journal), recovered, pages: None })
}

async fn open_bucket(config: &Config, metrics: &Arc<Metrics>, clock: Clock) -> anyhow::Result<Opened> {
    let settings = &config.store.s3;
    let (flavor, version, max_memory_bytes) =
        (&config.cache.flavor, config.cache.version, config.cache.max_memory_size);
    let bucket = Bucket::open(settings).await?;
    let pages = Arc::new(S3Store::new(bucket.clone(), settings, flavor, version, max_memory_bytes));
    let mut back = Arc::clone(&pages) as Arc<dyn Store>;
    if settings.export {
        back = Arc::new(ExportingStore::new(back, upkeep::exporter(config, &bucket, metrics)));
    }
    let store: Arc<dyn Store> = match &settings.disk_cache.path {
        Some(path) => {
            let limits = Limits { max_bytes: settings.disk_cache.max_bytes, max_memory_bytes };
            let front = Arc::new(FilesystemStore::open(path, flavor, version, limits, clock)?);
            Arc::new(TieredStore::new(front, back))
        }
        None => back,
    };
    let url = address::of_node(config, config.admin.listen);
    let (lease, probe) = (config.cluster.lease, bucket.probe().await?);
    if !probe.conditional_reads {
        tracing::warn!(
            "the S3 server sends what has not changed again (no 304): each look at the journal reads its head whole"
        );
    }
    let (journal, recovered) = match probe.conditional_writes.flaw() {
        None => journal::s3::open(bucket, flavor, lease, url, clock).await?,
        Some(flaw) => {
            tracing::warn!(
                flaw,
                "the S3 server cannot keep the writes of several nodes apart: this node uses the bucket alone, by a lock, and others are refused"
            );
            journal::s3::open_alone(bucket, flavor, lease, clock, flaw).await?
        }
    };
    Ok(Opened { store, journal: Arc::new(journal), recovered, pages: Some(pages) })
}
