//! Manifests as text: what policies make of the pods and pod templates in them, with every byte kept that carries no change, and what is
//! wrong with them.
//!
//! Text and a program in, text and findings out. It never reads or writes files, never asks a cluster, and never guesses: a
//! document that it cannot edit without touching something else is a problem with a position, and stays as it is.

mod change;
mod check;
mod diff;
mod edit;
mod facts;
mod object;
mod pods;
mod problem;
mod relevant;
mod render;
mod setting;
mod wrong_type;
mod yaml;

pub use check::{Check, Checked, Finding, IGNORE_ANNOTATION, Place, Rule, Selected, Services, Severity, UnknownRule};
pub use edit::{rewritten, terminated};
pub use facts::Facts;
pub use object::{Object, objects};
pub use pods::{Subject, subjects};
pub use problem::{Lines, Position, Problem};
pub use render::{Note, Rendered, render};
pub use yaml::{Document, Manifest, Step};
