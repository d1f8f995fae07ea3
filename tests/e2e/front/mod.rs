//! What stands in front of the gate: load balancers that name their clients, and proxies that end
//! TLS.

mod behind;
mod proxy_protocol;
