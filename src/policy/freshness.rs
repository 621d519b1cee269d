//! How long is a response fresh? Only asked with `cache.lifetime = "origin"` (RFC 9111, section 4.2).

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};

use super::cache_control::Directives;
use crate::clock::UnixMillis;

/// A heuristic lifetime never exceeds a day (RFC 9111, section 4.2.2).
const HEURISTIC_MAX_SECONDS: u64 = 86_400;

/// Seconds from now for which the response is fresh; 0 if it is not. `targeted`: the directives come from a field that overrides `Expires`.
#[must_use]
pub fn fresh_seconds(directives: &Directives, targeted: bool, response: &HeaderMap, now: UnixMillis) -> u64 {
    let date = seconds(response, &DATE).unwrap_or(now.0 / 1000);
    let lifetime = if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        seconds
    } else if !targeted && response.contains_key(EXPIRES) {
        // An invalid date, such as 0, is in the past (RFC 9111, section 5.3).
        seconds(response, &EXPIRES).map_or(0, |expires| expires.saturating_sub(date))
    } else {
        let modified = seconds(response, &LAST_MODIFIED);
        modified.map_or(0, |modified| (date.saturating_sub(modified) / 10).min(HEURISTIC_MAX_SECONDS))
    };
    lifetime.saturating_sub(age_seconds(response, now))
}

/// The age of a response on its arrival (RFC 9111, section 4.2.3): the larger of what `Age` says and what `Date` implies.
#[must_use]
pub fn age_seconds(response: &HeaderMap, now: UnixMillis) -> u64 {
    let apparent = seconds(response, &DATE).map_or(0, |date| (now.0 / 1000).saturating_sub(date));
    let said = response.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok()).unwrap_or(0);
    apparent.max(said)
}

fn seconds(response: &HeaderMap, name: &http::HeaderName) -> Option<u64> {
    let date = httpdate::parse_http_date(response.get(name)?.to_str().ok()?).ok()?;
    Some(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::cache_control;

    const NOW: UnixMillis = UnixMillis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    fn fresh(lines: &[(&str, &str)]) -> u64 {
        let headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect();
        let directives = cache_control::parse(headers.get_all("cache-control").iter());
        fresh_seconds(&directives, false, &headers, NOW)
    }

    #[test]
    fn shared_lifetimes_come_first() {
        assert_eq!(fresh(&[("cache-control", "max-age=10, s-maxage=60"), ("expires", "0")]), 60);
        assert_eq!(fresh(&[("cache-control", "max-age=10"), ("age", "4")]), 6);
        assert_eq!(fresh(&[("cache-control", "max-age=0")]), 0);
    }

    #[test]
    fn expires_counts_from_date() {
        assert_eq!(
            fresh(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")]),
            60
        );
        assert_eq!(fresh(&[("expires", "0")]), 0);
    }

    #[test]
    fn a_tenth_of_its_age_is_a_guess_and_bounded() {
        assert_eq!(fresh(&[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT")]), 100);
        assert_eq!(fresh(&[("last-modified", "Sun, 06 Nov 1904 08:32:57 GMT")]), 0);
        assert_eq!(fresh(&[("last-modified", "Mon, 06 Nov 1972 08:32:57 GMT")]), HEURISTIC_MAX_SECONDS);
        assert_eq!(fresh(&[]), 0);
    }

    proptest! {
        #[test]
        fn no_response_is_fresh_for_longer_than_its_lifetime_and_age_allow(
            max_age in prop::option::of(0..=cache_control::MAX_SECONDS),
            age in "([0-9]{0,22}|-1| 5 |x)",
            dates in prop::array::uniform3(prop_oneof![
                3 => (0u64..5_000_000_000).prop_map(|at| httpdate::fmt_http_date(UnixMillis(at * 1000).to_system_time())),
                1 => "(0|-1|Sun|[ -~]{0,30})",
            ]),
            now in 0u64..5_000_000_000_000,
            targeted: bool,
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [AGE, DATE, EXPIRES, LAST_MODIFIED].into_iter().zip([&age].into_iter().chain(&dates)) {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            let directives = Directives { max_age, ..Directives::default() };
            let (now, age) = (UnixMillis(now), age.trim().parse::<u64>().unwrap_or(0));
            let fresh = fresh_seconds(&directives, targeted, &headers, now);
            prop_assert!(age_seconds(&headers, now) >= age);
            prop_assert!(max_age.is_none_or(|lifetime| fresh <= lifetime.saturating_sub(age)));
            prop_assert!(max_age.is_some() || !targeted || fresh <= HEURISTIC_MAX_SECONDS);
        }
    }
}
