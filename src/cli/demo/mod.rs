//! `everpage demo`: a shop, the proxy before it and the dashboard.

pub mod shop;
