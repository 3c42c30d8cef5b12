//! Keycloak from Maven Central, with the realm of `deploy/keycloak`. It takes half a minute and half a gigabyte, so it is
//! no part of [`super::Stack`]: [`shared`] starts one for whoever asks first.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use rand::{RngExt as _, distr::Alphanumeric};
use tokio::sync::OnceCell;

use super::{
    Options, WhenDropped,
    daemon::{Daemon, Spec},
    install, java,
    port::Ports,
    progress::Progress,
};
use crate::{
    keycloak::{self, Address},
    wait, workspace,
};

const KEYCLOAK: (&str, &str, &str) = ("org.keycloak", "keycloak-quarkus-dist", "26.7.0");
const READY_BOUND: Duration = Duration::from_secs(240);
/// What of the distribution an instance only reads.
const READ_ONLY: [&str; 5] = ["conf", "lib", "providers", "themes", "version.txt"];
/// Quick to start rather than quick in the long run: half of the start is Java compiling what runs once.
const JAVA_OPTIONS: &str = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC";

/// A running Keycloak with the realm `ravenpost`.
#[derive(Debug)]
pub struct Keycloak {
    daemon: Daemon,
    address: Address,
}

impl Keycloak {
    /// Which version is started.
    pub const VERSION: &'static str = KEYCLOAK.2;

    /// Starts Keycloak on the data in `folder`, which is made when it isn't there; only then the realm is imported.
    /// `placeholders` are values for the realm file's, such as `RAVENPOST_KEYCLOAK_SMTP_PORT`.
    pub async fn start(
        folder: &Path,
        placeholders: &[(&str, &str)],
        options: &Options,
        progress: &Progress,
    ) -> Result<Self> {
        let mut keycloak = Self::spawn(folder, placeholders, options, progress).await?;
        keycloak.until_ready().await?;
        Ok(keycloak)
    }

    /// As [`Keycloak::start`], for those who have something else to do until it is ready.
    pub async fn spawn(
        folder: &Path,
        placeholders: &[(&str, &str)],
        options: &Options,
        progress: &Progress,
    ) -> Result<Self> {
        let installed = Installed::fetch(progress).await?;
        let (folder, options) = (folder.to_path_buf(), *options);
        let (mut spec, address) =
            tokio::task::spawn_blocking(move || prepare(&installed, &folder, options)).await??;
        let placeholders = placeholders.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        spec.environment.extend(placeholders);
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        Ok(Self { daemon, address })
    }

    /// Where it is, and how to get in.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The process, to be paused, killed or looked at.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Starts it again on the same port, after [`Daemon::kill9`] or [`Daemon::stop`].
    pub async fn restart(&mut self) -> Result<()> {
        self.daemon.respawn()?;
        self.until_ready().await
    }

    /// Waits until the realm answers.
    pub async fn until_ready(&mut self) -> Result<()> {
        let url = format!("{}/.well-known/openid-configuration", self.address.issuer());
        let client = crate::http_client()?;
        let daemon = &mut self.daemon;
        let mut death = None;
        let waited = wait::until_true("Keycloak's realm", READY_BOUND, || {
            death = daemon.ensure_running().err();
            let (dead, asked) = (death.is_some(), client.get(&url).send());
            async move { Ok(dead || asked.await?.status().is_success()) }
        })
        .await;
        match death {
            Some(error) => Err(error),
            None => waited.with_context(|| self.daemon.log_tail()),
        }
    }
}

/// The one that all tests of a run share, started by the first that asks. It mails to the shared stack's mail sink. As the
/// shared stack it goes on when the test has ended, and ends with that.
pub async fn shared() -> Result<&'static Address> {
    static SHARED: OnceCell<Address> = OnceCell::const_new();
    SHARED.get_or_try_init(find_or_start).await
}

async fn find_or_start() -> Result<Address> {
    let smtp = super::shared().await?.smtp_url.clone();
    let folder = super::shared_folder().join("keycloak");
    fs::create_dir_all(&folder)?;
    // Test executables run beside each other: one starts it, the others wait here.
    let lock = File::create(folder.join("lock"))?;
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    let file = folder.join("address.json");
    if Daemon::find(&spec(&folder))?.is_some()
        && let Ok(text) = fs::read(&file)
    {
        return Ok(serde_json::from_slice(&text)?);
    }
    // What is found there belongs to one that has ended, and only one that is ready shall be found.
    let _ = fs::remove_file(&file);
    let port = smtp.rsplit(':').next().unwrap_or_default();
    let options = Options { when_dropped: WhenDropped::Leave, ..Options::for_tests() };
    let placeholders = [("RAVENPOST_KEYCLOAK_SMTP_PORT", port)];
    let keycloak = Keycloak::start(&folder, &placeholders, &options, &Progress::silent()).await?;
    fs::write(&file, serde_json::to_vec_pretty(keycloak.address())?)?;
    Ok(keycloak.address().clone())
}

/// The distribution and the Java that runs it.
struct Installed {
    java: PathBuf,
    keycloak: PathBuf,
}

impl Installed {
    async fn fetch(progress: &Progress) -> Result<Self> {
        let java = java::home(progress).await?;
        let (group, artifact, version) = KEYCLOAK;
        let (home, unpacked) = (java.clone(), format!("keycloak-{version}"));
        let folder = unpacked.clone();
        let part = install::part(&unpacked, progress, move |part| {
            install::maven_zip_into(group, artifact, version, part)?;
            // Once and for all, where `start-dev` would do it at its first start.
            let built = Self { java: home, keycloak: part.join(folder) };
            install::run(built.command().args(["build", "--db=dev-file"]), "Java 21 or later")
        })
        .await?;
        Ok(Self { java, keycloak: part.join(unpacked) })
    }

    fn script(&self) -> PathBuf {
        self.keycloak.join("bin/kc.sh")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.script());
        command.env("JAVA_HOME", &self.java);
        command
    }
}

fn spec(folder: &Path) -> Spec {
    Spec::new("keycloak", "", folder)
}

fn prepare(installed: &Installed, folder: &Path, options: Options) -> Result<(Spec, Address)> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let folder = folder.canonicalize()?;
    let mut spec = spec(&folder);
    if let Some(mut left_behind) = Daemon::find(&spec)? {
        left_behind.stop()?;
    }
    furnish(installed, &folder)?;
    let ports = Ports::settle(&folder.join("ports.json"), &[("keycloak", options.usual(28_080))])?;
    let port = ports.get("keycloak");
    let url = format!("http://127.0.0.1:{port}");
    // Its start keeps two processors busy for a while, beside tests that look at the clock.
    spec.program = "nice".into();
    spec = spec
        .arguments(["-n".into(), "5".into(), installed.script().into_os_string()])
        .arguments([format!("-Dkc.home.dir={}", folder.display())])
        .arguments(["start", "--optimized", "--import-realm", "--cache=local"])
        .arguments(["--http-enabled=true", "--http-host=127.0.0.1"])
        .arguments([format!("--http-port={port}"), format!("--hostname={url}")]);
    let address = Address { url, admin_password: admin_password(&folder)? };
    spec.environment = [
        ("JAVA_HOME", installed.java.to_string_lossy().as_ref()),
        ("JAVA_OPTS_APPEND", JAVA_OPTIONS),
        ("KC_BOOTSTRAP_ADMIN_USERNAME", keycloak::ADMIN),
        ("KC_BOOTSTRAP_ADMIN_PASSWORD", &address.admin_password),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    Ok((spec, address))
}

/// Makes the folder a home of Keycloak's: the distribution's programs, data of its own, and our realm to be imported.
fn furnish(installed: &Installed, folder: &Path) -> Result<()> {
    for name in READ_ONLY {
        let link = folder.join(name);
        // It may lead to another version.
        let _ = fs::remove_file(&link);
        symlink(installed.keycloak.join(name), &link).with_context(|| link.display().to_string())?;
    }
    let import = folder.join("data/import");
    fs::create_dir_all(&import)?;
    let realm = workspace::root().join("deploy/keycloak/ravenpost-realm.json");
    fs::copy(&realm, import.join("ravenpost-realm.json")).with_context(|| realm.display().to_string())?;
    Ok(())
}

/// Drawn once: Keycloak takes it when its data are made, and never again.
fn admin_password(folder: &Path) -> Result<String> {
    let file = folder.join("admin-password");
    if let Ok(password) = fs::read_to_string(&file) {
        return Ok(password);
    }
    let password: String = rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
    fs::write(&file, &password)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    Ok(password)
}
