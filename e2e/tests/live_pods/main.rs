//! What policies do to pods that run, on a real API server: labels and annotations arrive, drift is mended, everything can be taken
//! back, and neither races nor faults change that.

mod admission;
mod arrival;
mod conflict;
mod drift;
mod faults;
mod races;
mod restart;
mod scope;
mod undo;
