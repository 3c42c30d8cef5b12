//! The realm of `deploy/keycloak`, as the console will meet it.

use anyhow::{Context, Result};
use http::header::LOCATION;
use ravenpost_testkit::{api::Answer, stack::keycloak};
use reqwest::{Client, Url, redirect::Policy};

use crate::support::{answer, header, run};

const CONSOLE: &str = "http://127.0.0.1:8081/";
/// Of the verifier in RFC 7636, appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// What a browser gets that wants to log in, with these parameters beside those of every such request.
async fn login(redirect: &str, more: &[(&str, &str)]) -> Result<Answer> {
    let url = format!("{}/protocol/openid-connect/auth", keycloak::shared().await?.issuer());
    let usual = [
        ("client_id", "ravenpost-console"),
        ("response_type", "code"),
        ("scope", "openid"),
        ("redirect_uri", redirect),
    ];
    let url = Url::parse_with_params(&url, usual.iter().chain(more))?;
    answer(Client::builder().no_proxy().redirect(Policy::none()).build()?.get(url)).await
}

#[test]
fn the_console_logs_in_with_pkce_and_nowhere_else() {
    run(async {
        let pkce = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
        let page = login(CONSOLE, &pkce).await?;
        assert_eq!(page.status, 200);
        let page = String::from_utf8_lossy(&page.body).into_owned();
        for offered in ["login-actions/registration", "login-actions/reset-credentials"] {
            assert!(page.contains(offered), "{offered} is not in {page}");
        }

        let plain = [("code_challenge", CHALLENGE), ("code_challenge_method", "plain")];
        for insecure in [&[][..], &plain] {
            let refused = login(CONSOLE, insecure).await?;
            let to = header(&refused.headers, LOCATION.as_str()).context("not sent back")?;
            assert!(to.starts_with(CONSOLE) && to.contains("error=invalid_request"), "{to}");
        }
        let elsewhere = login("https://evil.example/", &pkce).await?;
        assert_eq!((elsewhere.status.as_u16(), elsewhere.headers.get(LOCATION)), (400, None));
        Ok(())
    });
}
