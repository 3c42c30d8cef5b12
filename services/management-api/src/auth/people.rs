//! From a believed access token to a person and what they are a member of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use ravenpost_chassis::random;
use ravenpost_core::access::{display_name, first_organization};
use ravenpost_core::ids::{OrganizationId, UserId};
use ravenpost_store::System;
use ravenpost_store::system::{Login, Membership, NewOrganization};

use super::access_token::Claims;
use super::news::{News, Remembered};
use crate::api::{Failure, MAX_ADDRESS};

/// How many people are recognised without asking the database, and for how long: then what is told of them is compared
/// with their row again.
const MOST: u64 = 10_000;
const FRESH: Duration = Duration::from_mins(5);

/// A person who has logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their row.
    pub id: UserId,
    /// Their e-mail address, which the issuer has verified.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// What they are a member of.
    pub memberships: Arc<[Membership]>,
}

/// What an issuer tells of somebody. When it tells something else, that is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    email: Option<String>,
    name: Option<String>,
}

/// The people. Cheap to clone.
#[derive(Clone)]
pub struct People {
    system: System,
    /// By subject. Rows of people never go, so this never has to be forgotten.
    known: Cache<String, (UserId, Told)>,
    memberships: Arc<Remembered<UserId, Arc<[Membership]>>>,
}

impl People {
    pub(super) fn new(system: System, news: Arc<News>) -> Self {
        let known = Cache::builder().max_capacity(MOST).time_to_live(FRESH).build();
        Self { system, known, memberships: Arc::new(Remembered::new(news)) }
    }

    /// The person of these claims; made, with a first organization, when they are new.
    pub(super) async fn recognise(
        &self,
        issuer: &str,
        claims: Claims,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Person, Failure> {
        let email = claims.verified_email().filter(|email| email.len() <= MAX_ADDRESS).map(str::to_owned);
        let name = claims.display_name().map(display_name).filter(|name| !name.is_empty());
        let told = Told { email, name };
        let id = match self.known.get(&claims.subject) {
            Some((id, known)) if known == told => id,
            _ => self.sign_in(issuer, claims.subject, &told, address, now).await?,
        };
        let memberships = self.memberships.get(&id, self.read(id)).await?;
        Ok(Person { id, email: told.email, name: told.name, memberships })
    }

    async fn sign_in(
        &self,
        issuer: &str,
        subject: String,
        told: &Told,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<UserId, Failure> {
        let (email, name) = (told.email.as_deref(), told.name.as_deref());
        let login = Login { issuer, subject: &subject, email, name };
        let organization = first_organization(name, email);
        let first = NewOrganization { id: OrganizationId::new(now, random::bytes()), name: &organization };
        let new = UserId::new(now, random::bytes());
        let id = self.system.sign_in(&login, new, &first, address, now).await?;
        self.known.insert(subject, (id, told.clone()));
        Ok(id)
    }

    /// What a person is a member of just now, whatever is remembered.
    pub(super) async fn memberships_now(&self, id: UserId) -> Result<Arc<[Membership]>, Failure> {
        self.memberships.renew(&id, self.read(id)).await
    }

    async fn read(&self, id: UserId) -> Result<Arc<[Membership]>, Failure> {
        Ok(self.system.memberships(id).await?.into())
    }

    /// Their memberships may have changed.
    pub fn forget(&self, id: UserId) {
        self.memberships.forget(&id);
    }
}
