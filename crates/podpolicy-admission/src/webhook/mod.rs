//! The webhook.
#![allow(missing_docs, dead_code)]
mod certificate;
mod review;
mod safety;
mod validity;
mod warnings;
