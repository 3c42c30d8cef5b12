//! Makes an expression ask, at each operation and each round of a loop, whether it may go on.
//!
//! The interpreter has no budget of its own, but it looks names up. So an operation `x` becomes `@step ? x : false`,
//! where the name `@step`, which nobody can write, is answered by [`super::evaluate`]: it counts, looks at the time,
//! and leaves the evaluation when there is none left. Between two steps lies one operation over values that are
//! bounded by the size of the body.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::check;

/// The name that is looked up.
pub(super) const STEP: &str = "@step";
/// The name by which the time is looked at without a step ([`super::pattern`]).
pub(super) const LOOK: &str = "@look";

/// Guards a checked expression, all of it.
pub(super) fn guard(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified | Expr::Map(_) | Expr::Struct(_) => {}
        Expr::Select(select) => guard(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(guard),
        Expr::Comprehension(looped) => guard_loop(looped),
        Expr::Call(call) => {
            call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(guard);
            if !is_free(call) {
                step_before(node);
            }
        }
    }
}

/// What only passes truth on needs no guard of its own.
pub(super) fn is_free(call: &CallExpr) -> bool {
    matches!(
        call.func_name.as_str(),
        operators::CONDITIONAL | operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT
    )
}

/// The loop's own machinery stays as it is: the interpreter knows it by its shape.
fn guard_loop(looped: &mut ComprehensionExpr) {
    guard(&mut looped.iter_range);
    let Expr::Call(step) = &mut looped.loop_step.expr else { return };
    let Some(index) = check::condition_index(step, &looped.iter_var) else { return };
    if let Some(condition) = step.args.get_mut(index) {
        guard(condition);
        step_before(condition);
    }
}

fn step_before(node: &mut IdedExpr) {
    let id = node.id;
    let is_guarded = matches!(&node.expr, Expr::Call(CallExpr { args, .. })
        if matches!(args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == STEP));
    if is_guarded {
        return;
    }
    let step = IdedExpr { id, expr: Expr::Ident(STEP.to_owned()) };
    let otherwise = IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(false.into())) };
    let guarded = std::mem::take(node);
    let conditional = CallExpr {
        func_name: operators::CONDITIONAL.to_owned(),
        target: None,
        args: vec![step, guarded, otherwise],
    };
    *node = IdedExpr { id, expr: Expr::Call(conditional) };
}
