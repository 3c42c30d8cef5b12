//! Asking an expression about an event, within bounds.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cel::common::types::{CelBool, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::HeaderMap;

use super::body::{self, Value};
use super::check::{BODY, ENDPOINT, HEADERS, Program, TYPE};
use super::guard::{LOOK, STEP};
use super::message;

/// Most operations, rounds of loops, and pieces of text that a regular expression is looked for in.
const MAX_STEPS: u32 = 200_000;
/// Steps between two looks at the clock, which costs more than a step.
const STEPS_A_LOOK: u32 = 8;

/// What an expression can know of an event.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `type`; empty when the producer has named none.
    pub event_type: &'a str,
    /// `headers`: those of the producer that travel on.
    pub headers: &'a HeaderMap,
    /// `body`.
    pub body: &'a [u8],
    /// `endpoint.id`.
    pub endpoint_id: &'a str,
    /// `endpoint.name`.
    pub endpoint_name: &'a str,
}

/// Why an expression has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It does not fit the event: a field that is not there, a text where a number is wanted, no answer that is true
    /// or false.
    #[error("{0}")]
    Expression(String),
    /// The body is larger than what can be looked at.
    #[error("{0}")]
    Body(String),
    /// It has made too many steps.
    #[error("it takes more than {MAX_STEPS} steps")]
    Steps,
    /// Its time is over.
    #[error("it takes too long")]
    Time,
    /// It was not asked: others took so long that its turn did not come.
    #[error("its turn has not come: too many other filters take too long")]
    Busy,
    /// The interpreter has a bug.
    #[error("it can't be evaluated")]
    Panic,
}

impl Failed {
    /// In one word, as it is counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Expression(_) => "expression",
            Self::Body(_) => "body",
            Self::Steps => "steps",
            Self::Time => "time",
            Self::Busy => "busy",
            Self::Panic => "panic",
        }
    }
}

/// What leaves an evaluation from within.
enum Stop {
    Steps,
    Time,
}

pub(super) fn ask(
    program: &Program,
    expression: &str,
    facts: &Facts<'_>,
    out_of_time: &(dyn Fn() -> bool + Sync),
) -> Result<bool, Failed> {
    let scope = Scope::new(facts, out_of_time);
    let mut context = program.functions.new_inner_scope();
    context.set_variable_resolver(&scope);
    let evaluation = AssertUnwindSafe(|| match cel::Value::resolve_val(&program.expression, &context) {
        Ok(value) => truth(&*value),
        Err(error) => Err(Failed::Expression(message::of(&error, expression))),
    });
    let answer = catch_unwind(evaluation).unwrap_or_else(|payload| Err(stopped(&*payload)));
    answer.map_err(|failed| match scope.body.get() {
        Some(Err(bound)) if matches!(failed, Failed::Expression(_)) => Failed::Body(bound.clone()),
        _ => failed,
    })
}

fn truth(value: &dyn Val) -> Result<bool, Failed> {
    let truth = value.downcast_ref::<CelBool>().map(|truth| *truth.inner());
    truth.ok_or_else(|| {
        Failed::Expression(format!("it gives neither true nor false, but: {}", value.get_type().name()))
    })
}

fn stopped(payload: &(dyn Any + Send)) -> Failed {
    match payload.downcast_ref() {
        Some(Stop::Steps) => Failed::Steps,
        Some(Stop::Time) => Failed::Time,
        None => Failed::Panic,
    }
}

/// Answers the names of one evaluation; what is costly is made when it is first asked for.
struct Scope<'f> {
    facts: &'f Facts<'f>,
    event_type: CelString<'f>,
    body: OnceLock<Result<Value<'f>, String>>,
    headers: OnceLock<CelMap<'f>>,
    endpoint: OnceLock<CelMap<'f>>,
    steps: AtomicU32,
    out_of_time: &'f (dyn Fn() -> bool + Sync),
}

impl<'f> Scope<'f> {
    fn new(facts: &'f Facts<'f>, out_of_time: &'f (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            facts,
            event_type: CelString::from(facts.event_type),
            body: OnceLock::new(),
            headers: OnceLock::new(),
            endpoint: OnceLock::new(),
            steps: AtomicU32::new(0),
            out_of_time,
        }
    }

    /// One more step, or the end of the evaluation. An error would not do: `||` and the loops go on after one.
    fn step(&self) -> &'static CelBool {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if step >= MAX_STEPS {
            resume_unwind(Box::new(Stop::Steps));
        }
        if step % STEPS_A_LOOK == STEPS_A_LOOK - 1 { self.look() } else { &CelBool::TRUE }
    }

    /// A look at the clock, and the end of the evaluation if its time is over.
    fn look(&self) -> &'static CelBool {
        if (self.out_of_time)() {
            resume_unwind(Box::new(Stop::Time));
        }
        &CelBool::TRUE
    }

    /// Several headers of one name are one, as RFC 9110, section 5.2 says.
    fn headers(&self) -> CelMap<'f> {
        let mut map: HashMap<&str, String> = HashMap::new();
        for (name, value) in self.facts.headers {
            let text = String::from_utf8_lossy(value.as_bytes());
            let joined = map.entry(name.as_str()).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(&text);
        }
        map.into_iter()
            .map(|(name, value)| entry(name, CelString::from(value)))
            .collect::<HashMap<_, _>>()
            .into()
    }

    fn endpoint(&self) -> CelMap<'f> {
        let told = [("id", self.facts.endpoint_id), ("name", self.facts.endpoint_name)];
        told.map(|(name, value)| entry(name, CelString::from(value)))
            .into_iter()
            .collect::<HashMap<_, _>>()
            .into()
    }
}

fn entry<'f>(name: &'f str, value: CelString<'f>) -> (CelMapKey<'f>, Value<'f>) {
    (CelMapKey::String(CelString::from(name)), Box::new(value))
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value: &'b (dyn Val + 'b) = match name {
            STEP => self.step(),
            LOOK => self.look(),
            TYPE => &self.event_type,
            HEADERS => self.headers.get_or_init(|| self.headers()),
            ENDPOINT => self.endpoint.get_or_init(|| self.endpoint()),
            // What can't be looked at is a name that fails, as CEL has it: `false && body.x` is still false.
            BODY => self.body.get_or_init(|| body::value(self.facts.body)).as_ref().ok()?.as_ref(),
            _ => return None,
        };
        Some(CowVal::Borrowed(value))
    }
}
