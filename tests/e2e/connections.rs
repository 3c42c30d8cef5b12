//! Memory and connections are bounded by configuration, not by traffic; who is refused gets to see the answer.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use ravenpost_testkit::{process::Process, system::System, wait};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{BOUND, Endpoint, SHARED, alone, endpoint, post, send};

const MIB: usize = 1 << 20;
/// How much there is at most of a body that nobody limits further.
const LIMIT: usize = MIB;

/// Host, port and path of an endpoint's URL.
fn target(endpoint: &Endpoint) -> Result<(&str, String)> {
    let rest = endpoint.hook_url.strip_prefix("http://").context("a URL")?;
    let (address, path) = rest.split_once('/').context("a URL with a path")?;
    Ok((address, format!("/{path}")))
}

async fn connect(endpoint: &Endpoint, head: &str) -> Result<TcpStream> {
    let (address, path) = target(endpoint)?;
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// The status of the answer, when it has come whole.
async fn read_status(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<u16> {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.context("no length")?.parse()? {
                return Ok(head.get(9..12).context("no status")?.parse()?);
            }
        }
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended after {answer:?}");
    }
}

#[test]
fn a_refusal_arrives_although_its_body_is_unread() {
    SHARED.run(async |system| {
        let small = endpoint(system, "/small", json!({ "max_body_bytes": 1_000 })).await?;
        let body = vec![b'x'; 3 * MIB];
        for _ in 0..5 {
            // All is sent before anything is read.
            let mut stream = connect(&small, &format!("content-length: {}", body.len())).await?;
            stream.write_all(&body).await?;
            assert_eq!(read_status(&mut stream).await?, 413);
            assert_eq!(stream.read(&mut [0; 1]).await?, 0, "and then it ends");

            let mut stream = connect(&small, "transfer-encoding: chunked").await?;
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes()).await?;
            stream.write_all(&body).await?;
            assert_eq!(read_status(&mut stream).await?, 413);
        }
        // Who asks first is told so before it has sent anything.
        let head = format!("content-length: {}\r\nexpect: 100-continue", body.len());
        let mut stream = connect(&small, &head).await?;
        assert_eq!(read_status(&mut stream).await?, 413);
        Ok(())
    });
}

#[test]
fn a_body_is_cut_off_that_stops_coming() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/stops", json!({})).await?;
        let mut stream = connect(&endpoint, "content-length: 100").await?;
        stream.write_all(b"some").await?;
        let started = Instant::now();
        let status = tokio::time::timeout(BOUND, read_status(&mut stream)).await??;
        assert_eq!(status, 400);
        // Sooner than a body that keeps coming may take in all.
        ensure!(started.elapsed() < Duration::from_secs(18), "after {:?}", started.elapsed());
        Ok(())
    });
}

#[test]
fn a_body_is_cut_off_that_never_ends() {
    alone(System::builder().setting("RAVENPOST_BODY_TIMEOUT", "2s"), async |system| {
        let endpoint = endpoint(system, "/drips", json!({})).await?;
        let mut stream = connect(&endpoint, &format!("content-length: {LIMIT}")).await?;
        let (mut answer, mut request) = stream.split();
        let drip = async {
            while request.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<Result<u16>>().await
        };
        let status = tokio::time::timeout(BOUND, async {
            tokio::select! { status = read_status(&mut answer) => status, never = drip => never }
        });
        assert_eq!(status.await??, 400);
        Ok(())
    });
}

#[test]
fn slow_large_uploads_keep_no_small_one_out() {
    alone(System::builder(), async |system| {
        let slow = endpoint(system, "/slow", json!({})).await?;
        let other = endpoint(system, "/other", json!({})).await?;
        let part = vec![b'x'; LIMIT - 1];
        let uploads = join_all((0..100).map(|_| async {
            let mut stream = connect(&slow, &format!("content-length: {LIMIT}")).await?;
            // One that is refused may not take all of it.
            let _ = stream.write_all(&part).await;
            Ok::<_, anyhow::Error>(stream)
        }));
        let uploads = uploads.await.into_iter().collect::<Result<Vec<_>>>()?;
        let refused = r#"ravenpost_ingress_limited_total{limit="endpoint_memory"}"#;
        wait::until_true("the endpoint's memory to be full", BOUND, || async {
            Ok(crate::support::sample(&system.ingress[0].metrics().await?, refused).unwrap_or_default()
                > 50.0)
        })
        .await?;
        for endpoint in [&slow, &other] {
            for _ in 0..20 {
                send(endpoint, vec![b's'; 10_000]).await?;
            }
        }
        send(&other, vec![b'l'; LIMIT]).await?;
        drop(uploads);
        Ok(())
    });
}

/// A line of `/proc/<pid>/status`, in bytes.
fn memory(process: &mut Process, name: &str) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.daemon().pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: usize = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}

/// Sends a whole body and reads at the same time, as a patient client does.
async fn upload(endpoint: Endpoint, body: &'static [u8]) -> Result<u16> {
    let stream = connect(&endpoint, &format!("content-length: {}", body.len())).await?;
    let (mut reading, mut writing) = stream.into_split();
    let sending = async {
        // Who is refused early may not be able to send all of it.
        let _ = writing.write_all(body).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = read_status(&mut reading) => status,
        () = sending => unreachable!(),
    }
}

#[test]
fn memory_stays_flat_under_two_thousand_large_uploads() {
    const CONNECTIONS: usize = 2_000;
    const BUDGET: usize = 64 * MIB;
    /// What a connection may cost beside its body: hyper's read buffer (at most 64 KiB, mostly 8), its task.
    const PER_CONNECTION: usize = 32 * 1_024;
    /// What bodies cost more than once: the upload of a large one to S3 (16 at a time, 1 MiB each, buffered by the
    /// client and its signer), and what the allocator keeps for its threads.
    const COPIES: usize = 48 * MIB;
    static BODY: [u8; LIMIT] = [b'x'; LIMIT];

    let builder = System::builder().setting("RAVENPOST_MEMORY_BUDGET", BUDGET.to_string());
    alone(builder, async |system| {
        let mut endpoints = Vec::new();
        for number in 0..4 {
            endpoints.push(endpoint(system, &format!("/storm/{number}"), json!({})).await?);
        }
        for endpoint in &endpoints {
            send(endpoint, vec![b'w'; LIMIT]).await?;
        }
        let before = memory(&mut system.ingress[0], "VmRSS")?;
        let started = Instant::now();
        let storm = (0..CONNECTIONS)
            .map(|number| tokio::spawn(upload(endpoints[number % endpoints.len()].clone(), &BODY)));
        let statuses =
            tokio::time::timeout(BOUND, join_all(storm)).await.context("the storm does not end")?;
        let took = started.elapsed();
        let mut accepted = 0;
        for status in statuses {
            match status?? {
                202 => accepted += 1,
                429 | 503 => {}
                status => anyhow::bail!("{status} after {took:?}, {accepted} accepted"),
            }
        }
        let peak = memory(&mut system.ingress[0], "VmHWM")?;
        let bound = before + BUDGET + CONNECTIONS * PER_CONNECTION + COPIES;
        crate::support::tell(&format!(
            "{accepted} of {CONNECTIONS} accepted in {took:?}; from {} to {} MiB at most",
            before / MIB,
            peak / MIB
        ));
        ensure!(peak < bound, "{} MiB, at most {}", peak / MIB, bound / MIB);
        ensure!(accepted >= 16, "only {accepted} were accepted");
        system.ingress[0].daemon().ensure_running()?;
        wait::until_true("events to be accepted again", BOUND, || async {
            Ok(post(&endpoints[0].hook_url, &[], vec![b'x'; LIMIT]).await?.status == 202)
        })
        .await
    });
}

#[test]
fn who_is_one_too_many_is_told_so() {
    alone(System::builder().setting("RAVENPOST_MAX_CONNECTIONS", "10"), async |system| {
        let endpoint = endpoint(system, "/many", json!({})).await?;
        let mut held = Vec::new();
        while held.len() < 100 {
            let mut stream = connect(&endpoint, "content-length: 2\r\nconnection: close").await?;
            let answered = tokio::time::timeout(Duration::from_millis(200), read_status(&mut stream)).await;
            if let Ok(status) = answered {
                assert_eq!(status?, 503);
                ensure!(held.len() <= 10, "{} connections", held.len());
                drop(held);
                return wait::until_true("events to be accepted again", BOUND, || async {
                    Ok(post(&endpoint.hook_url, &[], "{}").await?.status == 202)
                })
                .await;
            }
            held.push(stream);
        }
        anyhow::bail!("nobody is refused")
    });
}
