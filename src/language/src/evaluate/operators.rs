//! Operators. Operands are converted to what the operator takes; only `==` and `!=` compare as they are.

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, Zero};
use kiln_core::{Diagnostic, Span};

use super::{Evaluator, failed};
use crate::syntax::{BinaryOperator, Expression, UnaryOperator};
use crate::value::{Data, LARGEST_EXPONENT, SIGNIFICANT_DIGITS, Type, Value, rounded};

/// Digits that a quotient keeps beyond those that are shown, so that a third times three is one.
const GUARD_DIGITS: u64 = 16;

impl Evaluator<'_> {
    pub(super) fn unary(&mut self, operator: UnaryOperator, operand: &Expression) -> Value {
        let kind = match operator {
            UnaryOperator::Negate => Type::Number,
            UnaryOperator::Not => Type::Bool,
        };
        let value = self.evaluate(operand);
        let Some(value) = self.operand(&value, &kind, operand.span, "the operand") else { return failed() };
        let data = match &value.data {
            Data::Number(number) => Data::Number(-number),
            Data::Bool(truth) => Data::Bool(!truth),
            _ => Data::Unknown(kind),
        };
        Value { data, sensitive: value.sensitive }
    }

    /// An operand of the right type, never null.
    fn operand(&mut self, value: &Value, kind: &Type, span: Span, what: &str) -> Option<Value> {
        if value.is_null() {
            self.report(Diagnostic::error("null-value", span, format!("{what} is null")));
            return None;
        }
        self.converted(value, kind, span, what)
    }

    /// All operands are always evaluated, so that mistakes in any are found.
    pub(super) fn binary(&mut self, first: &Expression, rest: &[(BinaryOperator, Expression)]) -> Value {
        let mut value = self.evaluate(first);
        let mut span = first.span;
        for (operator, operand) in rest {
            let right = self.evaluate(operand);
            value = self.operation(*operator, (&value, span), (&right, operand.span));
            span = span.to(operand.span);
        }
        value
    }

    fn operation(
        &mut self,
        operator: BinaryOperator,
        (left_value, left_span): (&Value, Span),
        (right_value, right_span): (&Value, Span),
    ) -> Value {
        let sensitive = left_value.any_sensitive() || right_value.any_sensitive();
        let result = match operator {
            BinaryOperator::Equal => truth(equal(left_value, right_value)),
            BinaryOperator::NotEqual => truth(equal(left_value, right_value).map(|equal| !equal)),
            _ => {
                let kind = match operator {
                    BinaryOperator::And | BinaryOperator::Or => Type::Bool,
                    _ => Type::Number,
                };
                let left_value = self.operand(left_value, &kind, left_span, "the left operand");
                let right_value = self.operand(right_value, &kind, right_span, "the right operand");
                match (left_value, right_value) {
                    (Some(left_value), Some(right_value)) => {
                        self.combine(operator, &left_value, &right_value, right_span)
                    }
                    _ => failed(),
                }
            }
        };
        result.marked(sensitive)
    }

    fn combine(&mut self, operator: BinaryOperator, left: &Value, right: &Value, right_span: Span) -> Value {
        use BinaryOperator::{
            Add, And, Divide, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Modulo, Multiply, NotEqual, Or,
            Subtract,
        };
        let (left, right) = match (&left.data, &right.data) {
            (Data::Number(left), Data::Number(right)) => (left, right),
            (Data::Bool(left), Data::Bool(right)) => {
                return Value::bool(if operator == And { *left && *right } else { *left || *right });
            }
            // One operand can be enough.
            (Data::Bool(known), _) | (_, Data::Bool(known)) if *known == (operator == Or) => {
                return Value::bool(*known);
            }
            _ => {
                let is_number = matches!(operator, Add | Subtract | Multiply | Divide | Modulo);
                return Value::unknown(if is_number { Type::Number } else { Type::Bool });
            }
        };
        if matches!(operator, Divide | Modulo) && right.is_zero() {
            return self.report(Diagnostic::error("division-by-zero", right_span, "this divides by zero"));
        }
        let number = match operator {
            Less => return Value::bool(left < right),
            LessOrEqual => return Value::bool(left <= right),
            Greater => return Value::bool(left > right),
            GreaterOrEqual => return Value::bool(left >= right),
            Add => rounded(&(left + right)),
            Subtract => rounded(&(left - right)),
            Multiply => rounded(&(left * right)),
            Divide => quotient(left, right),
            Modulo => left % right,
            And | Or | Equal | NotEqual => return failed(),
        };
        // Keeps the text of a number, which has no exponent, from filling the memory.
        if number.order_of_magnitude().unsigned_abs() > LARGEST_EXPONENT.unsigned_abs() {
            return self.report(Diagnostic::error("out-of-range", right_span, "the result is out of range"));
        }
        Value::number(number)
    }
}

fn truth(value: Option<bool>) -> Value {
    value.map_or(Value::unknown(Type::Bool), Value::bool)
}

/// `left / right`, exact or with the digits that numbers keep and some more.
fn quotient(left: &BigDecimal, right: &BigDecimal) -> BigDecimal {
    if left.is_zero() {
        return BigDecimal::zero();
    }
    let (left_digits, left_scale) = left.as_bigint_and_exponent();
    let (right_digits, right_scale) = right.as_bigint_and_exponent();
    let wanted = SIGNIFICANT_DIGITS + GUARD_DIGITS + right.digits();
    let shift = wanted.saturating_sub(left.digits());
    let shifted = left_digits * BigInt::from(10).pow(u32::try_from(shift).unwrap_or(u32::MAX));
    let scale = left_scale - right_scale + i64::try_from(shift).unwrap_or(i64::MAX);
    BigDecimal::new(shifted / right_digits, scale).normalized()
}

/// Whether two values are equal, types included: `1 == "1"` is false. `None` where an unknown part decides.
pub(super) fn equal(left: &Value, right: &Value) -> Option<bool> {
    match (&left.data, &right.data) {
        (Data::Unknown(_), _) | (_, Data::Unknown(_)) => None,
        (Data::Null(_), Data::Null(_)) => Some(true),
        (Data::Bool(left), Data::Bool(right)) => Some(left == right),
        (Data::Number(left), Data::Number(right)) => Some(rounded(left) == rounded(right)),
        (Data::String(left), Data::String(right)) => Some(left == right),
        (Data::List(left_kind, left), Data::List(right_kind, right))
        | (Data::Set(left_kind, left), Data::Set(right_kind, right)) => {
            if compatible(left_kind, right_kind) {
                all_equal(left.iter(), right.iter())
            } else {
                Some(false)
            }
        }
        (Data::Tuple(left), Data::Tuple(right)) => all_equal(left.iter(), right.iter()),
        (Data::Map(left_kind, _), Data::Map(right_kind, _)) if !compatible(left_kind, right_kind) => Some(false),
        (Data::Map(_, left), Data::Map(_, right)) | (Data::Object(left), Data::Object(right)) => {
            if left.keys().eq(right.keys()) { all_equal(left.values(), right.values()) } else { Some(false) }
        }
        _ => Some(false),
    }
}

fn compatible(left: &Type, right: &Type) -> bool {
    left == right || left.has_any() || right.has_any()
}

/// A difference is decisive; else an unknown part is.
fn all_equal<'v>(
    left: impl ExactSizeIterator<Item = &'v Value>,
    right: impl ExactSizeIterator<Item = &'v Value>,
) -> Option<bool> {
    if left.len() != right.len() {
        return Some(false);
    }
    let mut all_known = true;
    for (left, right) in left.zip(right) {
        match equal(left, right) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all_known = false,
        }
    }
    all_known.then_some(true)
}
