//! The ledger in print: a table and sentences for people, one JSON object for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use ravenpost_core::ids::OrganizationId;
use ravenpost_core::ledger::{Account, Fault, State};
use serde_json::{Map, Value, json};

use super::audit::Audit;

const HEADINGS: [&str; 4] = ["organization", "name", "events", "accepted"];
const UNACCOUNTED: &str = "unaccounted";

/// For people.
pub(super) fn print(audit: &Audit) -> std::io::Result<()> {
    std::io::stdout().write_all(text(audit).as_bytes())
}

/// For machines.
pub(super) fn print_json(audit: &Audit) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", document(audit))
}

fn text(audit: &Audit) -> String {
    let mut text = table(audit);
    let _ = writeln!(text, "\n{}", balance(&audit.total()));
    if audit.swept > 0 {
        let _ = writeln!(text, "{} that waited nowhere are scheduled now.", audit.swept);
    }
    let events = audit.total().events;
    let _ = writeln!(text, "The payloads of {} of {events} events were read.", audit.payloads_read);
    if audit.findings.count() == 0 {
        text.push_str("The ledger balances.\n");
    } else {
        text.push_str(&findings(audit));
    }
    text
}

/// The sum that has to be right.
fn balance(total: &Account) -> String {
    let waiting = State::ALL.into_iter().filter(|state| state.waits() && total.of(*state) > 0);
    let reasons: Vec<String> =
        waiting.map(|state| format!("{} {}", state.as_str(), total.of(state))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut line = format!(
        "accepted {} = delivered {} + waiting {}{reasons} + dead {} + dropped {} + filtered {} + cancelled {}",
        total.accepted,
        total.of(State::Delivered),
        total.waiting(),
        total.of(State::Dead),
        total.of(State::Dropped),
        total.of(State::Filtered),
        total.of(State::Cancelled)
    );
    if total.unaccounted() > 0 {
        let _ = write!(line, " + {} not accounted for", total.unaccounted());
    }
    line
}

fn table(audit: &Audit) -> String {
    let columns = || State::ALL.into_iter().map(State::as_str).chain([UNACCOUNTED]);
    let mut rows: Vec<Vec<String>> = vec![HEADINGS.into_iter().chain(columns()).map(str::to_owned).collect()];
    for (organization, account) in &audit.accounts {
        rows.push(row(organization.to_string(), name(&audit.names, *organization), account));
    }
    if audit.accounts.len() != 1 {
        rows.push(row("all".to_owned(), String::new(), &audit.total()));
    }
    aligned(&rows)
}

fn row(organization: String, name: String, account: &Account) -> Vec<String> {
    let counts = [account.events, account.accepted].into_iter();
    let counts = counts.chain(State::ALL.map(|state| account.of(state))).chain([account.unaccounted()]);
    [organization, name].into_iter().chain(counts.map(|count| count.to_string())).collect()
}

/// A customer has chosen it: no control characters, and no more than fits.
fn name(names: &BTreeMap<OrganizationId, String>, organization: OrganizationId) -> String {
    const MOST: usize = 24;
    let name = names.get(&organization).map_or("", String::as_str);
    name.chars().filter(|character| !character.is_control()).take(MOST).collect()
}

/// Words to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ =
                if column < 2 { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn findings(audit: &Audit) -> String {
    let findings = &audit.findings;
    let mut text = "The ledger does not balance.\n".to_owned();
    for (fault, count) in &findings.counts {
        let _ = writeln!(text, "\n{} ({count}): {}", fault.as_str(), fault.explain());
        let listed = findings.listed.iter().filter(|finding| finding.fault == *fault);
        let mut told = 0;
        for finding in listed {
            told += 1;
            let _ = write!(text, "  event {}", finding.event_id);
            if let Some(destination) = finding.destination_id {
                let _ = write!(text, "  destination {destination}");
            }
            let _ = writeln!(text, "  organization {}", finding.organization_id);
        }
        if *count > told {
            let _ = writeln!(text, "  and {} more", count - told);
        }
    }
    text
}

fn document(audit: &Audit) -> Value {
    let organizations: Vec<Value> = audit
        .accounts
        .iter()
        .map(|(organization, account)| {
            let mut told = account_json(account);
            told.insert("organization_id".to_owned(), json!(organization));
            told.insert("name".to_owned(), json!(audit.names.get(organization)));
            Value::Object(told)
        })
        .collect();
    let counts: BTreeMap<&str, u64> =
        audit.findings.counts.iter().map(|(fault, count)| (fault.as_str(), *count)).collect();
    let explained: BTreeMap<&str, &str> =
        audit.findings.counts.keys().map(|fault: &Fault| (fault.as_str(), fault.explain())).collect();
    json!({
        "balanced": audit.findings.count() == 0,
        "since": audit.since,
        "until": audit.until,
        "total": account_json(&audit.total()),
        "organizations": organizations,
        "payloads_read": audit.payloads_read,
        "swept": audit.swept,
        "findings": {
            "count": audit.findings.count(),
            "by_fault": counts,
            "explained": explained,
            "listed": audit.findings.listed,
        },
    })
}

fn account_json(account: &Account) -> Map<String, Value> {
    let key = |state: State| state.as_str().replace(' ', "_");
    let waiting: Map<String, Value> = State::ALL
        .into_iter()
        .filter(|state| state.waits())
        .map(|state| (key(state), json!(account.of(state))))
        .collect();
    let mut told = Map::new();
    told.insert("events".to_owned(), json!(account.events));
    told.insert("accepted".to_owned(), json!(account.accepted));
    for state in State::ALL.into_iter().filter(|state| !state.waits()) {
        told.insert(key(state), json!(account.of(state)));
    }
    told.insert("waiting".to_owned(), json!(account.waiting()));
    told.insert("waiting_by_reason".to_owned(), Value::Object(waiting));
    told.insert(UNACCOUNTED.to_owned(), json!(account.unaccounted()));
    told
}

#[cfg(test)]
mod tests {
    use ravenpost_core::event::EventStatus;
    use ravenpost_core::ids::EventId;
    use ravenpost_core::ledger::{Entry, assess};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_sum_is_told_with_what_is_missing_from_it() {
        let mut account = Account::default();
        let dropped = Entry {
            id: EventId(Uuid::nil()),
            organization_id: OrganizationId(Uuid::nil()),
            status: EventStatus::Dropped,
            routed: true,
            has_headers: true,
            may_travel: true,
            listed: Vec::new(),
            traces: BTreeMap::new(),
        };
        assess(&dropped, &mut account);
        let waits = Entry { status: EventStatus::Pending, routed: false, ..dropped };
        assess(&waits, &mut account);
        assert_eq!(
            balance(&account),
            "accepted 2 = delivered 0 + waiting 1 (not routed 1) + dead 0 + dropped 1 + filtered 0 + cancelled 0"
        );
        account.miss();
        assert!(balance(&account).ends_with("cancelled 0 + 1 not accounted for"));
        let told = account_json(&account);
        assert_eq!((&told["waiting"], &told["unaccounted"]), (&json!(1), &json!(1)));
        assert_eq!(told["waiting_by_reason"]["not_routed"], 1);
    }

    #[test]
    fn a_name_can_not_draw_lines() {
        let id = OrganizationId(Uuid::nil());
        let names = BTreeMap::from([(id, "Acme\n\u{1b}[31m".to_owned())]);
        assert_eq!(name(&names, id), "Acme[31m");
    }
}
