//! IP networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bigdecimal::{Signed, ToPrimitive};

use super::{
    Function, FunctionContext, FunctionError, Outcome, define, fail_at, integer_argument, list_of_strings, number,
    string_argument, text,
};
use crate::value::{Type, Value};

/// By how many bits a prefix may be extended at once: a documented bound of these functions.
const MAX_NEW_BITS: i64 = 32;

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "cidrhost",
            vec![text("prefix"), number("host")],
            Type::String,
            "The address of a host in a network; a negative number counts from the end.",
            cidrhost,
        )
        .example(r#"cidrhost("10.12.112.0/20", 16)"#, r#""10.12.112.16""#),
        define("cidrnetmask", vec![text("prefix")], Type::String, "The mask of a network.", |arguments, _| {
            let network = network(arguments)?;
            Ok(Value::string(network.address(network.mask())))
        })
        .example(r#"cidrnetmask("172.16.0.0/12")"#, r#""255.240.0.0""#),
        define(
            "cidrsubnet",
            vec![text("prefix"), number("newbits"), number("number")],
            Type::String,
            "A numbered part of a network, whose prefix is so many bits longer.",
            cidrsubnet,
        )
        .example(r#"cidrsubnet("172.16.0.0/12", 4, 2)"#, r#""172.18.0.0/16""#),
        define(
            "cidrsubnets",
            vec![text("prefix")],
            list_of_strings(),
            "Parts of a network one after the other, each with a prefix so many bits longer.",
            cidrsubnets,
        )
        .variadic(number("newbits"))
        .example(r#"cidrsubnets("10.1.0.0/16", 4, 8)"#, r#"["10.1.0.0/20", "10.1.16.0/24"]"#),
    ]
}

/// A network; an IPv4 address stands in the low 32 bits.
#[derive(Clone, Copy)]
struct Network {
    start: u128,
    length: u32,
    /// 32 or 128.
    bits: u32,
}

impl Network {
    /// The addresses' width as a mask of ones.
    fn ones(self) -> u128 {
        if self.bits == 128 { u128::MAX } else { u128::from(u32::MAX) }
    }

    /// The largest host number.
    fn last_host(self) -> u128 {
        self.ones().checked_shr(self.length).unwrap_or(0)
    }

    fn mask(self) -> u128 {
        self.ones() & !self.last_host()
    }

    fn address(self, address: u128) -> String {
        match u32::try_from(address) {
            Ok(address) if self.bits == 32 => Ipv4Addr::from(address).to_string(),
            _ => Ipv6Addr::from(address).to_string(),
        }
    }

    fn text(self) -> String {
        format!("{}/{}", self.address(self.start), self.length)
    }
}

fn network(arguments: &[Value]) -> Result<Network, FunctionError> {
    let source = string_argument(arguments, 0);
    let parsed = source.split_once('/').and_then(|(address, length)| {
        let (start, bits) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|length| is_number && *length <= bits)?;
        Some(Network { start, length, bits })
    });
    match parsed {
        Some(network) => Ok(Network { start: network.start & network.mask(), ..network }),
        // The text may be a secret, so it is not told.
        None => fail_at(0, "this text is no network; write for example `10.0.0.0/8`"),
    }
}

fn cidrhost(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let network = network(arguments)?;
    let Some(number) = arguments[1].as_number().filter(|number| number.is_integer()) else {
        return fail_at(1, "a whole number is required");
    };
    let too_large = || FunctionError {
        argument: Some(1),
        message: format!("a network with a prefix of {} bits has no host {number}", network.length),
    };
    let negative = number.is_negative();
    let magnitude = number.abs().to_u128().ok_or_else(too_large)?;
    let host = match (negative, magnitude) {
        (false, host) => Some(host),
        (true, back) => network.last_host().checked_sub(back - 1),
    };
    match host.filter(|host| *host <= network.last_host()) {
        Some(host) => Ok(Value::string(network.address(network.start | host))),
        None => Err(too_large()),
    }
}

/// The longer prefix, and by how many bits.
fn extended(network: Network, arguments: &[Value], index: usize, least: i64) -> Result<(u32, u32), FunctionError> {
    let new_bits = integer_argument(arguments, index)?;
    if new_bits < least {
        return fail_at(index, format!("the prefix must be extended by at least {least} bits"));
    }
    if new_bits > MAX_NEW_BITS {
        return fail_at(index, format!("a prefix can be extended by at most {MAX_NEW_BITS} bits at once"));
    }
    let new_bits = u32::try_from(new_bits).unwrap_or(u32::MAX);
    match network.length.checked_add(new_bits).filter(|length| *length <= network.bits) {
        Some(length) => Ok((length, new_bits)),
        None => {
            let (length, bits) = (network.length, network.bits);
            fail_at(index, format!("a prefix of {length} bits cannot be extended by {new_bits}: addresses have {bits}"))
        }
    }
}

fn cidrsubnet(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let network = network(arguments)?;
    let (length, new_bits) = extended(network, arguments, 1, 0)?;
    let number = integer_argument(arguments, 2)?;
    match u128::try_from(number).ok().filter(|number| *number < 1_u128 << new_bits) {
        Some(number) => {
            let offset = number.checked_shl(network.bits - length).unwrap_or(0);
            Ok(Value::string(Network { start: network.start | offset, length, ..network }.text()))
        }
        None => fail_at(2, format!("{new_bits} new bits have no network number {number}")),
    }
}

fn cidrsubnets(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let network = network(arguments)?;
    let last = network.start | network.last_host();
    let mut parts = Vec::new();
    let mut next = Some(network.start);
    for index in 1..arguments.len() {
        let (length, _) = extended(network, arguments, index, 1)?;
        let size = Network { length, ..network }.last_host();
        // Up to the next multiple of the part's size.
        let start = next.and_then(|next| next.checked_add(size)).map(|address| address & !size);
        let Some(start) = start.filter(|start| start | size <= last) else {
            return fail_at(index, format!("no room is left for a network with a prefix of {length} bits"));
        };
        parts.push(Network { start, length, ..network }.text());
        next = (start | size).checked_add(1);
    }
    Ok(Value::string_list(parts))
}
