//! What a decision looked at, in a form that can be written down and judged again under another
//! configuration.
//!
//! [`Facts::of`] takes what was looked at; [`judge()`] walks the same steps as a request does, with
//! the same functions ([`super::route()`], the credential, proof, time, binding and rights), over
//! what was recorded. It gives a [`Judgement`] and never an [`super::Authorized`]: what is judged
//! here has no body and no token, and nothing can be sent on. What a rule would look at and the
//! facts do not hold makes the judgement [`Judgement::Unknown`], unless the request is refused
//! however that may be.

mod claims;
mod facts;
mod head;
mod judge;
mod peer;

pub use claims::ClaimFacts;
pub use facts::{
    BodyFacts, CertificateFacts, Decided, Facts, PeerFacts, Private, RequestFacts, Seen,
    TokenFacts, claims_looked_at,
};
pub use head::{CredentialFact, Form};
pub use judge::{Judged, Judgement, Recorded, judge};
