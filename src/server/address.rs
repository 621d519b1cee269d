//! Where do other nodes reach this one's admin listener?

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::config::Config;

/// An address that belongs to nobody (RFC 5737): on the way to it lies what lies on the way to other machines.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// `cluster.node_url`, else the listener's own address, else that of this machine; `None`: it has none.
pub(super) fn of_node(config: &Config, admin: SocketAddr) -> Option<Arc<str>> {
    if let Some(url) = &config.cluster.node_url {
        return Some(url.to_string().trim_end_matches('/').into());
    }
    let ip = if admin.ip().is_unspecified() { of_machine()? } else { admin.ip() };
    Some(format!("http://{}", SocketAddr::new(ip, admin.port())).into())
}

/// The address that packets to other machines leave from. Connecting a UDP socket sends none.
fn of_machine() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ANYWHERE).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_goes_before_what_is_seen() {
        let mut config = Config::default();
        let admin = "10.0.0.7:8081".parse().unwrap();
        assert_eq!(of_node(&config, admin).as_deref(), Some("http://10.0.0.7:8081"));
        config.cluster.node_url = Some("http://node-7:9".parse().unwrap());
        assert_eq!(of_node(&config, admin).as_deref(), Some("http://node-7:9"));
    }

    #[test]
    fn an_address_of_the_machine_is_none_that_others_cannot_use() {
        let url = of_node(&Config::default(), "0.0.0.0:8081".parse().unwrap());
        assert!(url.is_none_or(|url| !url.contains("0.0.0.0") && url.ends_with(":8081")));
    }
}
