//! Tests of the room over loopback, with certificates made on the spot.

mod facts;
mod files;
mod front;
mod greeting;
mod pki;
mod resumption;
mod standing;
mod table;
