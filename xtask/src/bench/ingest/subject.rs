//! A running ingress, its endpoint, and what it has acknowledged.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    load::{Load, Pace, Requests},
    stack::Addresses,
    system::{Service, System},
};
use serde_json::json;
use uuid::Uuid;

use super::{Hashes, cases::Variant};

pub(crate) struct Subject {
    pub(crate) variant: Variant,
    pub(crate) system: System,
    requests: BTreeMap<usize, Arc<Requests>>,
    pub(crate) acknowledged: Vec<Uuid>,
    /// SHA-256 of every body that may be sent.
    pub(crate) sent: Hashes,
}

impl Subject {
    pub(crate) async fn start(variant: &Variant, stores: Addresses, bodies: &[usize]) -> Result<Self> {
        let mut builder = System::builder()
            .stores(stores)
            .replicas(Service::DeliveryWorker, 0)
            .replicas(Service::Notifier, 0);
        for (name, value) in &variant.environment {
            builder = builder.setting(name, value);
        }
        if let Some(folder) = &variant.binaries {
            builder = builder.binaries(folder.canonicalize().with_context(|| folder.display().to_string())?);
        }
        let mut system = builder.start().await?;
        let verification = json!({ "type": "provider", "provider": "github" });
        let endpoint = system.create_endpoint("Bench", "http://127.0.0.1:9/", verification).await?;
        // It has done its part; what it costs is not ingress's.
        system.management.clear();
        let text =
            |field: &str| endpoint[field].as_str().with_context(|| format!("an endpoint without {field}"));
        let mut requests = BTreeMap::new();
        let mut sent = Hashes::new();
        for bytes in bodies {
            let prepared = Requests::github(text("hook_url")?, text("secret")?, *bytes)?;
            sent.extend(prepared.hashes());
            requests.insert(*bytes, Arc::new(prepared));
        }
        Ok(Self { variant: variant.clone(), system, requests, acknowledged: Vec::new(), sent })
    }

    pub(crate) fn load(
        &self,
        body_bytes: usize,
        connections: usize,
        pace: Pace,
        duration: Duration,
    ) -> Result<Load> {
        let requests = self.requests.get(&body_bytes).context("requests of this size are prepared")?;
        let address = SocketAddr::from(([127, 0, 0, 1], self.system.ingress[0].port()));
        Ok(Load { address, requests: Arc::clone(requests), connections, pace, duration })
    }

    /// Remembers what has to be there in the end.
    pub(crate) fn keep(&mut self, acknowledged: &[Uuid]) {
        self.acknowledged.extend_from_slice(acknowledged);
    }
}
