//! What a client may rely on, trap by trap: where a gateway in front of a cluster could give itself away,
//! lose a reply or answer something else than one plain server does.

mod blocking;
mod client_state;
mod clients;
mod face;
mod fairness;
mod feed;
mod keyspace;
mod order;
mod protocol;
mod pubsub;
mod relay;
mod scripts;
mod server;
mod tracking;
mod transactions;
mod wait;
mod watches;
