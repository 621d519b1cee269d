//! Texts that many pages have in common, a host or a journal's identity, once in memory instead of once for each page.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Texts that a thread remembers. Sites have few hosts, and a text that is forgotten is only kept twice.
const RECENT_MAX: usize = 8;

thread_local! {
    static RECENT: RefCell<VecDeque<Arc<str>>> = const { RefCell::new(VecDeque::new()) };
}

/// The text, shared with others of this thread that asked for the same lately.
#[must_use]
pub fn shared(text: &str) -> Arc<str> {
    RECENT.with_borrow_mut(|recent| {
        if let Some(known) = recent.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        let own: Arc<str> = text.into();
        recent.push_back(Arc::clone(&own));
        own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_kept_once_and_others_are_forgotten() {
        let first = shared("shop.example");
        assert!(Arc::ptr_eq(&first, &shared("shop.example")));
        for number in 0..RECENT_MAX {
            assert_eq!(&*shared(&number.to_string()), number.to_string());
        }
        assert!(!Arc::ptr_eq(&first, &shared("shop.example")));
        assert_eq!(first, shared("shop.example"));
    }
}
