//! Whether a chain is whole: its rows, one after the other, then its head.

use super::{Content, START};

/// Where a chain ends, as it is kept apart from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last row's place; 0 while there is none.
    pub sequence: i64,
    /// The last row's hash.
    pub hash: [u8; 32],
}

/// The first place at which a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row is not there.
    #[error("row {0} is missing")]
    Missing(i64),
    /// A row is not what it was when it was written, or is not where it was.
    #[error("row {0} is not what was written")]
    Altered(i64),
    /// A row stands where the head says that there is none.
    #[error("row {0} is beyond the head")]
    Beyond(i64),
    /// The head has another hash than the last row.
    #[error("the head is not that of row {0}")]
    Head(i64),
}

impl Broken {
    /// The first place that is not as it should be.
    pub fn sequence(self) -> i64 {
        match self {
            Self::Missing(sequence)
            | Self::Altered(sequence)
            | Self::Beyond(sequence)
            | Self::Head(sequence) => sequence,
        }
    }
}

/// How far a chain has been walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(Head);

impl Default for Chain {
    fn default() -> Self {
        Self(Head { sequence: 0, hash: START })
    }
}

impl Chain {
    /// Where the walk is.
    pub fn reached(&self) -> Head {
        self.0
    }

    /// Takes the row that comes next, with the hash that is stored with it.
    pub fn take(&mut self, content: &Content<'_>, stored: &[u8]) -> Result<(), Broken> {
        let expected = self.0.sequence + 1;
        if content.sequence != expected {
            return Err(Broken::Missing(expected));
        }
        let hash = content.hash(&self.0.hash);
        if hash != stored {
            return Err(Broken::Altered(expected));
        }
        self.0 = Head { sequence: expected, hash };
        Ok(())
    }

    /// There are no more rows. `None`: there is no head either, which is right for a chain without rows.
    pub fn end(&self, head: Option<Head>) -> Result<(), Broken> {
        let head = head.unwrap_or(Self::default().0);
        let Head { sequence, hash } = self.0;
        match head.sequence.cmp(&sequence) {
            std::cmp::Ordering::Greater => Err(Broken::Missing(sequence + 1)),
            std::cmp::Ordering::Less => Err(Broken::Beyond(head.sequence + 1)),
            std::cmp::Ordering::Equal if head.hash != hash => Err(Broken::Head(sequence)),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn content(sequence: i64, after: &'static str) -> Content<'static> {
        Content {
            organization: uuid::Uuid::from_u128(1).into(),
            sequence,
            at: DateTime::UNIX_EPOCH,
            actor_type: "system",
            actor_id: None,
            address: None,
            action: "endpoint.changed",
            resource_id: None,
            before: None,
            after: Some(after),
        }
    }

    /// Rows 1 to 3, with their hashes.
    fn rows() -> Vec<(Content<'static>, [u8; 32])> {
        let mut previous = START;
        let row = |(sequence, after)| {
            let content = content(sequence, after);
            previous = content.hash(&previous);
            (content, previous)
        };
        [(1, "1"), (2, "2"), (3, "3")].into_iter().map(row).collect()
    }

    fn walk(rows: &[(Content<'static>, [u8; 32])], head: Option<Head>) -> Result<(), Broken> {
        let mut chain = Chain::default();
        for (content, hash) in rows {
            chain.take(content, hash)?;
        }
        chain.end(head)
    }

    #[test]
    fn a_break_is_found_at_its_place() {
        let rows = rows();
        let head = Some(Head { sequence: 3, hash: rows[2].1 });
        assert_eq!(walk(&rows, head), Ok(()));
        assert_eq!(walk(&[], None), Ok(()));

        assert_eq!(walk(&rows[1..], head), Err(Broken::Missing(1)));
        assert_eq!(walk(&[rows[0], rows[2]], head), Err(Broken::Missing(2)));
        assert_eq!(walk(&rows[..2], head), Err(Broken::Missing(3)), "the end is cut off");
        assert_eq!(walk(&[], head), Err(Broken::Missing(1)));

        let mut altered = rows.clone();
        altered[1].0.after = Some("another");
        assert_eq!(walk(&altered, head), Err(Broken::Altered(2)));
        let mut swapped = rows.clone();
        (swapped[1].0.after, swapped[2].0.after) = (swapped[2].0.after, swapped[1].0.after);
        assert_eq!(walk(&swapped, head), Err(Broken::Altered(2)));

        assert_eq!(walk(&rows, Some(Head { sequence: 2, hash: rows[1].1 })), Err(Broken::Beyond(3)));
        assert_eq!(walk(&rows, None), Err(Broken::Beyond(1)));
        assert_eq!(walk(&rows, Some(Head { sequence: 3, hash: rows[1].1 })), Err(Broken::Head(3)));
    }
}
