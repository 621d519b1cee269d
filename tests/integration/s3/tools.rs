//! Are the tools of these tests what they say? A link that breaks as told, a server that lies as told, and the real ones.

mod liar;
mod link;
mod servers;
