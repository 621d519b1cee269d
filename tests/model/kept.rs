//! The promise is kept in every state within these bounds.

use super::explore;
use super::rules::Bounds;

const ONE: Bounds = Bounds::nodes(1);
const TWO: Bounds = Bounds::nodes(2);
const THREE: Bounds = Bounds::nodes(3);

fn assert_kept(bounds: Bounds) {
    let explored = explore(bounds, None);
    if let Some(steps) = explored.broken {
        panic!("the promise is broken within {bounds:?}:\n{steps:#?}");
    }
    assert!(explored.unseen.is_empty(), "never seen within {bounds:?}: {:?}", explored.unseen);
}

#[test]
fn try_them() {
    for b in [
    Bounds { invalidations: 2, fills: 2, ..ONE },
    Bounds { invalidations: 3, fills: 3, crashes: 1, losses: 1, repeats: 1, ..ONE },
    Bounds { invalidations: 2, fills: 1, ..TWO },
    Bounds { invalidations: 1, fills: 2, ..TWO },
    Bounds { crashes: 1, ..TWO },
    Bounds { losses: 1, ..TWO },
    Bounds { repeats: 1, losses: 1, ..TWO },
    Bounds { pausing: true, ..TWO },
    Bounds { tagged: true, ..TWO },
    Bounds { ring: true, invalidations: 2, ..TWO },
    Bounds { deletions: 1, crashes: 1, fills: 1, ..TWO },
    Bounds { losses: 1, invalidations: 2, ..TWO },
    Bounds { crashes: 1, invalidations: 2, ..TWO },
    THREE,
    Bounds { ring: true, ..THREE },
    Bounds { ring: true, invalidations: 2, fills: 0, ..THREE },
    ] { assert_kept(b); }
}
