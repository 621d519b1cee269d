//! May this process open as many files as it has connections? Each is one, to visitors and to the origin.
//!
//! The system's soft limit, often 1,024, is for programs that cannot do with more; it is raised as far as the hard one allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Files that are open beside connections to visitors: pages that are read and written, connections to the origin, to S3, and of the admin API.
const OTHERS: u64 = 512;

/// Raises the limit, and warns where even the hard one is too low.
pub(super) fn raise_limit(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the limit of open files was not raised");
    }
    let wanted = config.limits.connections as u64 + OTHERS;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "the system lets this process open fewer files than limits.connections may need: raise LimitNOFILE= of the unit or `ulimit -Hn`, or \
             lower limits.connections"
        );
    }
}
