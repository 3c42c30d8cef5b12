//! A name server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use ravenpost_egress::Settings;
use tokio::net::UdpSocket;

/// What the server says of a name.
pub(crate) enum Reply {
    /// It has these addresses; those of the other family are not told.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// The server is broken.
    Broken,
    /// Nothing at all.
    Silence,
}

/// Addresses, as text.
pub(crate) fn addresses(texts: &[&str]) -> Reply {
    Reply::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// A name server that answers by `reply`, which gets each name in lower case and without the dot at its end. A reply
/// is fresh for a second.
pub(crate) async fn name_server(
    mut reply: impl FnMut(&str, RecordType) -> Reply + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let question = Message::from_vec(&bytes[..length]).unwrap();
            let query = question.queries[0].clone();
            let name = query.name().to_string().to_lowercase();
            let reply = reply(name.trim_end_matches('.'), query.query_type());
            if let Some(answer) = answer(&question, reply) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    address
}

fn answer(question: &Message, reply: Reply) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.queries = vec![query.clone()];
    match reply {
        Reply::Silence => return None,
        Reply::NoName => answer.metadata.response_code = ResponseCode::NXDomain,
        Reply::Broken => answer.metadata.response_code = ResponseCode::ServFail,
        Reply::Addresses(addresses) => {
            let of_family = |ip: &IpAddr| match query.query_type() {
                RecordType::A => ip.is_ipv4(),
                _ => ip.is_ipv6(),
            };
            answer.answers = addresses
                .into_iter()
                .filter(of_family)
                .map(|ip| Record::from_rdata(query.name().clone(), 1, RData::from(ip)))
                .collect();
        }
    }
    Some(answer.to_vec().unwrap())
}

/// Settings that ask this server.
pub(crate) fn asking(server: SocketAddr, settings: Settings) -> Settings {
    Settings {
        egress_name_servers: vec![server],
        egress_connect_timeout: Duration::from_secs(15),
        ..settings
    }
}
