//! Which ports a store listens on: the ones it had, else the usual ones, else any that are free.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use rand::RngExt as _;

/// Free ports are drawn from here: below the range from which Linux takes the ports of outgoing connections, so
/// that a port that was free when it was drawn isn't some client's a moment later.
const DRAWN_FROM: std::ops::Range<u16> = 20_000..32_000;

/// A port is free when it can be listened on.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// What was drawn by this process, be it listened on yet or not.
static DRAWN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A free port of the loopback address, never the same twice.
pub fn free() -> Result<u16> {
    let mut random = rand::rng();
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        let port = random.random_range(DRAWN_FROM);
        if is_free(port) && drawn.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", DRAWN_FROM.start, DRAWN_FROM.end)
}

/// `usual` when it is free, else any free port.
pub fn usual_or_free(usual: u16) -> Result<u16> {
    if is_free(usual) { Ok(usual) } else { free() }
}

/// A store's ports by name, remembered in a file so that a restart listens where its clients expect it.
#[derive(Clone, Debug)]
pub struct Ports(BTreeMap<String, u16>);

impl Ports {
    /// Reads the ports from `file`, draws new ones for those that are missing or taken, and writes the file.
    /// `usual` names each port with the number to take when nothing is remembered.
    pub fn settle(file: &Path, usual: &[(&str, Option<u16>)]) -> Result<Self> {
        let remembered: BTreeMap<String, u16> = match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| file.display().to_string())?,
            Err(_absent) => BTreeMap::new(),
        };
        let mut ports: BTreeMap<String, u16> = BTreeMap::new();
        for (name, usual) in usual {
            let wanted = remembered.get(*name).copied().or(*usual);
            let mut port = match wanted {
                Some(port) if is_free(port) => port,
                _ => free()?,
            };
            while ports.values().any(|taken| *taken == port) {
                port = free()?;
            }
            ports.insert((*name).to_owned(), port);
        }
        fs::write(file, serde_json::to_vec_pretty(&ports)?).with_context(|| file.display().to_string())?;
        Ok(Self(ports))
    }

    /// The port named `name`, which has to be one of those settled.
    pub fn get(&self, name: &str) -> u16 {
        self.0[name]
    }
}
