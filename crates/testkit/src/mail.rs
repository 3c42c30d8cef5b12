//! Reading what the mail sink got.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A received mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub subject: String,
    /// As sent: transfer encoding and MIME parts are still in it.
    pub body: String,
}

/// All mails in the sink's Maildir, oldest first.
pub fn read(mailbox: &Path) -> Result<Vec<Mail>> {
    let mut files: Vec<_> = Vec::new();
    for folder in ["new", "cur"] {
        let folder = mailbox.join(folder);
        // The sink makes its folders with the first mail.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            files.push(entry.with_context(|| folder.display().to_string())?.path());
        }
    }
    let mut mails = files
        .iter()
        .map(|path| {
            let written = fs::metadata(path)?.modified()?;
            Ok((written, parse(&String::from_utf8_lossy(&fs::read(path)?))))
        })
        .collect::<Result<Vec<_>>>()?;
    mails.sort_by_key(|(written, _)| *written);
    Ok(mails.into_iter().map(|(_, mail)| mail).collect())
}

fn parse(text: &str) -> Mail {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    // A line that starts with a blank goes on with the one before (RFC 5322, 2.2.3).
    let head = head.replace("\n ", " ").replace("\n\t", " ");
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    Mail { from: header("From"), to: header("To"), subject: header("Subject"), body: body.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_header_is_one_line() {
        let mail =
            parse("From: a@b.c\r\nTo: d@e.f\r\nSubject: a destination\r\n fails\r\n\r\nbody\r\nmore\r\n");
        assert_eq!(mail.to, "d@e.f");
        assert_eq!(mail.subject, "a destination fails");
        assert_eq!(mail.body, "body\nmore\n");
    }
}
