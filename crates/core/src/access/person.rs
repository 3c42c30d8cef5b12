//! What a person is known by, as an issuer tells it.

use crate::endpoint::MAX_NAME;

/// What the first organization is called of somebody who has told no name.
const NAMELESS: &str = "My organization";

/// The name of the organization that a person gets with the first login, from their name or their e-mail address.
pub fn first_organization(name: Option<&str>, email: Option<&str>) -> String {
    let local = email.and_then(|email| email.split_once('@')).map(|(local, _)| local);
    let known = [name, local].into_iter().flatten().map(display_name).find(|name| !name.is_empty());
    match known {
        Some(name) => {
            let own = "'s organization";
            let name: String = name.chars().take(MAX_NAME - own.len()).collect();
            format!("{}{own}", name.trim_end())
        }
        None => NAMELESS.to_owned(),
    }
}

/// A name as it may be shown and mailed: one line, without control characters, at most as long as any name of ours.
pub fn display_name(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_organization_is_named_after_the_person() {
        assert_eq!(first_organization(Some("Ada Lovelace"), Some("a@b.c")), "Ada Lovelace's organization");
        assert_eq!(first_organization(Some("  "), Some("ada@example.com")), "ada's organization");
        assert_eq!(first_organization(None, None), "My organization");
    }

    #[test]
    fn whatever_an_issuer_tells_fits_and_is_one_line() {
        let long = first_organization(Some(&"ü".repeat(500)), None);
        assert_eq!(long.chars().count(), MAX_NAME);
        assert_eq!(display_name(" a\r\nBcc: b\t"), "a  Bcc: b");
    }
}
