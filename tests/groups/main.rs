//! The machine of groups, in virtual time: scenarios that are data, random histories, crowds.

mod histories;
mod scenarios;
mod world;
