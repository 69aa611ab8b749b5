//! Where a node is reached: `host:port`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest host name in bytes (RFC 1035 §2.3.4).
const HOST_MAX: usize = 253;

/// Where a node is reached: a DNS name or an IP address, and a port. An IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeAddress(String);

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: expected HOST:PORT, {problem}")]
pub struct AddressError {
    text: String,
    problem: &'static str,
}

impl NodeAddress {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// Whether others can reach it: `0.0.0.0` and `[::]` are for listening only.
    pub fn is_unspecified(&self) -> bool {
        let host = self.host();
        host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_unspecified())
            || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

fn problem(text: &str) -> Option<&'static str> {
    let Some((host, port)) = text.rsplit_once(':') else { return Some("with a port") };
    if port.parse::<u16>().is_ok_and(|number| number != 0 && !port.starts_with('+')) {
        host_problem(host)
    } else {
        Some("with a port from 1 to 65535")
    }
}

fn host_problem(host: &str) -> Option<&'static str> {
    if let Some(bracketed) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return bracketed.parse::<Ipv6Addr>().is_err().then_some("with an IPv6 address in the brackets");
    }
    if host.contains(':') {
        return Some("with an IPv6 address in brackets");
    }
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-')
    };
    let name = host.len() <= HOST_MAX && host.split('.').all(label);
    (!name).then_some("with a DNS name or an IP address as host")
}

impl FromStr for NodeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match problem(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(AddressError { text: text.to_owned(), problem }),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeAddress {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("n1:7440", "n1", 7440),
            ("alpha.example.org:1", "alpha.example.org", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[fd00::1]:7440", "fd00::1", 7440),
        ] {
            let address: NodeAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port(), address.to_string()), (host, port, text.to_owned()));
            assert!(!address.is_unspecified());
        }
        for text in ["0.0.0.0:7440", "[::]:7440"] {
            assert!(text.parse::<NodeAddress>().unwrap().is_unspecified());
        }
    }

    #[test]
    fn what_nobody_could_dial_is_refused_with_the_reason() {
        let mut table = String::new();
        for text in
            ["", "n1", "n1:", "n1:0", "n1:65536", "n1:+1", ":7", "a b:7", "fd00::1:7", "[n1]:7", "a..b:7"]
        {
            table += &format!("{}\n", text.parse::<NodeAddress>().unwrap_err());
        }
        insta::assert_snapshot!(table, @r#"
        "" is not an address: expected HOST:PORT, with a port
        "n1" is not an address: expected HOST:PORT, with a port
        "n1:" is not an address: expected HOST:PORT, with a port from 1 to 65535
        "n1:0" is not an address: expected HOST:PORT, with a port from 1 to 65535
        "n1:65536" is not an address: expected HOST:PORT, with a port from 1 to 65535
        "n1:+1" is not an address: expected HOST:PORT, with a port from 1 to 65535
        ":7" is not an address: expected HOST:PORT, with a DNS name or an IP address as host
        "a b:7" is not an address: expected HOST:PORT, with a DNS name or an IP address as host
        "fd00::1:7" is not an address: expected HOST:PORT, with an IPv6 address in brackets
        "[n1]:7" is not an address: expected HOST:PORT, with an IPv6 address in the brackets
        "a..b:7" is not an address: expected HOST:PORT, with a DNS name or an IP address as host
        "#);
    }
}
