//! How Kafka is reached.

use std::path::PathBuf;

use rdkafka::ClientConfig;

/// Settings of every Kafka client.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Kafka's bootstrap servers, `host:port`, separated by commas.
    #[arg(long, env = "RAVENPOST_KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    pub kafka_brokers: String,
    /// What the names of topics and consumer groups begin with, such as `production.`.
    #[arg(long, env = "RAVENPOST_KAFKA_TOPIC_PREFIX", default_value = "")]
    pub kafka_topic_prefix: String,
    /// How connections to Kafka are protected. In production: `tls` or `sasl-tls`.
    #[arg(long, env = "RAVENPOST_KAFKA_SECURITY", value_enum, default_value = "plaintext")]
    pub kafka_security: Security,
    /// SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[arg(long, env = "RAVENPOST_KAFKA_SASL_MECHANISM", default_value = "SCRAM-SHA-512")]
    pub kafka_sasl_mechanism: String,
    /// SASL user.
    #[arg(long, env = "RAVENPOST_KAFKA_SASL_USERNAME")]
    pub kafka_sasl_username: Option<String>,
    /// SASL password.
    #[arg(long, env = "RAVENPOST_KAFKA_SASL_PASSWORD", hide_env_values = true)]
    pub kafka_sasl_password: Option<String>,
    /// A PEM file with the certificate authority that signed the brokers' certificates, if no public one did.
    #[arg(long, env = "RAVENPOST_KAFKA_CA_FILE")]
    pub kafka_ca_file: Option<PathBuf>,
}

/// How connections to Kafka are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Security {
    /// Not at all: the local stack.
    Plaintext,
    /// TLS.
    Tls,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslTls,
}

impl Settings {
    /// A topic's or group's full name.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.kafka_topic_prefix)
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.kafka_brokers)
            .set("client.id", "ravenpost")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "1000")
            .set(
                "security.protocol",
                match self.kafka_security {
                    Security::Plaintext => "plaintext",
                    Security::Tls => "ssl",
                    Security::SaslPlaintext => "sasl_plaintext",
                    Security::SaslTls => "sasl_ssl",
                },
            );
        if matches!(self.kafka_security, Security::SaslPlaintext | Security::SaslTls) {
            config
                .set("sasl.mechanism", &self.kafka_sasl_mechanism)
                .set("sasl.username", self.kafka_sasl_username.as_deref().unwrap_or_default())
                .set("sasl.password", self.kafka_sasl_password.as_deref().unwrap_or_default());
        }
        if matches!(self.kafka_security, Security::Tls | Security::SaslTls) {
            // `probe`: the client's own OpenSSL does not know where this system keeps its certificates.
            let location =
                self.kafka_ca_file.as_deref().map_or("probe".into(), |file| file.to_string_lossy());
            config.set("ssl.ca.location", location);
        }
        config
    }
}
