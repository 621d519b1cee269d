//! WHICH KEYS MAY BE TOUCHED? Those below one location, and no others: every key becomes one of the bucket here, and comes back through here.

/// Bytes of a key, by S3's documentation ("Naming Amazon S3 objects").
const KEY_MAX_BYTES: usize = 1024;

/// The location, as all keys below it begin: empty, or with a slash at its end.
#[derive(Clone, Debug)]
pub(super) struct Location(String);

impl Location {
    /// # Errors
    /// It is no folder; in words.
    pub(super) fn new(location: &str) -> Result<Self, String> {
        if location.is_empty() {
            return Ok(Location(String::new()));
        }
        segments(location).map_err(|why| format!("store.s3.location = {location:?} {why}"))?;
        Ok(Location(format!("{location}/")))
    }

    /// The key in the bucket.
    ///
    /// # Errors
    /// It could mean something outside; in words.
    pub(super) fn key(&self, key: &str) -> Result<String, String> {
        segments(key).map_err(|why| format!("the key {key:?} {why}"))?;
        self.joined(key)
    }

    /// The beginning of keys in the bucket: the location itself where it is empty.
    ///
    /// # Errors
    /// As above.
    pub(super) fn prefix(&self, prefix: &str) -> Result<String, String> {
        let folder = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() {
            segments(folder).map_err(|why| format!("the prefix {prefix:?} {why}"))?;
        }
        self.joined(prefix)
    }

    /// A key of the bucket as one below the location; `None`: it lies outside, whoever listed it.
    pub(super) fn relative<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0).filter(|rest| segments(rest).is_ok())
    }

    fn joined(&self, rest: &str) -> Result<String, String> {
        let joined = format!("{}{rest}", self.0);
        if joined.len() > KEY_MAX_BYTES {
            return Err(format!("the key {joined:?} is longer than the {KEY_MAX_BYTES} bytes that S3 takes"));
        }
        Ok(joined)
    }
}

/// A path without anything that a server, a proxy or a client could resolve to another one.
fn segments(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.chars().any(|character| character.is_control() || character == '\\') {
        return Err("holds a control character or a backslash");
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err("begins or ends with a slash, or doubles one"),
            "." | ".." => return Err("holds a segment `.` or `..`"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_below_the_location() {
        let location = Location::new("a/b").unwrap();
        assert_eq!(location.key("c/d").unwrap(), "a/b/c/d");
        assert_eq!(location.relative("a/b/c/d"), Some("c/d"));
        assert_eq!(Location::new("").unwrap().key("c").unwrap(), "c");
    }

    #[test]
    fn what_could_mean_something_outside_is_refused() {
        for location in ["a", ""] {
            let location = Location::new(location).unwrap();
            for key in ["", "/", "/c", "c/", "c//d", ".", "..", "../c", "c/../../d", "c/.", "c\n", "c\\..\\d", "c\0"] {
                location.key(key).unwrap_err();
                if !["", "c/"].contains(&key) {
                    location.prefix(key).unwrap_err();
                }
            }
        }
        for location in ["/", "/a", "a/", "a//b", "..", "a/../b", "a\0"] {
            Location::new(location).unwrap_err();
        }
    }

    #[test]
    fn what_lies_outside_is_not_seen() {
        let location = Location::new("a").unwrap();
        for key in ["ab/c", "a", "a/", "b/c", "a/../b", "a//b", ""] {
            assert_eq!(location.relative(key), None, "{key}");
        }
    }

    #[test]
    fn an_empty_prefix_is_all_of_the_location_and_not_its_neighbours() {
        let location = Location::new("a").unwrap();
        assert_eq!(location.prefix("").unwrap(), "a/");
        assert_eq!(location.prefix("b/").unwrap(), "a/b/");
        assert_eq!(location.prefix("b/c").unwrap(), "a/b/c");
    }

    #[test]
    fn a_key_longer_than_s3_takes_is_refused() {
        let location = Location::new("a").unwrap();
        location.key(&"x".repeat(KEY_MAX_BYTES - 2)).unwrap();
        location.key(&"x".repeat(KEY_MAX_BYTES - 1)).unwrap_err();
    }
}
