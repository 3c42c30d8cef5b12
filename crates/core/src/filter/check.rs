//! What an expression may be: names and functions that exist, and nothing that could grow or run away.
//!
//! The rules, from which the bounds of an evaluation follow (with the largest body, [`super::MAX_BODY`], as n):
//!
//! - An expression has at most a few hundred nodes, so without a loop it makes at most as many operations. Each reads
//!   at most what its operands have, O(n), but for `matches`, which has bounds of its own ([`super::pattern`]).
//! - Values don't grow: there is no `map`, no literal of a map or message, and at most [`MAX_COPIES`] operations that
//!   copy what they are given. So what an evaluation holds is at most that many times n.
//! - A loop (`all`, `exists`, `exists_one`, `filter`) goes over what the event has or over constants, never over a list
//!   that was computed, and loops nest at most [`MAX_NESTING`] deep. So it has at most n² rounds; [`super::guard`]
//!   counts them, since that is still too many.
//! - Regular expressions are constants, compiled here within bounds.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::parser::PrattParser;
use cel::{Context, Env};
use regex::{Regex, RegexBuilder};

use super::{MAX_EXPRESSION, guard, pattern, place};

/// How deep evaluation may recurse, and how deep for a light expression. A level takes up to 60 KiB of stack.
const MAX_DEPTH: usize = 40;
const LIGHT_DEPTH: usize = 10;
/// How deep brackets may be for the parser: no deeper than what its tokens were checked for.
const PARSER_DEPTH: u16 = 32;
/// Most loops, and how deep they may nest.
const MAX_LOOPS: usize = 8;
const MAX_NESTING: usize = 2;
/// Most operations that copy values.
const MAX_COPIES: usize = 8;
/// Most regular expressions, their length in bytes, and what each may need when compiled, in bytes: less would refuse
/// `\w`, which knows the letters of all languages.
const MAX_PATTERNS: usize = 8;
const MAX_PATTERN: usize = 256;
const MAX_COMPILED_PATTERN: usize = 64 * 1_024;
const MAX_LAZY_PATTERN: usize = 256 * 1_024;
/// Most operations over data of a light expression.
const LIGHT_SCANS: usize = 8;

/// What an event is told as.
pub(super) const TYPE: &str = "type";
pub(super) const HEADERS: &str = "headers";
pub(super) const BODY: &str = "body";
pub(super) const ENDPOINT: &str = "endpoint";
const VARIABLES: [&str; 4] = [TYPE, HEADERS, BODY, ENDPOINT];

/// What `type(x)` gives can be compared with these.
const TYPES: [&str; 8] = ["bool", "int", "uint", "double", "string", "list", "map", "null_type"];
/// Functions of one value.
const CONVERSIONS: [&str; 7] = ["size", "string", "int", "uint", "double", "bool", "type"];
/// Functions of a text and a text.
const TEXT: [&str; 3] = ["contains", "startsWith", "endsWith"];
pub(super) const MATCHES: &str = "matches";
/// What becomes a loop when it is written properly.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "existsOne", "filter"];

/// An expression that may be evaluated.
pub(super) struct Program {
    /// Guarded.
    pub(super) expression: IdedExpr,
    /// The functions that it calls.
    pub(super) functions: Context<'static, 'static>,
    /// It names `body`.
    pub(super) reads_body: bool,
    /// See [`super::Compiled::is_light`].
    pub(super) is_light: bool,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("expression", &self.expression).finish_non_exhaustive()
    }
}

/// The standard functions: those that need neither a clock nor a regular expression.
static LANGUAGE: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// Checks and compiles; says what is wrong, and where.
pub(super) fn compile(source: &str) -> Result<Program, String> {
    if source.len() > MAX_EXPRESSION {
        return Err(format!("at most {MAX_EXPRESSION} bytes"));
    }
    place::check_nesting(source)?;
    let mut expression = parse(source)?;
    let mut review = Review::default();
    review.visit(&expression, 1).map_err(|refused| refused.tell(source))?;
    guard::guard(&mut expression);
    let is_light = review.is_light();
    let mut functions = Context::with_env(Arc::clone(&LANGUAGE));
    pattern::add(&mut functions, review.patterns).map_err(|error| error.to_string())?;
    Ok(Program { expression, functions, reads_body: review.reads_body, is_light })
}

fn parse(source: &str) -> Result<IdedExpr, String> {
    let parser = PrattParser::new().max_recursion_depth(PARSER_DEPTH).error_reporting_limit(1);
    // A parser of strangers' text: should it panic, then that text is no expression.
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(source)));
    let errors = match parsed {
        Ok(Ok(expression)) => return Ok(expression),
        Ok(Err(errors)) => errors.errors,
        Err(_) => Vec::new(),
    };
    let Some(first) = errors.into_iter().next() else { return Err("it can't be read".to_owned()) };
    let message = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    Err(format!("{}{message}", place::of_parser(source, first.pos)))
}

/// Why an expression is refused.
struct Refused {
    /// The name that it is about, if it is about one.
    name: Option<String>,
    message: String,
}

impl Refused {
    fn because<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self { name: None, message: message.into() })
    }

    fn at<T>(name: &str, message: impl Into<String>) -> Result<T, Self> {
        Err(Self { name: Some(name.to_owned()), message: message.into() })
    }

    fn tell(self, source: &str) -> String {
        let place = self.name.map(|name| place::of_name(source, &name)).unwrap_or_default();
        format!("{place}{}", self.message)
    }
}

/// What has been seen of an expression.
#[derive(Default)]
struct Review {
    /// Names of loops around here.
    names: Vec<String>,
    /// The deepest level so far.
    depth: usize,
    loops: usize,
    copies: usize,
    scans: usize,
    reads_body: bool,
    patterns: HashMap<String, Regex>,
}

impl Review {
    fn visit(&mut self, node: &IdedExpr, depth: usize) -> Result<(), Refused> {
        self.depth = self.depth.max(depth);
        if depth > MAX_DEPTH {
            return Refused::because("nested too deeply");
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => match plain(node) {
                // The interpreter resolves `a.b.c` as one name.
                Some(name) => self.name(name),
                None => self.visit(&select.operand, depth + 1),
            },
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(looped) => self.looped(looped, depth),
            Expr::List(list) => {
                self.copies += list.elements.iter().filter(|element| !is_constant(element)).count();
                self.bound_copies()?;
                list.elements.iter().try_for_each(|element| self.visit(element, depth + 1))
            }
            Expr::Map(_) => Refused::because("a map can't be written here"),
            Expr::Struct(message) => Refused::at(&message.type_name, "a message can't be written here"),
            Expr::Unspecified => Refused::because("incomplete"),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), Refused> {
        if name == BODY {
            self.reads_body = true;
        }
        if VARIABLES.contains(&name) || TYPES.contains(&name) || self.names.iter().any(|known| known == name)
        {
            return Ok(());
        }
        Refused::at(name, format!("unknown name `{name}`: there are type, headers, body and endpoint"))
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<(), Refused> {
        match call.func_name.as_str() {
            operators::ADD => self.copies += 1,
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::IN => {
                self.scans += usize::from(!call.args.iter().any(is_constant));
            }
            operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | operators::INDEX => {}
            name => self.function(name, call)?,
        }
        self.bound_copies()?;
        let depth = depth + usize::from(!guard::is_free(call));
        let parts = call.target.as_deref().into_iter().chain(&call.args);
        parts.into_iter().try_for_each(|part| self.visit(part, depth + 1))
    }

    fn function(&mut self, name: &str, call: &CallExpr) -> Result<(), Refused> {
        self.scans += 1;
        let values = usize::from(call.target.is_some()) + call.args.len();
        if name == MATCHES && call.target.is_some() {
            self.pattern(&call.args)
        } else if TEXT.contains(&name) && call.target.is_some() && values == 2 {
            Ok(())
        } else if CONVERSIONS.contains(&name) && values == 1 && (call.target.is_none() || name == "size") {
            self.copies += usize::from(name == "string");
            Ok(())
        } else if MACROS.contains(&name) {
            let example = format!("body.items.{name}(item, item.price > 10)");
            Refused::at(name, format!("`{name}` takes a name and a condition, as in `{example}`"))
        } else if TEXT.contains(&name) || CONVERSIONS.contains(&name) || [MATCHES, "has"].contains(&name) {
            Refused::at(name, format!("`{name}` is not called so"))
        } else {
            Refused::at(name, format!("unknown function `{name}`"))
        }
    }

    fn pattern(&mut self, arguments: &[IdedExpr]) -> Result<(), Refused> {
        let [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }] = arguments else {
            return Refused::at(MATCHES, "`matches` takes one regular expression in quotes");
        };
        let pattern = pattern.inner();
        if pattern.len() > MAX_PATTERN {
            return Refused::at(MATCHES, format!("a regular expression has at most {MAX_PATTERN} bytes"));
        }
        let compiled = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED_PATTERN)
            .dfa_size_limit(MAX_LAZY_PATTERN)
            .build();
        match compiled {
            Ok(regex) => self.patterns.insert(pattern.to_owned(), regex),
            Err(regex::Error::CompiledTooBig(_)) => {
                return Refused::at(MATCHES, "the regular expression is too large when it is compiled");
            }
            Err(error) => {
                // The last line says what; those before draw a picture of where.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                return Refused::at(MATCHES, format!("not a regular expression: {reason}"));
            }
        };
        if self.patterns.len() > MAX_PATTERNS {
            return Refused::at(MATCHES, format!("at most {MAX_PATTERNS} regular expressions"));
        }
        Ok(())
    }

    fn looped(&mut self, looped: &ComprehensionExpr, depth: usize) -> Result<(), Refused> {
        let Some(condition) = condition(looped) else {
            return Refused::at(
                "map",
                "`map` is not there: a filter only asks, with all, exists, exists_one or filter",
            );
        };
        self.loops += 1;
        if self.loops > MAX_LOOPS {
            return Refused::because(format!("at most {MAX_LOOPS} of all, exists, exists_one and filter"));
        }
        if self.names.len() >= MAX_NESTING {
            return Refused::at(
                &looped.iter_var,
                format!("all, exists, exists_one and filter nest at most {MAX_NESTING} deep"),
            );
        }
        if VARIABLES.contains(&looped.iter_var.as_str()) {
            return Refused::at(
                &looped.iter_var,
                format!("`{}` is taken, choose another name", looped.iter_var),
            );
        }
        if !is_range(&looped.iter_range) {
            return Refused::at(
                &looped.iter_var,
                "all, exists, exists_one and filter go over a part of the event, such as body.items, or over a list of constants",
            );
        }
        self.copies += usize::from(is_filter(looped));
        self.bound_copies()?;
        self.visit(&looped.iter_range, depth + 1)?;
        self.names.push(looped.iter_var.clone());
        // Below the loop, its step and its guard.
        self.visit(condition, depth + 3)?;
        self.names.pop();
        Ok(())
    }

    fn is_light(&self) -> bool {
        let looks_once = self.loops == 0 && self.patterns.is_empty() && self.scans <= LIGHT_SCANS;
        looks_once && self.depth <= LIGHT_DEPTH
    }

    fn bound_copies(&self) -> Result<(), Refused> {
        if self.copies > MAX_COPIES {
            return Refused::because(format!(
                "at most {MAX_COPIES} operations that copy: +, string(), filter, and lists of what is no constant"
            ));
        }
        Ok(())
    }
}

/// The name that `a.b.c` begins with, if it is no more than names.
fn plain(mut node: &IdedExpr) -> Option<&str> {
    loop {
        match &node.expr {
            Expr::Ident(name) => return Some(name),
            Expr::Select(select) => node = &select.operand,
            _ => return None,
        }
    }
}

/// A constant, or a list of constants.
fn is_constant(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Literal(_) => true,
        Expr::List(list) => list.elements.iter().all(|element| matches!(element.expr, Expr::Literal(_))),
        _ => false,
    }
}

/// What a loop may go over.
fn is_range(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::List(_) => is_constant(node),
        // Of what it filters the same was asked.
        Expr::Comprehension(looped) => is_filter(looped),
        _ => is_path(node),
    }
}

fn is_path(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        Expr::Call(call) => call.func_name == operators::INDEX && call.args.first().is_some_and(is_path),
        _ => false,
    }
}

fn is_filter(looped: &ComprehensionExpr) -> bool {
    matches!(looped.accu_init.expr, Expr::List(_))
}

/// What a loop asks of each element; `None` for one that makes something of it.
fn condition(looped: &ComprehensionExpr) -> Option<&IdedExpr> {
    let Expr::Call(step) = &looped.loop_step.expr else { return None };
    let index = condition_index(step, &looped.iter_var)?;
    step.args.get(index)
}

/// Which operand of a loop's step is its condition: `@result && it`, `@result || it`, `it ? @result + 1 : @result` and
/// `it ? @result + [element] : @result`.
pub(super) fn condition_index(step: &CallExpr, element: &str) -> Option<usize> {
    match (step.func_name.as_str(), step.args.as_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _]) => Some(1),
        (operators::CONDITIONAL, [_, IdedExpr { expr: Expr::Call(sum), .. }, _]) => {
            let added = sum.args.get(1).map(|added| &added.expr);
            let kept = match added {
                Some(Expr::Literal(LiteralValue::Int(_))) => true,
                Some(Expr::List(list)) => {
                    matches!(list.elements.as_slice(), [IdedExpr { expr: Expr::Ident(name), .. }] if name == element)
                }
                _ => false,
            };
            kept.then_some(0)
        }
        _ => None,
    }
}
