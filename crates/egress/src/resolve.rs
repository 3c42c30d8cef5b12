//! Names to addresses that may be connected to.
//!
//! Each new connection asks here, and goes to one of the addresses that it gets: the address that was vetted is the
//! address that is used, so a name that changes its mind between two lookups (DNS rebinding) gains nothing.
//!
//! Names are complete: no search domain is appended, so a customer can't reach into the cluster by a short name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use ipnet::IpNet;

use crate::address::{self, Blocked};

/// For one question to the servers, and how often it is asked again, within the time of a connection.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
const QUESTIONS_AGAIN: usize = 1;
/// How long the name server has that is asked for nothing but whether it is there.
const THERE_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers that are remembered, each for its time to live but no longer than this: a destination that moves is found.
const REMEMBERED: u64 = 1_024;
const FRESH: Duration = Duration::from_secs(30);
const ABSENT: Duration = Duration::from_secs(5);
/// Questions in the air over one connection to a server.
const IN_THE_AIR: usize = 1_024;
/// How long the other family of addresses is waited for when one will do (after RFC 8305, section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(100);
/// Addresses of one name that are tried; a name may have any number.
const ADDRESSES: usize = 8;

/// Looks names up and passes on only addresses with a good verdict.
#[derive(Clone)]
pub(crate) struct Resolver {
    dns: TokioResolver,
    /// The same servers, of which no answer is remembered.
    fresh: TokioResolver,
    hosts: Arc<Hosts>,
    allowed: Arc<[IpNet]>,
}

/// A name without an address that may be connected to.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no public address: {0}")]
    NotPublic(#[from] Blocked),
    #[error("the name does not exist")]
    NoName,
    #[error("the name has no address")]
    NoAddress,
    /// The name's own servers are away, or our name server is.
    #[error("the name can't be resolved: {0}")]
    Unresolved(String),
}

impl Refused {
    /// What is said of a name when each family has another reason: the least. One that could not be asked may have what
    /// the other lacks.
    fn rank(&self) -> u8 {
        match self {
            Self::Unresolved(_) => 0,
            Self::NotPublic(_) => 1,
            Self::NoName | Self::NoAddress => 2,
        }
    }
}

impl Resolver {
    /// Asks `name_servers`, or those of the system when there are none.
    pub(crate) fn new(name_servers: &[SocketAddr], allowed: &[IpNet]) -> Result<Self, NetError> {
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        let (dns, fresh) = (asking(name_servers, options)?, asking(name_servers, options_of_fresh)?);
        Ok(Self { dns, fresh, hosts, allowed: allowed.into() })
    }

    /// Asks nobody: these names are at 127.0.0.1, as a line of `/etc/hosts` would say.
    #[cfg(test)]
    pub(crate) fn at_home(names: &[&str], allowed: &[IpNet]) -> Self {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(format!("127.0.0.1 {}\n", names.join(" ")).as_bytes()).unwrap();
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        Self { hosts: Arc::new(hosts), ..Self::new(&[nobody], allowed).unwrap() }
    }

    /// Networks that may be sent to although they are not public.
    pub(crate) fn allowed(&self) -> &[IpNet] {
        &self.allowed
    }

    /// The addresses of a destination's name that may be connected to, in the order in which to try them.
    pub(crate) async fn vetted(&self, name: &str) -> Found {
        let mut vetted = self.judged(name, |found| passed(found, &self.allowed)).await?;
        // Each family has brought as many.
        vetted.truncate(ADDRESSES);
        Ok(vetted)
    }

    /// All addresses of a name. Only what the operator has named is connected to without a verdict.
    pub(crate) async fn addresses(&self, name: &str) -> Found {
        self.judged(name, Ok).await
    }

    /// What `judge` leaves of a name's addresses.
    async fn judged(&self, name: &str, judge: impl Fn(Vec<IpAddr>) -> Found) -> Found {
        if address::is_localhost(name) {
            return judge(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut name = Name::from_ascii(name).map_err(|_| Refused::NoName)?;
        name.set_fqdn(true);
        let known = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let known: Vec<_> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(known)
            .flat_map(|lookup| ips(&lookup))
            .collect();
        if !known.is_empty() {
            return judge(known);
        }
        let (v4, v6) = self.both(name, judge).await;
        merged(v4, v6)
    }

    /// Whether the name server says anything at all, a refusal too, to a question that no customer's server has a part in: where
    /// the root is.
    pub(crate) async fn is_answered(&self) -> bool {
        match self.fresh.lookup(Name::root(), RecordType::NS).await {
            Ok(_) => true,
            Err(error) => !matches!(error, NetError::Timeout | NetError::Io(_) | NetError::NoConnections),
        }
    }

    /// Both families at once. When one has addresses that are good for something, the other has a moment left.
    async fn both(&self, name: Name, judge: impl Fn(Vec<IpAddr>) -> Found) -> (Option<Found>, Option<Found>) {
        let found = |answer| found(answer).and_then(&judge);
        let v4 = self.dns.lookup(name.clone(), RecordType::A);
        let v6 = self.dns.lookup(name, RecordType::AAAA);
        tokio::pin!(v4, v6);
        tokio::select! {
            v4 = &mut v4 => {
                let v4 = found(v4);
                let v6 = if v4.is_ok() { tokio::time::timeout(OTHER_FAMILY, v6).await.ok() } else { Some(v6.await) };
                (Some(v4), v6.map(found))
            }
            v6 = &mut v6 => {
                let v6 = found(v6);
                let v4 = if v6.is_ok() { tokio::time::timeout(OTHER_FAMILY, v4).await.ok() } else { Some(v4.await) };
                (v4.map(found), Some(v6))
            }
        }
    }
}

type Found = Result<Vec<IpAddr>, Refused>;

/// Asks these servers, or those of the system when there are none.
fn asking(name_servers: &[SocketAddr], options: fn(&mut ResolverOpts)) -> Result<TokioResolver, NetError> {
    let mut builder = if name_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = name_servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    options(builder.options_mut());
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}

fn options(options: &mut ResolverOpts) {
    options.timeout = QUESTION_TIMEOUT;
    options.attempts = QUESTIONS_AGAIN;
    options.cache_size = REMEMBERED;
    options.positive_max_ttl = Some(FRESH);
    options.negative_max_ttl = Some(ABSENT);
    options.max_active_requests = IN_THE_AIR;
    // Read once, and looked at here: what stands there has no other addresses in the DNS.
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = false;
}

fn options_of_fresh(options: &mut ResolverOpts) {
    self::options(options);
    options.timeout = THERE_TIMEOUT;
    options.attempts = 0;
    options.cache_size = 0;
}

fn found(answer: Result<Lookup, NetError>) -> Found {
    match answer {
        Ok(lookup) => Some(ips(&lookup)).filter(|ips| !ips.is_empty()).ok_or(Refused::NoAddress),
        Err(error) if error.is_nx_domain() => Err(Refused::NoName),
        Err(error) if error.is_no_records_found() => Err(Refused::NoAddress),
        Err(NetError::Timeout) => Err(Refused::Unresolved("its own name servers do not answer".to_owned())),
        Err(error) => Err(Refused::Unresolved(error.to_string())),
    }
}

fn ips(lookup: &Lookup) -> Vec<IpAddr> {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// What both families have, alternating, IPv4 first: the better connected one on most machines.
fn merged(v4: Option<Found>, v6: Option<Found>) -> Found {
    match (v4, v6) {
        (Some(Ok(v4)), Some(Ok(v6))) => Ok(alternating(&v4, &v6)),
        (Some(Ok(found)), _) | (_, Some(Ok(found))) => Ok(found),
        (v4, v6) => {
            let refused = [v4, v6].into_iter().flatten().filter_map(Result::err);
            Err(refused.min_by_key(Refused::rank).unwrap_or(Refused::NoAddress))
        }
    }
}

fn alternating(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    let longest = first.len().max(second.len());
    let pairs = (0..longest).flat_map(|at| [first.get(at).copied(), second.get(at).copied()]);
    pairs.flatten().collect()
}

/// The addresses that passed; the first refusal when none did.
fn passed(found: Vec<IpAddr>, allowed: &[IpNet]) -> Result<Vec<IpAddr>, Refused> {
    let (mut passed, mut first) = (Vec::new(), None);
    for ip in found {
        match address::verdict(ip, allowed) {
            Ok(()) => passed.push(ip),
            Err(blocked) => first = first.or(Some(blocked)),
        }
    }
    passed.truncate(ADDRESSES);
    match (passed.is_empty(), first) {
        (false, _) => Ok(passed),
        (true, Some(blocked)) => Err(blocked.into()),
        (true, None) => Err(Refused::NoAddress),
    }
}

#[cfg(test)]
mod tests;
