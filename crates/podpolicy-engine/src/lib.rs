//! The decisions of PodPolicy: policies and facts make a [`Program`]; a program and a pod make an [`Outcome`].
//!
//! Everything here is pure: no I/O, no async, no clock, no environment, no client. The same inputs always give the same
//! outcome, in whatever order they arrive, so that the controller, admission and the command line agree. A user's mistake is
//! data in an outcome, never an error.

mod audit;
mod container;
mod creation;
mod decide;
mod facts;
mod field;
mod glob;
mod impact;
mod index;
pub mod kubernetes;
mod metadata;
mod outcome;
mod pod;
mod policy;
mod probe;
mod program;
mod record;
mod refusal;
mod residue;
mod running;
mod selector;
mod support;

pub use creation::{Creation, Omitted, Setting};
pub use facts::{KUBERNETES_NAMESPACES, NamespaceFacts, Settings};
pub use field::{Field, HookKind, ProbeKind, STOP_SIGNAL, Value};
pub use glob::is_glob;
pub use impact::{NAME_LABEL, Reach, Reader, SelectorUse, selector_use};
pub use outcome::{Conflict, FieldOutcome, Finding, MetadataPlan, Outcome, PodState, Source, Verdict};
pub use pod::{Container, ContainerKind, Life, OperatingSystem, Owner, Pod, PodTemplate};
pub use policy::{ANNOTATIONS_LIMIT, Exec, Policy, PolicyId, PolicyKind};
pub use probe::defaulted;
pub use program::Program;
pub use record::{CreatedEntry, Entry, Record};
pub use residue::{
    Place, Remaining, RemainingAnnotation, RemainingHook, RemainingLabel, RemainingProbe, RemainingSetting, RemainingSignal,
};
pub use running::{Running, Trouble};
pub use selector::Selector;
pub use support::{Feature, Support};
