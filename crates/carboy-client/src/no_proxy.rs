//! Hosts that need no proxy: what `NO_PROXY` and its kin name.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// A list of hosts, each perhaps with a port: names, which stand for their subdomains too
/// (`example.com`, `.example.com`, `*.example.com`), addresses, networks (`10.0.0.0/8`), and `*` for
/// all. Between them are commas or whitespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    All,
    Address(IpAddr),
    Network(IpNet),
    Domain(String),
}

impl NoProxy {
    /// Reads a list. What can't be read names no host.
    pub(crate) fn parse(list: &str) -> Self {
        let items = list.split(|end: char| end == ',' || end.is_whitespace());
        Self {
            entries: items
                .filter(|item| !item.is_empty())
                .filter_map(Entry::parse)
                .collect(),
        }
    }

    /// Whether the host of a URL is one of them.
    pub(crate) fn contains(&self, url: &Url) -> bool {
        let Some(host) = url.host() else {
            return false;
        };
        let port = url.port_or_known_default();
        self.entries
            .iter()
            .any(|entry| entry.hosts.contain(&host) && (entry.port.is_none() || entry.port == port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let of = |hosts| Some(Self { hosts, port: None });
        if let Ok(network) = text.parse() {
            return of(Hosts::Network(network));
        }
        if let Ok(address) = text.parse() {
            return of(Hosts::Address(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (text, None),
        };
        let hosts = if host == "*" {
            Hosts::All
        } else {
            let name = host.strip_prefix('*').unwrap_or(host);
            match Host::parse(name.trim_start_matches('.')).ok()? {
                Host::Domain(name) => Hosts::Domain(name.trim_end_matches('.').to_owned()),
                Host::Ipv4(address) => Hosts::Address(address.into()),
                Host::Ipv6(address) => Hosts::Address(address.into()),
            }
        };
        Some(Self { hosts, port })
    }
}

impl Hosts {
    fn contain(&self, host: &Host<&str>) -> bool {
        let address: IpAddr = match *host {
            Host::Domain(name) => return self.contain_name(name.trim_end_matches('.')),
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
        };
        match self {
            Self::All => true,
            Self::Address(known) => *known == address,
            Self::Network(network) => network.contains(&address),
            Self::Domain(_) => false,
        }
    }

    fn contain_name(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            Self::Address(_) | Self::Network(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &str, url: &str) -> bool {
        NoProxy::parse(list).contains(&Url::parse(url).unwrap())
    }

    #[test]
    fn names_stand_for_what_is_below_them() {
        for list in [
            "example.com",
            ".example.com",
            "*.example.com",
            "EXAMPLE.com.",
            "x, example.com",
            "x example.com",
        ] {
            assert!(contains(list, "http://example.com/"), "{list}");
            assert!(contains(list, "https://a.b.example.com:8443/"), "{list}");
            assert!(contains(list, "http://a.example.com./"), "{list}");
            assert!(!contains(list, "http://badexample.com/"), "{list}");
            assert!(!contains(list, "http://example.com.org/"), "{list}");
        }
        assert!(contains("bücher.example", "http://bücher.example/"));
        assert!(!contains("", "http://example.com/"));
        assert!(!contains("ple.com", "http://example.com/"));
    }

    #[test]
    fn a_port_restricts_an_entry() {
        for (list, inside, outside) in [
            (
                "example.com:8080",
                "http://a.example.com:8080/",
                "http://example.com/",
            ),
            (
                "example.com:443",
                "https://example.com/",
                "http://example.com/",
            ),
            (
                "127.0.0.1:8000",
                "http://127.0.0.1:8000/",
                "http://127.0.0.1/",
            ),
            ("[::1]:8000", "http://[::1]:8000/", "http://[::1]/"),
            ("*:8000", "http://example.com:8000/", "http://example.com/"),
        ] {
            assert!(contains(list, inside), "{list}");
            assert!(!contains(list, outside), "{list}");
        }
        assert!(!contains("example.com:port", "http://example.com/"));
    }

    #[test]
    fn addresses_and_networks() {
        assert!(contains("127.0.0.1", "http://127.0.0.1:8000/"));
        assert!(contains("127.0.0.0/8", "http://127.1.2.3/"));
        assert!(!contains("127.0.0.0/8", "http://128.0.0.1/"));
        assert!(!contains("127.0.0.0/8", "http://localhost/"));
        for list in ["::1", "[::1]", "::/64"] {
            assert!(contains(list, "http://[::1]:8000/"), "{list}");
            assert!(!contains(list, "http://[1::1]/"), "{list}");
        }
        assert!(contains("a, *", "http://[1::1]/"));
        assert!(contains("*", "http://example.com/"));
    }
}
