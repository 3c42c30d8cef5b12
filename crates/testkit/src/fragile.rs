//! Stores of a test's own, each behind a network that fails on command: to be killed, paused, cut off and brought back
//! while services use them. The test itself looks at them directly.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::{
    fault::FaultProxy,
    stack::{Addresses, Kafka, Options, Postgres, Progress, SeaweedFs, Smtp, Stack, port},
};

/// Running stores and the networks in front of them. Stores end when this is dropped, as its [`Options`] say.
///
/// Each store is locked on its own, so that two can suffer at the same time.
#[derive(Debug)]
pub struct Fragile {
    pub postgres: Mutex<Postgres>,
    pub s3: Mutex<SeaweedFs>,
    pub kafka: Mutex<Kafka>,
    pub network: Network,
    _smtp: Smtp,
    direct: Addresses,
    through: Addresses,
}

/// The network in front of each store.
#[derive(Debug)]
pub struct Network {
    pub postgres: FaultProxy,
    pub s3: FaultProxy,
    pub kafka: FaultProxy,
}

impl Fragile {
    /// Starts stores on the data in `folder`, and a mail sink that doesn't suffer.
    pub async fn start(folder: &Path, options: &Options) -> Result<Self> {
        let proxy_port = port::free()?;
        let options = Options { kafka_proxy_port: Some(proxy_port), ..*options };
        let stack = Stack::start(folder, &options, &Progress::silent()).await?;
        let direct = stack.addresses();
        let network = Network {
            postgres: FaultProxy::start(&host_and_port(&direct.postgres_url)?).await?,
            s3: FaultProxy::start(&host_and_port(&direct.s3.endpoint)?).await?,
            kafka: FaultProxy::start_on(proxy_port, &stack.kafka.behind_proxy()).await?,
        };
        let through = network.in_front_of(&direct)?;
        let Stack { postgres, s3, kafka, smtp } = stack;
        let (postgres, s3, kafka) = (Mutex::new(postgres), Mutex::new(s3), Mutex::new(kafka));
        Ok(Self { postgres, s3, kafka, network, _smtp: smtp, direct, through })
    }

    /// Where the stores are.
    pub fn direct(&self) -> &Addresses {
        &self.direct
    }

    /// Where services are told that they are.
    pub fn through(&self) -> &Addresses {
        &self.through
    }
}

impl Network {
    fn in_front_of(&self, direct: &Addresses) -> Result<Addresses> {
        let mut through = direct.clone();
        through.postgres_url =
            direct.postgres_url.replace(&host_and_port(&direct.postgres_url)?, &self.postgres.address());
        through.s3.endpoint = format!("http://{}", self.s3.address());
        through.kafka_brokers = self.kafka.address();
        Ok(through)
    }
}

/// `host:port` of a URL that has both.
fn host_and_port(url: &str) -> Result<String> {
    let parsed = url::Url::parse(url).with_context(|| url.to_owned())?;
    let host = parsed.host_str().with_context(|| format!("no host in {url}"))?;
    let port = parsed.port_or_known_default().with_context(|| format!("no port in {url}"))?;
    Ok(format!("{host}:{port}"))
}
