//! Numbers.

use bigdecimal::num_bigint::{BigInt, BigUint, Sign};
use bigdecimal::{BigDecimal, RoundingMode, Signed, ToPrimitive, Zero};

use super::{
    Function, FunctionContext, FunctionError, Outcome, any, define, elements_argument, fail, fail_at, integer_argument,
    number, number_argument,
};
use crate::convert::convert;
use crate::value::{Data, SIGNIFICANT_DIGITS, Type, Value, parse_number, rounded};

/// How many elements `range` gives at most.
const MAX_RANGE: usize = 1024;

fn of_numbers(name: &'static str, parameters: &[&'static str], doc: &'static str, call: super::Call) -> Function {
    define(name, parameters.iter().map(|name| number(name)).collect(), Type::Number, doc, call)
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        of_numbers("abs", &["number"], "A number without its sign.", |arguments, _| {
            Ok(Value::number(number_argument(arguments, 0).abs()))
        })
        .example("abs(-1.5)", "1.5"),
        of_numbers("ceil", &["number"], "The next whole number that is not smaller.", |arguments, _| {
            Ok(Value::number(number_argument(arguments, 0).with_scale_round(0, RoundingMode::Ceiling)))
        })
        .example("ceil(1.2)", "2"),
        of_numbers("floor", &["number"], "The next whole number that is not larger.", |arguments, _| {
            Ok(Value::number(number_argument(arguments, 0).with_scale_round(0, RoundingMode::Floor)))
        })
        .example("floor(-1.2)", "-2"),
        of_numbers("log", &["number", "base"], "The logarithm of a number to a base.", |arguments, _| {
            let [value, base] = [0, 1].map(|index| number_argument(arguments, index).to_f64().unwrap_or(f64::NAN));
            from_f64(value.ln() / base.ln())
        })
        .example("log(8, 2)", "3"),
        of_numbers("max", &[], "The largest of some numbers.", |arguments, _| {
            extreme(arguments, |best, other| other > best)
        })
        .variadic(number("numbers"))
        .example("max(1, 5, 3)", "5"),
        of_numbers("min", &[], "The smallest of some numbers.", |arguments, _| {
            extreme(arguments, |best, other| other < best)
        })
        .variadic(number("numbers"))
        .example("min(1, 5, 3)", "1"),
        define(
            "parseint",
            vec![any("text"), number("base")],
            Type::Number,
            "Reads a whole number that is written in a base from 2 to 62.",
            parseint,
        )
        .example(r#"parseint("ff", 16)"#, "255"),
        of_numbers("pow", &["number", "exponent"], "A number to the power of another.", pow)
            .example("pow(2, 10)", "1024"),
        define(
            "range",
            vec![],
            Type::list(Type::Number),
            "Counts: `range(end)` from 0, `range(start, end)`, `range(start, end, step)`; the end itself is left out.",
            range,
        )
        .variadic(number("numbers"))
        .example("range(1, 8, 2)", "[1, 3, 5, 7]"),
        of_numbers("signum", &["number"], "-1, 0 or 1: the sign of a whole number.", |arguments, _| {
            Ok(Value::number(integer_argument(arguments, 0)?.signum()))
        })
        .example("signum(-5)", "-1"),
        define("sum", vec![any("numbers")], Type::Number, "The sum of the numbers of a list.", sum)
            .example("sum([1, 2.5])", "3.5"),
    ]
}

/// The shortest decimal that is this very float.
fn from_f64(result: f64) -> Outcome {
    match parse_number(&format!("{result:e}")) {
        Some(number) => Ok(Value::number(number.normalized())),
        None => fail("the result is no finite number"),
    }
}

fn extreme(arguments: &[Value], is_better: fn(&BigDecimal, &BigDecimal) -> bool) -> Outcome {
    let numbers = arguments.iter().filter_map(Value::as_number);
    match numbers.reduce(|best, other| if is_better(best, other) { other } else { best }) {
        Some(best) => Ok(Value::number(best.clone())),
        None => fail("at least one number is required"),
    }
}

fn parseint(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let Some(source) = arguments.first().and_then(Value::as_str) else {
        return fail_at(0, "a string is required");
    };
    let base = match integer_argument(arguments, 1)? {
        base @ 2..=62 => base.unsigned_abs() as u32,
        _ => return fail_at(1, "the base must be a whole number from 2 to 62"),
    };
    let wrong = || FunctionError { argument: Some(0), message: format!("this text is no whole number of base {base}") };
    let digits = source.strip_prefix(['+', '-']).unwrap_or(source);
    if digits.is_empty() {
        return Err(wrong());
    }
    let mut magnitude = BigUint::zero();
    for character in digits.chars() {
        // Up to base 36 the case of a letter does not matter; beyond, capitals are the higher digits.
        let digit = match character {
            '0'..='9' => u32::from(character) - u32::from('0'),
            'a'..='z' => u32::from(character) - u32::from('a') + 10,
            'A'..='Z' if base <= 36 => u32::from(character) - u32::from('A') + 10,
            'A'..='Z' => u32::from(character) - u32::from('A') + 36,
            _ => return Err(wrong()),
        };
        if digit >= base {
            return Err(wrong());
        }
        magnitude = magnitude * base + digit;
    }
    let sign = if source.starts_with('-') { Sign::Minus } else { Sign::Plus };
    Ok(Value::number(rounded(&BigDecimal::from(BigInt::from_biguint(sign, magnitude)))))
}

/// Whole powers of whole numbers are exact as long as their digits fit; all others go through a float, as in Packer.
fn pow(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let (base, exponent) = (number_argument(arguments, 0), number_argument(arguments, 1));
    // Nothing to the power of nothing is one here too; the exact way below has it otherwise.
    let whole_base = base.is_integer() && !base.is_zero();
    if let (true, Some(exponent)) = (whole_base, exponent.to_u32().filter(|_| exponent.is_integer()))
        && base.digits().saturating_mul(u64::from(exponent)) <= SIGNIFICANT_DIGITS
    {
        return Ok(Value::number(base.powi(i64::from(exponent)).normalized()));
    }
    let [base, exponent] = [base, exponent].map(|number| number.to_f64().unwrap_or(f64::NAN));
    from_f64(base.powf(exponent))
}

fn range(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let numbers: Vec<BigDecimal> = (0..arguments.len()).map(|index| number_argument(arguments, index)).collect();
    let zero = BigDecimal::zero();
    let natural = |start: &BigDecimal, end: &BigDecimal| BigDecimal::from(if end < start { -1 } else { 1 });
    let (start, end, step) = match numbers.as_slice() {
        [end] => (zero.clone(), end.clone(), natural(&zero, end)),
        [start, end] => (start.clone(), end.clone(), natural(start, end)),
        [start, end, step] => (start.clone(), end.clone(), step.clone()),
        _ => return fail("one, two or three numbers are required"),
    };
    if step.is_zero() {
        return fail_at(2, "the step must not be 0");
    }
    if step.is_negative() && end > start {
        return fail_at(2, "with a negative step the end must be less than the start");
    }
    if step.is_positive() && end < start {
        return fail_at(2, "with a positive step the end must be greater than the start");
    }
    let mut counted = Vec::new();
    let mut next = start;
    while if step.is_negative() { next > end } else { next < end } {
        if counted.len() == MAX_RANGE {
            return fail(format!("more than {MAX_RANGE} elements; bring start and end together or take a larger step"));
        }
        counted.push(Value::number(next.clone()));
        next = rounded(&(next + &step));
    }
    Ok(Value::list(Type::Number, counted))
}

fn sum(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let elements = elements_argument(arguments, 0)?;
    if elements.is_empty() {
        return fail_at(0, "an empty list has no sum");
    }
    let mut total = BigDecimal::zero();
    for (index, element) in elements.iter().enumerate() {
        match convert(element, &Type::Number).map(|number| number.data) {
            Ok(Data::Number(number)) => total += number,
            _ => return fail_at(0, format!("element {index} is no number")),
        }
    }
    Ok(Value::number(rounded(&total)))
}
