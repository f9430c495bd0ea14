//! The core between clients and nodes that live in memory: every order of events can be played through,
//! and whatever the core wants done outside is done here as the worker does it.

mod bounds;
mod cases;
mod changes;
mod channels;
mod clean;
mod cluster;
mod errands;
mod exclusive;
mod large;
mod order;
mod pieces;
mod scripts;
mod steps;
mod values;
mod watched;
mod world;

pub use world::World;
