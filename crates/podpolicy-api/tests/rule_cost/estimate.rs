//! The cost of an expression, as the API server of Kubernetes 1.30 estimates it. This module never evaluates an expression.
//!
//! It follows `Cost` in github.com/google/cel-go v0.17 (checker/cost.go), and keeps only the upper bound. Where the cost depends on a type
//! that is unknown here, the estimate is the higher one.

use std::collections::BTreeSet;

use cel::{
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue, SelectExpr, operators},
    parser::{ParseErrors, Parser},
};

use crate::{
    functions,
    schema::{Declared, Kind},
};

const NAME_OR_FIELD: u64 = 1;
const NEW_LIST: u64 = 10;
const NEW_MAP: u64 = 30;
const NEW_OBJECT: u64 = 40;

/// The estimate of an expression.
pub struct Cost {
    /// In the API server's units.
    pub total: u64,
    /// The functions in the expression that Kubernetes 1.30 lacks.
    pub unknown: BTreeSet<String>,
}

/// Estimates an expression. `declared` is the declaration of `self`.
pub fn estimate(expression: &str, declared: &Declared) -> Result<Cost, ParseErrors> {
    let parsed = Parser::new().enable_optional_syntax(true).parse(expression)?;
    let mut walk = Walk { root: declared, variables: Vec::new(), unknown: BTreeSet::new() };
    let total = walk.expression(&parsed).cost;
    Ok(Cost { total, unknown: walk.unknown })
}

/// The estimate of one node of an expression.
pub struct Node {
    /// The cost of this node and all nodes below it.
    pub cost: u64,
    pub kind: Kind,
    /// The size, if the expression itself determines it.
    size: Option<u64>,
    place: Place,
}

/// The declaration of a value in the schema.
#[derive(Clone)]
enum Place {
    /// The expression made the value.
    Nowhere,
    /// The API server looks in the wrong part of the schema, and finds nothing.
    Unknown,
    At(Declared),
}

impl Node {
    pub fn new(cost: u64, kind: Kind) -> Self {
        Self { cost, kind, size: None, place: Place::Nowhere }
    }

    pub fn sized(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    /// The largest size of the value.
    pub fn size(&self) -> u64 {
        let declared = match &self.place {
            Place::At(declared) => Some(declared.max_size),
            Place::Nowhere | Place::Unknown => None,
        };
        let of_kind = if self.is_scalar() { 1 } else { u64::MAX };
        self.size.or(declared).unwrap_or(of_kind)
    }

    /// The largest size of an item of this list.
    pub fn item_size(&self) -> u64 {
        let Place::At(declared) = &self.place else { return u64::MAX };
        declared.element().map_or(u64::MAX, |item| item.max_size)
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self.kind, Kind::Scalar)
    }

    /// The kind of an item of a list or a value of a map.
    pub fn element_kind(&self) -> Kind {
        match &self.kind {
            Kind::List(element) | Kind::Map(element) => element.kind.clone(),
            Kind::Any | Kind::Scalar | Kind::Text | Kind::Object(_) => Kind::Any,
        }
    }
}

/// The kind of a list with such items that an expression makes.
pub fn list_of(kind: Kind) -> Kind {
    Kind::List(Declared::unbounded(kind).into())
}

struct Walk<'a> {
    root: &'a Declared,
    /// The variables of macros, innermost last.
    variables: Vec<(String, Kind, Place)>,
    unknown: BTreeSet<String>,
}

impl Walk<'_> {
    fn expression(&mut self, expression: &IdedExpr) -> Node {
        match &expression.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => Node::new(self.entries(NEW_MAP, &map.entries), Kind::Any).sized(map.entries.len() as u64),
            Expr::Struct(object) => Node::new(self.entries(NEW_OBJECT, &object.entries), Kind::Any),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Unspecified => Node::new(0, Kind::Any),
        }
    }

    fn name(&self, name: &str) -> Node {
        let variable = self.variables.iter().rfind(|(variable, ..)| variable == name);
        let (kind, place) = variable.map_or_else(|| self.global(name), |(_, kind, place)| (kind.clone(), place.clone()));
        Node { place, ..Node::new(NAME_OR_FIELD, kind) }
    }

    /// The API server gives every name that is not a variable of a macro the size of `self`. This includes names of types: in
    /// `type(self) == int`, `int` is as large as `self`.
    fn global(&self, name: &str) -> (Kind, Place) {
        let kind = if matches!(name, "self" | "oldSelf") { self.root.kind.clone() } else { Kind::Any };
        (kind, Place::At(self.root.clone()))
    }

    fn select(&mut self, select: &SelectExpr) -> Node {
        let object = self.expression(&select.operand);
        if select.test {
            // `has()` is free.
            return Node::new(object.cost, Kind::Scalar);
        }
        let kind = match &object.kind {
            Kind::Object(fields) => fields.get(&select.field).map_or(Kind::Any, |field| field.kind.clone()),
            Kind::Map(value) => value.kind.clone(),
            Kind::Any | Kind::Scalar | Kind::Text | Kind::List(_) => Kind::Any,
        };
        let place = self.below(&object.place, |declared| declared.field(&select.field));
        Node { place, ..Node::new(object.cost.saturating_add(NAME_OR_FIELD), kind) }
    }

    fn list(&mut self, list: &ListExpr) -> Node {
        let items: Vec<_> = list.elements.iter().map(|item| self.expression(item)).collect();
        let kind = items.first().map_or(Kind::Any, |item| item.kind.clone());
        Node::new(sum(&items).saturating_add(NEW_LIST), list_of(kind)).sized(items.len() as u64)
    }

    fn entries(&mut self, base: u64, entries: &[IdedEntryExpr]) -> u64 {
        entries.iter().fold(base, |cost, entry| match &entry.expr {
            EntryExpr::StructField(field) => cost.saturating_add(self.expression(&field.value).cost),
            EntryExpr::MapEntry(entry) => {
                cost.saturating_add(self.expression(&entry.key).cost).saturating_add(self.expression(&entry.value).cost)
            }
        })
    }

    fn call(&mut self, call: &CallExpr) -> Node {
        let (function, target) = match call.target.as_deref() {
            Some(IdedExpr { expr: Expr::Ident(library), .. }) if functions::LIBRARIES.contains(&library.as_str()) => {
                (format!("{library}.{}", call.func_name), None)
            }
            target => (call.func_name.clone(), target),
        };
        let operands: Vec<_> = target.into_iter().chain(&call.args).map(|operand| self.expression(operand)).collect();
        if function == operators::CONDITIONAL {
            return of_conditional(&operands);
        }
        let below = sum(&operands);
        let Some(node) = functions::call(&function, &operands) else {
            self.unknown.insert(function);
            return Node::new(below.saturating_add(1), Kind::Any);
        };
        let place = match operands.first() {
            Some(list) if function == operators::INDEX => self.below(&list.place, Declared::element),
            _ => Place::Nowhere,
        };
        Node { cost: node.cost.saturating_add(below), place, ..node }
    }

    /// A loop. The parser turns the macros `all`, `exists`, `exists_one`, `map` and `filter` into loops.
    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Node {
        let range = self.expression(&comprehension.iter_range);
        let init = self.expression(&comprehension.accu_init);
        let (item, place) = match &range.kind {
            Kind::List(item) => (item.kind.clone(), self.below(&range.place, Declared::element)),
            Kind::Map(_) => (Kind::Text, self.below(&range.place, Declared::key)),
            Kind::Any | Kind::Scalar | Kind::Text | Kind::Object(_) => (Kind::Any, Place::Nowhere),
        };
        self.variables.push((comprehension.accu_var.clone(), init.kind.clone(), Place::Nowhere));
        self.variables.push((comprehension.iter_var.clone(), item, place));
        let condition = self.expression(&comprehension.loop_cond);
        let step = self.expression(&comprehension.loop_step);
        self.variables.pop();
        let result = self.expression(&comprehension.result);
        self.variables.pop();
        let loops = range.size().saturating_mul(step.cost.saturating_add(condition.cost));
        let kind = if matches!(result.kind, Kind::List(_)) { step.kind } else { result.kind.clone() };
        let size = range.size();
        Node::new(sum(&[range, init, result]).saturating_add(loops), kind).sized(size)
    }

    /// The place of a part of a value. The API server drops the first step of each path, because it expects `self` there. A part of a
    /// value that the expression made has a path of one step, so the API server gives it the size of `self`.
    fn below(&self, place: &Place, step: impl FnOnce(&Declared) -> Option<Declared>) -> Place {
        match place {
            Place::Nowhere => Place::At(self.root.clone()),
            Place::Unknown => Place::Unknown,
            Place::At(declared) => step(declared).map_or(Place::Unknown, Place::At),
        }
    }
}

fn of_literal(literal: &LiteralValue) -> Node {
    match literal {
        LiteralValue::String(text) => Node::new(0, Kind::Text).sized(text.inner().chars().count() as u64),
        LiteralValue::Bytes(bytes) => Node::new(0, Kind::Text).sized(bytes.inner().len() as u64),
        LiteralValue::Boolean(_) | LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => {
            Node::new(0, Kind::Scalar).sized(1)
        }
        LiteralValue::Null => Node::new(0, Kind::Any).sized(1),
    }
}

/// Only one of the two branches runs.
fn of_conditional(operands: &[Node]) -> Node {
    let [condition, yes, no] = operands else { return Node::new(u64::MAX, Kind::Any) };
    let kind = match (&yes.kind, &no.kind) {
        (Kind::Scalar, Kind::Scalar) => Kind::Scalar,
        (Kind::Text, Kind::Text) => Kind::Text,
        (Kind::List(_), Kind::List(_)) | (Kind::Map(_), Kind::Map(_)) | (Kind::Object(_), Kind::Object(_)) => yes.kind.clone(),
        _ => Kind::Any,
    };
    Node::new(condition.cost.saturating_add(yes.cost.max(no.cost)), kind).sized(yes.size().max(no.size()))
}

fn sum(nodes: &[Node]) -> u64 {
    nodes.iter().fold(0, |sum, node| sum.saturating_add(node.cost))
}
