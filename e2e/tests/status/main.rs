//! What policies report, on a real API server, as people and their tools read it.

mod conditions;
mod counts;
mod kubectl;
mod stillness;
mod unsound;
