//! Who tidies the bucket? Puts the parts of `upkeep` together, and lets the admin API start them.

use std::sync::Arc;

use crate::admin::{Job, Upkeep};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::s3::bucket::Bucket;
use crate::store::s3::export::Exporter;
use crate::upkeep::Parties;
use crate::upkeep::export::Export;
use crate::upkeep::sweep::{Sweeper, Terms};

/// Begins to sweep by itself, as configured.
pub(super) fn start(config: &Config, parties: &Parties) -> Upkeep {
    let settings = &config.store.s3;
    let terms = Terms::new(settings, &config.cache.flavor, config.cache.version);
    let sweeper = Sweeper::start(parties.clone(), terms);
    let exporter = exporter(config, parties.store.bucket(), &parties.metrics);
    let export = Export::new(parties.clone(), exporter, settings.sweep_rate);
    let (swept, exported) = (Arc::clone(&sweeper), Arc::clone(&export));
    Upkeep {
        sweep: Some(Job {
            start: Arc::new(move |is_dry| sweeper.order(is_dry)),
            state: Arc::new(move || swept.state()),
        }),
        export: Some(Job { start: Arc::new(move |_| export.order()), state: Arc::new(move || exported.state()) }),
    }
}

pub(super) fn exporter(config: &Config, bucket: &Bucket, metrics: &Arc<Metrics>) -> Exporter {
    Exporter::new(bucket.clone(), &config.store.s3, &config.cache.flavor, &config.hosts, Arc::clone(metrics))
}
