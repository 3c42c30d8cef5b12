//! What is said of an expression that fails: types, and what the expression itself says. What the event holds is its
//! owner's, and this is kept for longer.

use cel::{ExecutionError, Value};

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 300;

/// Why `expression` has failed, cut and without control characters.
pub(super) fn of(error: &ExecutionError, expression: &str) -> String {
    bounded(&told(error, expression))
}

fn told(error: &ExecutionError, expression: &str) -> String {
    use ExecutionError as E;
    match error {
        // A key that the event has named.
        E::NoSuchKey(key) if !expression.contains(key.as_str()) => "No such key".to_owned(),
        E::NoSuchKey(_)
        | E::NoSuchOverload(_)
        | E::UndeclaredReference(_)
        | E::UnexpectedType { .. }
        | E::InvalidArgumentCount { .. }
        | E::MissingArgumentOrTarget
        | E::FunctionError { .. } => error.to_string(),
        E::UnsupportedTargetType { target } => format!("Invalid argument type: {}", kind(target)),
        E::NotSupportedAsMethod { method, target } => {
            format!("Method '{method}' not supported on type '{}'", kind(target))
        }
        E::UnsupportedKeyType(key) => format!("Unable to use a value of type '{}' as a key", kind(key)),
        E::ValuesNotComparable(left, right) => {
            format!("{} can not be compared to {}", kind(left), kind(right))
        }
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!("Unsupported binary operator '{operator}': {}, {}", kind(left), kind(right))
        }
        E::Overflow(operator, left, right) => {
            format!("Overflow from binary operator '{operator}': {}, {}", kind(left), kind(right))
        }
        E::UnsupportedIndex(index, indexed) => {
            format!("Cannot use {} to index {}", kind(index), kind(indexed))
        }
        E::IndexOutOfBounds(_) => "Index out of bounds".to_owned(),
        E::DivisionByZero(_) => "Division by zero".to_owned(),
        E::RemainderByZero(_) => "Remainder by zero".to_owned(),
        _ => "It can't be evaluated for this event".to_owned(),
    }
}

/// A value's type, by its name in an expression.
fn kind(value: &Value) -> String {
    match value {
        Value::Float(_) => "double".to_owned(),
        Value::Null => "null_type".to_owned(),
        value => value.type_of().to_string(),
    }
}

fn bounded(text: &str) -> String {
    let mut bounded = String::new();
    for c in text.chars() {
        if bounded.len() >= MAX_MESSAGE {
            bounded.push('…');
            break;
        }
        bounded.push(if c.is_control() { ' ' } else { c });
    }
    bounded
}
