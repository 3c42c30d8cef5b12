//! What a newcomer finds in a fresh system: an organization, an endpoint whose destination is the demo receiver, a
//! channel for alerts. Made through the API as a customer would, once, and remembered in `.stack/demo.json`.

use std::fs;

use anyhow::{Context, Result};
use http::Method;
use ravenpost_testkit::{api::Api, process::Process, system};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{folder, up::Plan};

const ORGANIZATION: &str = "Demo";
const ALERTS_TO: &str = "operator@example.com";

/// What was seeded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Demo {
    pub(crate) organization_id: String,
    pub(crate) api_key: String,
    pub(crate) endpoint_id: String,
    pub(crate) destination_id: String,
    /// What the producer signs with.
    pub(crate) secret: String,
    /// What we sign with.
    pub(crate) signing_secret: String,
    pub(crate) hook_url: String,
    pub(crate) receiver_url: String,
}

/// The organization comes first, so that an interrupted seeding doesn't make a second one.
#[derive(Debug, Serialize, Deserialize)]
struct Organization {
    organization_id: String,
    api_key: String,
}

impl Demo {
    pub(crate) fn read() -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(folder::demo_json())?)?)
    }

    fn write(&self) -> Result<()> {
        folder::write_secret(&folder::demo_json(), &serde_json::to_vec_pretty(self)?)
    }
}

/// Makes what isn't there yet, and puts right what has moved to another port.
pub(crate) async fn seed(plan: &Plan, management: &Process) -> Result<Demo> {
    let organization = organization(plan).await?;
    let api = Api::new(management.url(), Some(organization.api_key.clone()))?;
    if let Ok(demo) = Demo::read()
        && let Some(demo) = refresh(&api, plan, demo).await?
    {
        return Ok(demo);
    }
    let created = api
        .post(
            "/api/v1/endpoints",
            &json!({
                "name": "Demo",
                "target_url": plan.receiver_url(),
                "verification": { "type": "standard_webhooks" },
            }),
        )
        .await?;
    api.post("/api/v1/channels", &json!({ "type": "email", "address": ALERTS_TO })).await?;
    let destination = &created["destinations"][0];
    let demo = Demo {
        organization_id: organization.organization_id,
        api_key: organization.api_key,
        endpoint_id: text(&created, "id")?,
        destination_id: text(destination, "id")?,
        secret: text(&created, "secret")?,
        signing_secret: text(destination, "signing_secret")?,
        hook_url: text(&created, "hook_url")?,
        receiver_url: plan.receiver_url(),
    };
    demo.write()?;
    Ok(demo)
}

async fn organization(plan: &Plan) -> Result<Organization> {
    let file = folder::stack().join("organization.json");
    if let Ok(known) = fs::read(&file) {
        return Ok(serde_json::from_slice(&known)?);
    }
    let tenant =
        system::bootstrap(&plan.binary(system::Service::ManagementApi), &plan.settings, ORGANIZATION).await?;
    let organization = Organization { organization_id: tenant.organization_id, api_key: tenant.api_key };
    folder::write_secret(&file, &serde_json::to_vec_pretty(&organization)?)?;
    Ok(organization)
}

/// The remembered demo with today's addresses; nothing when its endpoint has been deleted.
async fn refresh(api: &Api, plan: &Plan, mut demo: Demo) -> Result<Option<Demo>> {
    let path = format!("/api/v1/endpoints/{}", demo.endpoint_id);
    let answer = api.send(Method::GET, &path, None).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    demo.hook_url = text(&answer.expect(200)?, "hook_url")?;
    if demo.receiver_url != plan.receiver_url() {
        let destination = format!("{path}/destinations/{}", demo.destination_id);
        api.patch(&destination, &json!({ "url": plan.receiver_url() })).await?;
        demo.receiver_url = plan.receiver_url();
    }
    demo.write()?;
    Ok(Some(demo))
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text =
        value[field].as_str().with_context(|| format!("the API answered without `{field}`: {value}"))?;
    Ok(text.to_owned())
}

/// Shell lines that sign a request when they are pasted, so that its timestamp is fresh.
pub(crate) fn curl(demo: &Demo) -> String {
    format!(
        r#"secret='{secret}'
body='{{"type":"demo.greeted","data":{{"greeting":"Hello, Ravenpost!"}}}}'
id="msg_$(openssl rand -hex 8)"; at="$(date +%s)"
key="$(printf %s "${{secret#whsec_}}" | base64 -d | od -An -v -tx1 | tr -d ' \n')"
signature="$(printf %s "$id.$at.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)"
curl -i '{hook_url}' -H 'content-type: application/json' -H "webhook-id: $id" \
  -H "webhook-timestamp: $at" -H "webhook-signature: v1,$signature" --data-raw "$body""#,
        secret = demo.secret,
        hook_url = demo.hook_url,
    )
}

#[cfg(test)]
mod tests {
    use ravenpost_testkit::{receiver::Receiver, sign};

    use super::*;

    #[tokio::test]
    async fn the_pasted_curl_signs_correctly() {
        let receiver = Receiver::start().await.unwrap();
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let demo = Demo {
            organization_id: String::new(),
            api_key: String::new(),
            endpoint_id: String::new(),
            destination_id: String::new(),
            signing_secret: String::new(),
            hook_url: receiver.url("/h/token"),
            receiver_url: String::new(),
            secret: secret.clone(),
        };
        let pasted = tokio::process::Command::new("bash").args(["-ec", &curl(&demo)]).output().await.unwrap();
        assert!(pasted.status.success(), "{}", String::from_utf8_lossy(&pasted.stderr));
        let request = receiver.received_on("/h/token").remove(0);
        assert_eq!(request.method, "POST");
        sign::verify_standard_webhooks(&secret, &request.headers, &request.body).unwrap();
        serde_json::from_slice::<Value>(&request.body).unwrap();
    }
}
