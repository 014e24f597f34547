//! Numbers: decimal, with so many digits as the floats of the reference implementation hold.

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::{BigDecimal, RoundingMode, Signed};

/// Significant digits a number keeps: what the 512-bit floats of the reference implementation hold.
pub const SIGNIFICANT_DIGITS: u64 = 154;

/// The largest power of ten a number may have: keeps the canonical text, which has no exponent, bounded.
pub const LARGEST_EXPONENT: i64 = 10_000;

/// The canonical text of a number: no exponent, no trailing zeros behind the point.
pub fn number_text(number: &BigDecimal) -> String {
    shown(number).normalized().to_plain_string()
}

/// A number with the digits that are shown of it. Of one with more digits than numbers keep these are, as in Packer, the
/// shortest that tell the nearest float of [`FLOAT_BITS`] bits from its neighbours.
pub(crate) fn shown(number: &BigDecimal) -> BigDecimal {
    if number.digits() <= SIGNIFICANT_DIGITS {
        return number.clone();
    }
    let (sign, (float, exponent)) = (number.sign(), nearest_float(number));
    let exact = times_power_of_two(&float, exponent);
    let half_step = times_power_of_two(&BigInt::from(1), exponent - 1);
    let shortest = (SIGNIFICANT_DIGITS..).find_map(|digits| {
        let candidate = exact.with_precision_round(std::num::NonZeroU64::new(digits)?, RoundingMode::HalfEven);
        ((&candidate - &exact).abs() < half_step).then_some(candidate)
    });
    let magnitude = shortest.unwrap_or(exact);
    if sign == Sign::Minus { -magnitude } else { magnitude }
}

/// Bits of a number's float in the reference implementation.
const FLOAT_BITS: u64 = 512;

/// The nearest float to the magnitude of a number that is not 0, as a whole number of so many bits and a power of two.
fn nearest_float(number: &BigDecimal) -> (BigInt, i64) {
    let (digits, scale) = number.abs().into_bigint_and_exponent();
    let power = BigInt::from(10).pow(u32::try_from(scale.unsigned_abs()).unwrap_or(u32::MAX));
    let (above, below) = if scale < 0 { (digits * power, BigInt::from(1)) } else { (digits, power) };
    let size = |number: &BigInt| i64::try_from(number.bits()).unwrap_or(i64::MAX);
    // One bit more than is kept, and whether anything is left, are enough to round.
    let exponent = size(&above) - size(&below) - i64::try_from(FLOAT_BITS).unwrap_or_default() - 1;
    let shift = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    let (above, below) = if exponent < 0 { (above << shift, below) } else { (above, below << shift) };
    let (quotient, rest) = (&above / &below, &above % &below);
    let extra = usize::try_from(quotient.bits() - FLOAT_BITS).unwrap_or_default();
    let mut float: BigInt = &quotient >> extra;
    let half = BigInt::from(1) << (extra - 1);
    let cut = &quotient - (&float << extra);
    let is_odd = &float % 2 != BigInt::ZERO;
    if cut > half || (cut == half && (rest != BigInt::ZERO || is_odd)) {
        float += 1;
    }
    (float, exponent + i64::try_from(extra).unwrap_or_default())
}

fn times_power_of_two(number: &BigInt, exponent: i64) -> BigDecimal {
    let size = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
    if exponent >= 0 {
        BigDecimal::new(number * BigInt::from(2).pow(size), 0)
    } else {
        BigDecimal::new(number * BigInt::from(5).pow(size), i64::from(size))
    }
}

/// A number cut to the digits that numbers keep. Results of arithmetic pass through it, so that a third times three is
/// one.
pub fn rounded(number: &BigDecimal) -> BigDecimal {
    if number.digits() > SIGNIFICANT_DIGITS { number.with_prec(SIGNIFICANT_DIGITS) } else { number.clone() }
}

/// Reads the text of a number: digits, an optional fraction and exponent, an optional sign. `None` for anything else
/// and for exponents beyond [`LARGEST_EXPONENT`].
pub fn parse_number(text: &str) -> Option<BigDecimal> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let exponent: i64 = match exponent {
        None => 0,
        Some(exponent) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !all_digits(digits) {
                return None;
            }
            exponent.parse().ok().filter(|exponent: &i64| exponent.abs() <= LARGEST_EXPONENT)?
        }
    };
    let digits = format!("{}{whole}{fraction}", if text.starts_with('-') { "-" } else { "" });
    let scale = i64::try_from(fraction.len()).ok()? - exponent;
    Some(BigDecimal::new(digits.parse().ok()?, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_number_has_no_exponent_and_no_idle_zeros() {
        for (text, expected) in [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1e-7", "0.0000001"),
            ("-0.0", "0"),
            ("007", "7"),
            ("100", "100"),
            ("5.", "5"),
            (".5", "0.5"),
            ("+2", "2"),
            ("123456789012345678901234567890.125", "123456789012345678901234567890.125"),
        ] {
            assert_eq!(number_text(&parse_number(text).unwrap()), expected, "{text}");
        }
        assert_eq!(number_text(&parse_number("1e10000").unwrap()).len(), 10_001);
        // More digits than numbers keep: those that a float of 512 bits is written with.
        let third = BigDecimal::from(1) / BigDecimal::from(3);
        assert_eq!(third.digits(), 100, "the crate's own precision");
        let third = parse_number(&format!("-0.{}", "3".repeat(200))).unwrap();
        assert_eq!(number_text(&third), format!("-0.{}5", "3".repeat(154)));
        let long = parse_number(&"7".repeat(160)).unwrap();
        assert_eq!(number_text(&long).len(), 160);
        assert!(parse_number("1e10001").is_none() && parse_number("1e99999999999999999999").is_none());
    }
}
