//! Which pages are there? A small site on two hosts, and how each rendering of a page looks, byte by byte.

use everpage::policy::path;

/// The hosts; both show the same data.
pub const HOSTS: [&str; 2] = ["a.example", "b.example"];

/// What an app knows as one page each: the path, its tags, and other spellings that lead to it.
pub const PATHS: [(&str, &[&str], &[&str]); 4] = [
    ("/shop/a", &["red", "new"], &["/shop//a", "/shop/%61", "/x/../shop/a"]),
    ("/shop/b", &["red"], &["/shop/b?q=1"]),
    ("/blog/c", &["new"], &["/blog/c?q=1"]),
    ("/", &["home"], &[]),
];

/// The page that is too large to be kept, in the seeds that have one.
pub const LARGE: usize = 2;

/// What a visitor asks for, as the app understands it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub host: usize,
    pub path: usize,
    pub query: String,
}

impl Place {
    /// `None`: there is no such page.
    pub fn read(host: &str, target: &str) -> Option<Place> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let normal = path::normalise(path).ok()?;
        let identity = path::identity(&normal);
        let path = PATHS.iter().position(|(path, ..)| path.as_bytes() == &*identity)?;
        Some(Place { host: HOSTS.iter().position(|known| *known == host)?, path, query: query.to_owned() })
    }
}

/// One run of the app's page function.
#[derive(Clone, Debug)]
pub struct Rendering {
    pub place: Place,
    /// What it says about the visitor's `x-variant`; `None`: it is the same for all.
    pub variant: Option<String>,
    /// How often the data had been saved when it was read.
    pub version: u64,
    /// When the request for it arrived.
    pub began: u64,
    /// Whether more than one visitor may see it.
    pub shareable: bool,
    /// How many saw it.
    pub seen: u32,
    /// How often its line is repeated.
    pub lines: usize,
}

impl Rendering {
    /// Every line names all that it depends on, so that no two can be mixed unseen.
    pub fn body(&self) -> String {
        let Place { host, path, query } = &self.place;
        let (host, path) = (HOSTS[*host], PATHS[*path].0);
        let variant = self.variant.as_deref().unwrap_or("any");
        let mut body = format!("{host} {path} {query} v{} {variant}\n", self.version).repeat(self.lines);
        body.push_str("end\n");
        body
    }
}
