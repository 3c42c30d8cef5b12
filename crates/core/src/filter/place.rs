//! Where in an expression something stands, and how deep it is nested, by its tokens: both are known before anything
//! that recurses sees the expression.

use cel::parser::pratt_parser::{Lexer, Token, TokenKind};

/// Most tokens of an expression.
const MAX_TOKENS: usize = 400;
/// Most brackets that may be open at once.
const MAX_BRACKETS: usize = 16;
/// Most conditionals (`a ? b : c`).
const MAX_CONDITIONALS: usize = 16;

/// The tokens, up to the end or to what is none.
fn tokens(source: &str) -> impl Iterator<Item = Token> + '_ {
    let mut lexer = Lexer::new(source);
    let token = move || Some(lexer.lex());
    std::iter::from_fn(token)
        .take_while(|token| !matches!(token.kind, TokenKind::TokEnd | TokenKind::TokError))
        // Each token takes at least a byte; this is only in case the lexer should ever stand still.
        .take(source.len())
        .filter(|token| !matches!(token.kind, TokenKind::TokWhitespace | TokenKind::TokComment))
}

/// Refuses what the parser would have to recurse too deeply for. Iterative itself.
pub(super) fn check_nesting(source: &str) -> Result<(), String> {
    let (mut open, mut conditionals) = (0_usize, 0);
    for (index, token) in tokens(source).enumerate() {
        match token.kind {
            TokenKind::TokLeftParen | TokenKind::TokLeftBracket | TokenKind::TokLeftBrace => open += 1,
            TokenKind::TokRightParen | TokenKind::TokRightBracket | TokenKind::TokRightBrace => {
                open = open.saturating_sub(1);
            }
            TokenKind::TokQuestion => conditionals += 1,
            _ => {}
        }
        let refused = if index >= MAX_TOKENS {
            format!("at most {MAX_TOKENS} words and signs")
        } else if open > MAX_BRACKETS {
            format!("at most {MAX_BRACKETS} brackets open at once")
        } else if conditionals > MAX_CONDITIONALS {
            format!("at most {MAX_CONDITIONALS} conditionals")
        } else {
            continue;
        };
        return Err(format!("{}{refused}", at(source, token.start)));
    }
    Ok(())
}

/// Where a name stands first, in front of a message; empty when it is not there.
pub(super) fn of_name(source: &str, name: &str) -> String {
    let found = tokens(source).find(|token| source.get(token.start..token.end) == Some(name));
    found.map(|token| at(source, token.start)).unwrap_or_default()
}

/// A byte's place, in front of a message. Lines and columns count from 1, columns in characters.
fn at(source: &str, byte: usize) -> String {
    let before = source.get(..byte).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}

/// A place that the parser tells: its columns count bytes. It tells 0 when it means the expression as a whole.
pub(super) fn of_parser(source: &str, (line, column): (isize, isize)) -> String {
    let (Ok(line), Ok(column)) = (usize::try_from(line - 1), usize::try_from(column - 1)) else {
        return String::new();
    };
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    at(source, (start + column).min(source.len()))
}
