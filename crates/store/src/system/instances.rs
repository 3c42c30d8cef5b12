//! Runs of ingress processes and their lanes: who lives, who has died, who takes over (PROTOCOLS I2 to I4).

use ravenpost_core::ids::{EventId, InstanceId};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::lease::bounded;

/// A run as its peers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Which one.
    pub id: InstanceId,
    /// Moves while somebody looks after it; 0 when nobody ever did.
    pub heartbeat: i64,
    /// It has no lanes: it commits nothing more, and what it has not published is anybody's to publish.
    pub adopted: bool,
}

impl System {
    /// Registers a run of ingress with its lanes; only then may it commit through them.
    pub async fn register_instance(&self, instance: InstanceId, lanes: i32) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "with instance as (insert into ingress_instances (id) values ($1) returning id)
             insert into ingress_lanes (instance_id, lane)
             select id, generate_series(0, $2 - 1) from instance",
                instance.0,
                lanes
            ),
            execute
        );
        Ok(())
    }

    /// Says that the instance lives and how far it has published. `false`: it has been adopted by a peer.
    pub async fn heartbeat(&self, instance: InstanceId, published_through: Option<EventId>) -> Result<bool> {
        let done = bounded!(
            self,
            sqlx::query!(
                "update ingress_instances i
             set heartbeat = heartbeat + 1, published_through = greatest(published_through, $2)
             where id = $1 and exists (select from ingress_lanes l where l.instance_id = i.id)",
                instance.0,
                published_through.map(|id| id.0)
            ),
            execute
        );
        Ok(done.rows_affected() == 1)
    }

    /// All runs on the books but `instance`.
    pub async fn peers(&self, instance: InstanceId) -> Result<Vec<Peer>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select id, heartbeat,
                 not exists (select from ingress_lanes l where l.instance_id = i.id) as "adopted!"
             from ingress_instances i where id <> $1"#,
                instance.0
            ),
            fetch_all
        );
        let peer = |id: Uuid, heartbeat, adopted| Peer { id: InstanceId(id), heartbeat, adopted };
        Ok(rows.into_iter().map(|row| peer(row.id, row.heartbeat, row.adopted)).collect())
    }

    /// Takes over a run whose heartbeat still stands where it was seen: only one peer can. From now on it commits
    /// nothing more, since its lanes are gone; statements in flight were waited for. Answers how far it has published,
    /// or `None` when it lives or somebody else was first.
    pub async fn adopt_instance(&self, seen: Peer) -> Result<Option<EventId>> {
        let claimed = bounded!(
            self,
            sqlx::query!(
                "update ingress_instances set heartbeat = heartbeat + 1 where id = $1 and heartbeat = $2",
                seen.id.0,
                seen.heartbeat
            ),
            execute
        );
        if claimed.rows_affected() == 0 {
            return Ok(None);
        }
        bounded!(self, sqlx::query!("delete from ingress_lanes where instance_id = $1", seen.id.0), execute);
        let published = bounded!(
            self,
            sqlx::query_scalar!("select published_through from ingress_instances where id = $1", seen.id.0),
            fetch_optional
        );
        // All ids that a run draws are greater than its own.
        Ok(published.map(|published| EventId(published.unwrap_or(seen.id.0))))
    }

    /// Says that an adopted run is looked after and how far it is published now.
    pub async fn heartbeat_for(&self, adopted: InstanceId, published_through: EventId) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update ingress_instances
                 set heartbeat = heartbeat + 1, published_through = greatest(published_through, $2) where id = $1",
                adopted.0,
                published_through.0
            ),
            execute
        );
        Ok(())
    }

    /// Puts another lane in the place of one whose last statement was not heard of again: it is over when this answers,
    /// and one that is still on its way finds its lane gone. May be repeated. `false`: there is neither lane, so that the
    /// run has been adopted.
    pub async fn replace_lane(&self, instance: InstanceId, lane: i32, by: i32) -> Result<bool> {
        let replaced = bounded!(
            self,
            sqlx::query_scalar!(
                r#"with gone as (
                     delete from ingress_lanes where instance_id = $1 and lane = $2 returning instance_id
                 ), put as (
                     insert into ingress_lanes (instance_id, lane) select instance_id, $3 from gone returning lane
                 )
                 select exists (select from put)
                     or exists (select from ingress_lanes where instance_id = $1 and lane = $3) as "replaced!""#,
                instance.0,
                lane,
                by
            ),
            fetch_one
        );
        Ok(replaced)
    }

    /// Takes an instance that has published everything it committed off the books.
    pub async fn retire_instance(&self, instance: InstanceId) -> Result<()> {
        bounded!(self, sqlx::query!("delete from ingress_instances where id = $1", instance.0), execute);
        Ok(())
    }

    /// Leaves what an instance has not published to its peers, at once: it commits nothing more. A heartbeat of 0
    /// without lanes says that nobody has taken it yet.
    pub async fn abandon_instance(&self, instance: InstanceId) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "with gone as (delete from ingress_lanes where instance_id = $1)
                 update ingress_instances set heartbeat = 0 where id = $1",
                instance.0
            ),
            execute
        );
        Ok(())
    }
}
