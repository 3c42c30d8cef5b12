//! Lists by keyset: newest first, from an id down.

use uuid::Uuid;

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The last id of the page before; `None` begins at the newest.
    pub after: Option<Uuid>,
    /// Most rows, at least one.
    pub limit: u16,
}

/// One page.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// What the next page is after; `None` when this is the last one.
    pub next: Option<Uuid>,
}

impl Page {
    /// Ids of the page are below it.
    pub(super) fn below(self) -> Uuid {
        self.after.unwrap_or(Uuid::max())
    }

    /// How many rows to read: one more than asked for, which tells whether there is a next page.
    pub(super) fn to_read(self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The page out of what was read.
    pub(super) fn cut<T>(self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Listed<T> {
        let limit = usize::from(self.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().map(id).filter(|_| more);
        Listed { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let page = Page { after: None, limit: 2 };
        let ids = |count: u128| (0..count).map(|n| Uuid::from_u128(9 - n)).collect::<Vec<_>>();
        assert_eq!(page.to_read(), 3);
        let full = page.cut(ids(3), |id| *id);
        assert_eq!((full.rows.len(), full.next), (2, Some(Uuid::from_u128(8))));
        let last = page.cut(ids(2), |id| *id);
        assert_eq!((last.rows.len(), last.next), (2, None));
        assert_eq!(page.cut(ids(0), |id| *id).next, None);
    }
}
