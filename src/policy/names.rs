//! Is this the name of one of those cookies or parameters? Patterns as `config.toml` has them, mostly whole names and beginnings of names.
//!
//! Each request's cookies are asked after: whole names, beginnings and ends are compared as they are, which takes a third of what a set of globs does.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of names; `*` stands for any characters, and the rest of globs has its meaning too.
#[derive(Debug)]
pub(super) struct Names {
    whole: Vec<Box<str>>,
    /// Beginning and end, with anything between.
    around: Vec<(Box<str>, Box<str>)>,
    others: GlobSet,
}

impl Names {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One is no glob.
    pub(super) fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let (mut whole, mut around, mut others) = (Vec::new(), Vec::new(), GlobSetBuilder::new());
        for pattern in patterns {
            match pattern.split_once('*') {
                None if is_literal(pattern) => whole.push(pattern.as_str().into()),
                Some((begin, end)) if is_literal(begin) && is_literal(end) => around.push((begin.into(), end.into())),
                _ => drop(others.add(glob(pattern)?)),
            }
        }
        Ok(Names { whole, around, others: others.build()? })
    }

    /// Whether there is no pattern.
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.around.is_empty() && self.others.is_empty()
    }

    /// Whether one of the patterns is of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.whole.iter().any(|whole| **whole == *name)
            || self.around.iter().any(|(begin, end)| {
                name.len() >= begin.len() + end.len() && name.starts_with(&**begin) && name.ends_with(&**end)
            })
            || (!self.others.is_empty() && self.others.is_match(name))
    }
}

/// Nothing in it means anything but itself.
fn is_literal(pattern: &str) -> bool {
    pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_pattern_contains_no_name() {
        let names = Names::new(&[]).unwrap();
        assert!(names.is_empty() && !names.contains("") && !names.contains("a"));
    }

    #[test]
    fn a_beginning_and_an_end_do_not_share_letters() {
        let names = Names::new(&["a*a".to_owned(), "_*_key".to_owned()]).unwrap();
        for (name, expected) in
            [("aa", true), ("aba", true), ("a", false), ("ab", false), ("__key", true), ("_key", false)]
        {
            assert_eq!(names.contains(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn each_pattern_means_what_the_glob_does(patterns in prop::collection::vec("[ab.*?]{1,4}|a\\[ab\\]|\\{a,b\\}", 0..4), name in "[ab.]{0,4}") {
            let mut globs = GlobSetBuilder::new();
            for pattern in &patterns {
                globs.add(glob(pattern).unwrap());
            }
            prop_assert_eq!(Names::new(&patterns).unwrap().contains(&name), globs.build().unwrap().is_match(&name));
        }
    }
}
