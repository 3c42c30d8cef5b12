//! `docs/providers.md`: core's table of providers, for people.

use std::fmt::Write as _;

use ravenpost_core::duration;
use ravenpost_core::handshake::Handshake;
use ravenpost_core::provider::{Acknowledgement, Profile, Provider, SecretOrigin, place};
use ravenpost_core::signature::Place;

const HEAD: &str = "\
# Providers

Producers that are verified by name: `\"verification\": {\"type\": \"provider\", \"provider\": \"…\"}`. Generated from the table in
`crates/core/src/provider` by `cargo xtask gen`; each row is tested with vectors that were computed independently
(`crates/core/tests/vectors`). A provider whose specification is uncertain is left out.

For any other producer there are `standard_webhooks`, `hmac` with a template for the signed string, `basic_auth`, `bearer`,
`api_key`, `ip_allow_list`, and `all` of several of them.

**Secret** is what the provider's dashboard shows, whatever it is: a shared text, a public key, a topic's ARN. *Ours* is
made here unless you bring one, and given to the provider; *theirs* the provider makes, often only once it has the
endpoint's URL: create the endpoint first and add the secret afterwards (`POST …/secrets`); *handshake* comes by itself.
An endpoint may have several at once while they rotate.

**Tolerance** is how far the signed time may lie from ours, so that nobody can send what they once saw again much later. It is
the provider's published one, or minutes where each attempt is signed anew; where the provider does not say so, it is as
long as the provider goes on trying, since a retry that is refused for its age is an event lost. Where there is none, no
time is signed (at Klaviyo, in a form that is not published), or the provider does not say for how long the same time
comes again. The **event id** is the same on each attempt for the same event, and two events with the same one, within
three days, are one: there a repetition makes no second event, whatever its time.

An accepted event is answered `202` with its id. Some providers take only another **answer** for a success and would send the
event again: they get theirs, and the id is in the header `Ravenpost-Event-Id`. An endpoint's own `answer` comes before both.
";

/// The page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut rows: Vec<&Profile> = Provider::ALL.iter().map(|provider| provider.profile()).collect();
    rows.sort_by_key(|row| row.name.to_lowercase());
    page.push_str(
        "\n| provider | | secret | tolerance | event id | handshake |\n|---|---|---|---|---|---|\n",
    );
    for row in &rows {
        let handshake = if row.handshake == Handshake::None { "" } else { "yes" };
        let id = if row.event_id.is_empty() { "" } else { "yes" };
        let (origin, tolerance) = (origin(row.secret), tolerance(row));
        let _ =
            writeln!(page, "| {} | `{}` | {origin} | {tolerance} | {id} | {handshake} |", row.name, row.slug);
    }
    for row in rows {
        section(&mut page, row);
    }
    page
}

fn section(page: &mut String, row: &Profile) {
    let within = tolerance(row);
    let _ = write!(page, "\n## {}\n\n{}\n\n", row.name, row.setup);
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(page, "- **{name}**: {text}");
        }
    };
    line("Provider", &format!("`{}`; secret: {}", row.slug, origin(row.secret)));
    line("Proof", &row.proof());
    let unlimited = row.signs_time() && row.tolerance().is_none();
    let unpublished = "none: for how long the same time comes again is not published";
    line("Tolerance", if unlimited { unpublished } else { &within });
    line("Event id", &places(row.event_id));
    line("Event type", &places(row.event_type));
    line("Answer", answer(row.acknowledgement));
    line("Handshake", &row.handshake.describe().unwrap_or_default());
    line("Source", row.source);
}

/// What an accepted event is answered, where it is not the usual answer.
fn answer(acknowledgement: Acknowledgement) -> &'static str {
    match acknowledgement {
        Acknowledgement::AnySuccess => "",
        Acknowledgement::Ok => "200, empty",
        Acknowledgement::NoContent => "204",
    }
}

fn origin(origin: SecretOrigin) -> &'static str {
    match origin {
        SecretOrigin::Ours => "ours",
        SecretOrigin::Theirs => "theirs",
        SecretOrigin::Handshake => "handshake",
    }
}

fn tolerance(row: &Profile) -> String {
    let seconds = row.tolerance().map(std::time::Duration::from_secs);
    seconds.map(duration::format).unwrap_or_default()
}

fn places(places: &[Place<'_>]) -> String {
    places.iter().map(place).collect::<Vec<_>>().join(", or ")
}
