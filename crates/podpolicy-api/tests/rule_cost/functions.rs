//! The functions that rules may call on Kubernetes 1.30, and the estimated cost of a call there.
//!
//! Kubernetes 1.30 accepts new rules only if 1.29 understands them too. So these are the functions of 1.29: the standard library, strings
//! (version 2), sets, optionals, and Kubernetes' libraries for URLs, regular expressions, lists and quantities. The authorizer's functions
//! are missing, because rules of definitions cannot use them.
//!
//! It follows `EstimateCallCost` in k8s.io/apiserver (pkg/cel/library/cost.go) and `functionCost` in cel-go (checker/cost.go).

use cel::common::ast::operators;

use crate::{
    estimate::{Node, list_of},
    schema::Kind,
};

/// Prefixes that are parts of function names, though they look like variables.
pub const LIBRARIES: [&str; 3] = ["optional", "sets", "strings"];

/// The cost of a call without the cost of its operands, and the kind and size of its result. The first operand is the target, if the
/// call has one. `None` if Kubernetes 1.30 lacks the function.
pub fn call(function: &str, operands: &[Node]) -> Option<Node> {
    let size = |operand: usize| operands.get(operand).map_or(u64::MAX, Node::size);
    let traversal = tenth(size(0));
    let scalar = |cost| Node::new(cost, Kind::Scalar);
    Some(match function {
        operators::LOGICAL_AND | operators::LOGICAL_OR => scalar(0),
        operators::EQUALS | operators::NOT_EQUALS => scalar(tenth(size(0).min(size(1)))),
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            scalar(if operands.iter().any(Node::is_scalar) { 1 } else { tenth(size(0).min(size(1))).max(1) })
        }
        operators::ADD => add(operands),
        operators::IN => scalar(if matches!(operands.get(1)?.kind, Kind::Map(_)) { 1 } else { size(1).max(1) }),
        operators::INDEX => Node::new(1, operands.first()?.element_kind()),

        "matches" => scalar(tenth(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4))),
        "find" | "findAll" => {
            let cost = tenth(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4));
            let kind = if function == "find" { Kind::Text } else { list_of(Kind::Text) };
            Node::new(cost, kind).sized(size(0))
        }
        "contains" => scalar(traversal.saturating_mul(tenth(size(1)))),
        "startsWith" | "endsWith" => scalar(tenth(size(1))),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => Node::new(traversal, Kind::Text).sized(size(0)),
        "replace" => {
            let replaced = size(0).saturating_add(1).saturating_mul(size(2)).saturating_add(size(0));
            Node::new(size(0).div_ceil(5), Kind::Text).sized(replaced)
        }
        // This ignores a limit on the number of parts.
        "split" => Node::new(size(0).div_ceil(5), list_of(Kind::Text)).sized(size(0)),
        "join" => {
            let list = operands.first()?;
            let separators = if operands.len() > 1 { size(0).saturating_sub(1).saturating_mul(size(1)) } else { 0 };
            let joined = size(0).saturating_mul(list.item_size()).saturating_add(separators);
            Node::new(tenth(joined), Kind::Text).sized(joined)
        }
        "indexOf" | "lastIndexOf" | "isSorted" => scalar(of_items(operands.first()?)),
        "sum" | "min" | "max" => Node::new(of_items(operands.first()?), operands.first()?.element_kind()),
        "charAt" => Node::new(1, Kind::Text),
        "format" => Node::new(traversal, Kind::Text),
        "strings.quote" => Node::new(traversal, Kind::Text).sized(size(0).saturating_mul(2).saturating_add(2)),
        "string" => of_text(operands.first()?),
        "bytes" => Node::new(traversal.max(1), Kind::Text).sized(size(0).saturating_mul(4)),

        "sets.contains" | "sets.intersects" => scalar(size(0).saturating_mul(size(1)).saturating_add(1)),
        "sets.equivalent" => scalar(size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1)),
        "isQuantity" => scalar(traversal),
        "quantity" | "url" => Node::new(traversal, Kind::Any),

        _ if SCALAR.contains(&function) => scalar(1),
        _ if ANY.contains(&function) => Node::new(1, Kind::Any),
        _ => return None,
    })
}

/// Functions that cost 1 and return a value of a fixed size.
const SCALAR: [&str; 33] = [
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
    operators::NEGATE,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    "size",
    "bool",
    "double",
    "duration",
    "int",
    "timestamp",
    "uint",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "asApproximateFloat",
    "asInteger",
    "compareTo",
    "isGreaterThan",
    "isInteger",
    "isLessThan",
    "sign",
    "isURL",
    "hasValue",
];

/// Functions that cost 1 and return a value of any size.
const ANY: [&str; 17] = [
    operators::OPT_INDEX,
    operators::OPT_SELECT,
    "add",
    "dyn",
    "getEscapedPath",
    "getHost",
    "getHostname",
    "getPort",
    "getQuery",
    "getScheme",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "sub",
    "type",
];

/// The cost of reading a string once: a tenth for each byte.
const fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

fn add(operands: &[Node]) -> Node {
    let [left, right] = operands else { return Node::new(u64::MAX, Kind::Any) };
    let size = left.size().saturating_add(right.size());
    match (&left.kind, &right.kind) {
        (Kind::Scalar, _) | (_, Kind::Scalar) => Node::new(1, Kind::Scalar),
        (Kind::List(_), Kind::List(_)) => {
            // `map` and `filter` begin with an empty list, whose items have no kind.
            let items = if matches!(left.element_kind(), Kind::Any) { right } else { left };
            Node::new(1, list_of(items.element_kind())).sized(size)
        }
        (Kind::Text, _) | (_, Kind::Text) => Node::new(tenth(size), Kind::Text).sized(size),
        _ => Node::new(tenth(size).max(1), Kind::Any).sized(size),
    }
}

/// The cost of reading each item of a list once, or each character of a string.
fn of_items(target: &Node) -> u64 {
    match (&target.kind, target.element_kind()) {
        (Kind::Text, _) => tenth(target.size()),
        (_, Kind::Scalar) => target.size(),
        _ => target.size().saturating_mul(tenth(target.item_size()).saturating_add(1)),
    }
}

/// `string()` converts bytes; for other values it costs 1.
fn of_text(value: &Node) -> Node {
    let node = Node::new(tenth(value.size()).max(1), Kind::Text);
    if matches!(value.kind, Kind::Any) { node.sized(value.size()) } else { node }
}
