//! One verb, one file: the sequence of what happens, as prose. Verbs take what was meant, not what
//! was typed, and return what was done; they print nothing.

pub mod account;
pub mod archive;
pub mod check;
pub mod demo;
pub mod diff;
pub mod export;
pub mod facts;
pub mod import;
pub mod inspect;
pub mod key;
pub mod license;
pub mod output;
pub mod places;
pub mod promotion;
pub mod receipt;
pub mod record;
pub mod sbom;
pub mod serve;
pub mod sign;
pub mod site;
pub mod slice;
pub mod sparse;
pub mod store;
pub mod trust;
pub mod verify;
