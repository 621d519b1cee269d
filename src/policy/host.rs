//! Which site does this host name? One spelling, shared by requests, invalidations and `hosts`.
//!
//! It never resolves a name and never asks whether the site is served.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;

/// Why a host has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing, or nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// Longer than the 253 bytes that the DNS allows.
    #[error("the host is longer than 253 bytes")]
    TooLong,
    /// Something else than letters, digits, `-`, `.`, `_` and `~`.
    #[error("the host has a character that no name has")]
    Character,
    /// Two dots in a row, or one at the beginning.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// Brackets without an IPv6 address between them.
    #[error("the host is not an IPv6 address in brackets")]
    Address,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl HostError {
    /// The reason's name in headers, logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            HostError::Empty => "host-empty",
            HostError::TooLong => "host-too-long",
            HostError::Character => "host-character",
            HostError::EmptyLabel => "host-empty-label",
            HostError::Address => "host-address",
            HostError::Port => "host-port",
        }
    }
}

const MAX_NAME_BYTES: usize = 253;

/// The normal spelling of `host[:port]` (RFC 9110, section 7.2): lower case, without a trailing dot, IPv6 as in RFC 5952, without a
/// default port. Borrowed when it is normal already.
///
/// The ports 80 and 443 are dropped whatever the scheme: behind a TLS terminator nobody knows which one the visitor's browser took
/// for the default, and an invalidation of `https://shop.example/` must reach the page that was kept for `shop.example:443`.
/// Percent-encoded and non-ASCII names are refused, though RFC 3986 has them: clients send such names in punycode, and a second
/// spelling of a name is only good for slipping past an invalidation.
///
/// # Errors
/// Each [`HostError`].
pub fn normalise_host(raw: &str) -> Result<Cow<'_, str>, HostError> {
    let (name, digits) = split_port(raw)?;
    let name = if name.starts_with('[') { normal_address(name)? } else { normal_name(name)? };
    let Some(digits) = digits else { return Ok(name) };
    let as_spelled = name.len() + 1 + digits.len() == raw.len() && !digits.starts_with('0');
    match digits.parse::<NonZeroU16>().map_err(|_| HostError::Port)?.get() {
        80 | 443 => Ok(name),
        _ if as_spelled && matches!(name, Cow::Borrowed(_)) => Ok(Cow::Borrowed(raw)),
        port => Ok(Cow::Owned(format!("{name}:{port}"))),
    }
}

/// The port's digits, if there are any: an empty port is none (RFC 3986, section 3.2.3).
fn split_port(raw: &str) -> Result<(&str, Option<&str>), HostError> {
    let (name, port) = match raw.find(']') {
        Some(bracket) if raw.starts_with('[') => raw.split_at(bracket + 1),
        _ => raw.split_at(raw.find(':').unwrap_or(raw.len())),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((name, None)),
        Some("") => Ok((name, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok((name, Some(digits))),
        _ => Err(HostError::Port),
    }
}

fn normal_name(name: &str) -> Result<Cow<'_, str>, HostError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(HostError::TooLong);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')) {
        return Err(HostError::Character);
    }
    if name.split('.').any(str::is_empty) {
        return Err(HostError::EmptyLabel);
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

fn normal_address(bracketed: &str) -> Result<Cow<'_, str>, HostError> {
    let address = bracketed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(HostError::Address)?;
    let address: Ipv6Addr = address.parse().map_err(|_| HostError::Address)?;
    let normal = format!("[{address}]");
    Ok(if normal == bracketed { Cow::Borrowed(bracketed) } else { Cow::Owned(normal) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(raw: &str) -> String {
        normalise_host(raw).unwrap().into_owned()
    }

    #[test]
    fn spellings_of_one_host_have_one_normal_form() {
        for raw in
            ["shop.example", "SHOP.example", "shop.example.", "shop.example:80", "Shop.Example.:443", "shop.example:"]
        {
            assert_eq!(host(raw), "shop.example", "{raw}");
        }
        assert_eq!(host("shop.example:08080"), "shop.example:8080");
        assert_eq!(host("[0:0::1]:443"), "[::1]");
        assert_eq!(host("[::1]:81"), "[::1]:81");
        assert_eq!(host("Shop.Example.:81"), "shop.example:81");
        assert_eq!(host("shop.example.:81"), "shop.example:81");
        assert_eq!(host("SHOP.example:81"), "shop.example:81");
        assert_eq!(host("127.0.0.1:8000"), "127.0.0.1:8000");
        assert_eq!(host("my_service"), "my_service");
    }

    #[test]
    fn a_normal_host_is_borrowed() {
        for raw in ["shop.example", "shop.example:8080", "[::1]", "127.0.0.1"] {
            assert!(matches!(normalise_host(raw), Ok(Cow::Borrowed(same)) if same == raw), "{raw}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for (raw, reason) in [
            ("", HostError::Empty),
            (".", HostError::Empty),
            (":80", HostError::Empty),
            ("a..b", HostError::EmptyLabel),
            ("a..", HostError::EmptyLabel),
            ("shop.example:http", HostError::Port),
            ("shop.example:+80", HostError::Port),
            ("shop.example:65536", HostError::Port),
            ("shop.example:0", HostError::Port),
            ("a:1:2", HostError::Port),
            ("[::1]x", HostError::Port),
            ("[::g]", HostError::Address),
            ("[::1", HostError::Port),
            ("[", HostError::Address),
            ("user@shop.example", HostError::Character),
            ("shop%2Eexample", HostError::Character),
            ("käse.example", HostError::Character),
            ("shop.example/x", HostError::Character),
        ] {
            assert_eq!(normalise_host(raw), Err(reason), "{raw}");
        }
        assert_eq!(normalise_host(&"a".repeat(254)), Err(HostError::TooLong));
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(raw in "(\\[[0-9a-f:.]{2,12}\\]|[A-Za-z0-9._~-]{1,20})(:[0-9]{0,5})?") {
            if let Ok(normal) = normalise_host(&raw) {
                prop_assert!(matches!(normalise_host(&normal), Ok(Cow::Borrowed(same)) if same == normal));
            }
        }
    }
}
