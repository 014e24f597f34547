//! Numbers.

use bigdecimal::num_bigint::{BigInt, BigUint, Sign};
use bigdecimal::{BigDecimal, RoundingMode, Signed, ToPrimitive, Zero};

use super::{
    Function, FunctionContext, FunctionError, Outcome, any, define, elements_argument, fail, fail_at, integer_argument,
    number, number_argument,
};
use crate::convert::convert;
use crate::value::{Data, Type, Value, parse_number, rounded};

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
    let text = source.strip_prefix(['+', '-']).unwrap_or(source);
    let mut digits = Vec::with_capacity(text.len());
    for character in text.chars() {
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
        digits.push(u8::try_from(digit).map_err(|_| wrong())?);
    }
    if digits.is_empty() {
        return Err(wrong());
    }
    // All at once: one by one, each would multiply a number as long as all before.
    let magnitude = BigUint::from_radix_be(&digits, base).ok_or_else(wrong)?;
    let sign = if source.starts_with('-') { Sign::Minus } else { Sign::Plus };
    Ok(Value::number(rounded(&BigDecimal::from(BigInt::from_biguint(sign, magnitude)))))
}

/// Through floats, as in Packer: the digits of large powers are not exact.
fn pow(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let [base, exponent] = [0, 1].map(|index| number_argument(arguments, index).to_f64().unwrap_or(f64::NAN));
    from_f64(power(base, exponent))
}

/// `base` to the power of `exponent` by squaring, the broken part of the exponent through the logarithm. Its last digits
/// are those of Packer, which `powf` has not.
fn power(base: f64, exponent: f64) -> f64 {
    let is_plain = base.is_finite() && exponent.is_finite() && base != 0.0 && exponent != 0.0;
    let whole = exponent.abs().trunc();
    if !is_plain || whole > MAX_SQUARED || exponent.abs() == 0.5 || (base < 0.0 && whole != exponent.abs()) {
        return base.powf(exponent);
    }
    let mut broken = exponent.abs() - whole;
    let mut remaining = whole as u64;
    if broken > 0.5 {
        broken -= 1.0;
        remaining += 1;
    }
    let mut result = if broken == 0.0 { 1.0 } else { (broken * base.ln()).exp() };
    // The power of two is kept apart, so that no step in between overflows.
    let (mut square, mut square_exponent) = mantissa(base);
    let mut two = 0_i64;
    while remaining > 0 {
        if square_exponent.abs() > 1 << 12 {
            return base.powf(exponent);
        }
        if remaining & 1 == 1 {
            result *= square;
            two += square_exponent;
        }
        square *= square;
        square_exponent *= 2;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        remaining >>= 1;
    }
    if exponent < 0.0 {
        result = 1.0 / result;
        two = -two;
    }
    scaled(result, two)
}

/// Beyond this exponent every power but those of numbers close to one is infinite or nothing.
const MAX_SQUARED: f64 = 1e15;

/// A float as a part from a half up to one, and a power of two.
fn mantissa(number: f64) -> (f64, i64) {
    let shift = if number.abs() < f64::MIN_POSITIVE { 54 } else { 0 };
    let bits = (number * 2_f64.powi(shift)).to_bits();
    let exponent = i64::try_from((bits >> 52) & 0x7ff).unwrap_or_default() - 1022;
    (f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52)), exponent - i64::from(shift))
}

/// `number * 2^exponent`.
fn scaled(number: f64, exponent: i64) -> f64 {
    let half = i32::try_from(exponent.clamp(-2200, 2200) / 2).unwrap_or_default();
    let rest = i32::try_from(exponent.clamp(-2200, 2200)).unwrap_or_default() - half;
    number * 2_f64.powi(half) * 2_f64.powi(rest)
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
    if step.is_zero() && start != end {
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
