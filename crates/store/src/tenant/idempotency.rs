//! What was answered to a request with an `Idempotency-Key`, so that its repeat gets the same answer and does nothing.
//!
//! A request first claims its key. What it changes then is committed together with a mark that it was carried out
//! ([`Author::request`]), so that after a crash in between nobody does it a second time; the answer is kept last.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::secret::Secret;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Tenant, ToSeal};
use crate::Result;
use crate::decode::Row;

/// A request with a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyClaim<'a> {
    /// Whose key it is: an API key or a user.
    pub actor_id: Uuid,
    /// The key.
    pub key: &'a str,
    /// What was asked for.
    pub fingerprint: [u8; 32],
    /// This request, and no other.
    pub request_id: Uuid,
    /// How long nobody else takes it for given up.
    pub lock: Duration,
    /// How long its answer is kept.
    pub keep: Duration,
}

/// What a key says.
#[derive(Debug)]
pub enum Claimed {
    /// It is this request's, which is to be carried out.
    Ours,
    /// It was answered so.
    Answered(Secret),
    /// It stands for another request.
    Other,
    /// Another request carries it out just now.
    InProgress,
    /// It was carried out, and the answer was lost.
    Lost,
}

impl Tenant {
    /// Claims a key for a request.
    pub async fn claim_key(&self, claim: &KeyClaim<'_>, now: DateTime<Utc>) -> Result<Claimed> {
        let mut transaction = self.begin_change().await?;
        let taken = self.take_key(&mut transaction, claim, now).await?;
        let claimed =
            if taken { Claimed::Ours } else { self.judge_key(&mut transaction, claim, now).await? };
        transaction.commit_unaudited("a key that is claimed changes nothing yet").await?;
        Ok(claimed)
    }

    /// Takes a key that is new, has expired, or was given up by a request for the same.
    async fn take_key(
        &self,
        connection: &mut PgConnection,
        claim: &KeyClaim<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let taken = sqlx::query!(
            "insert into idempotency_keys as k (organization_id, actor_id, key, fingerprint, request_id, locked_until,
                 created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (organization_id, actor_id, key) do update
             set (fingerprint, request_id, locked_until, carried_out, reply, created_at, expires_at)
                 = (excluded.fingerprint, excluded.request_id, excluded.locked_until, false, null, excluded.created_at,
                    excluded.expires_at)
             where k.expires_at <= $7 or (k.fingerprint = excluded.fingerprint and k.reply is null
                 and not k.carried_out and k.locked_until <= $7)",
            self.organization.0,
            claim.actor_id,
            claim.key,
            &claim.fingerprint[..],
            claim.request_id,
            now + TimeDelta::from_std(claim.lock).unwrap_or_default(),
            now,
            now + TimeDelta::from_std(claim.keep).unwrap_or_default()
        )
        .execute(connection)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn judge_key(
        &self,
        connection: &mut PgConnection,
        claim: &KeyClaim<'_>,
        now: DateTime<Utc>,
    ) -> Result<Claimed> {
        let found = sqlx::query!(
            "select fingerprint, reply, carried_out, locked_until from idempotency_keys
             where organization_id = $1 and actor_id = $2 and key = $3",
            self.organization.0,
            claim.actor_id,
            claim.key
        )
        .fetch_optional(connection)
        .await?;
        // Released between the two statements: whoever repeats it claims it.
        let Some(found) = found else { return Ok(Claimed::InProgress) };
        if found.fingerprint != claim.fingerprint {
            return Ok(Claimed::Other);
        }
        let row = Row { table: "idempotency_keys", id: claim.actor_id };
        match found.reply {
            Some(sealed) => {
                Ok(Claimed::Answered(self.sealing.open(row, "reply", &sealed, self.organization.0)?))
            }
            None if found.carried_out && found.locked_until <= now => Ok(Claimed::Lost),
            None => Ok(Claimed::InProgress),
        }
    }

    /// Keeps what the request was answered, sealed, since answers to creations hold secrets.
    pub async fn keep_reply(&self, request_id: Uuid, reply: ToSeal<'_>) -> Result<()> {
        let sealed = self.seal(reply, self.organization.0)?;
        let mut transaction = self.begin_change().await?;
        sqlx::query!(
            "update idempotency_keys set reply = $3 where organization_id = $1 and request_id = $2",
            self.organization.0,
            request_id,
            sealed
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit_unaudited("what was answered is no change").await
    }

    /// The request has done nothing and is not to be remembered; one that was carried out stays so.
    pub async fn release_key(&self, request_id: Uuid) -> Result<()> {
        let mut transaction = self.begin_change().await?;
        sqlx::query!(
            "delete from idempotency_keys where organization_id = $1 and request_id = $2 and not carried_out",
            self.organization.0,
            request_id
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update idempotency_keys set locked_until = now() where organization_id = $1 and request_id = $2",
            self.organization.0,
            request_id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit_unaudited("a key that is released has changed nothing").await
    }
}
