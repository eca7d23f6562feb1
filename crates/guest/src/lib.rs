//! What we put inside the agent's container: one small static binary, `bottle-guest`.
//!
//! * [`relay`] stands between the agent's user and root's ssh-agent. Its [`filter`] lets the
//!   agent list keys and sign, and nothing else: no key is removed, added or locked, and no
//!   provider library is loaded.
//! * [`seal`] takes the default routes away, so that a direct connection to the outside fails
//!   at once instead of hanging. It also checks from inside the agent's container that none is left.
//! * [`connect`] joins stdin and stdout to a TCP port, as OpenSSH's `ProxyCommand` needs it.
//! * [`idle`] is the container's first process where the image has nothing better.
//!
//! Nothing here holds a secret: a relay carries signatures, never keys.

#![forbid(unsafe_code)]

pub mod address;
pub mod agent_message;
pub mod carry;
pub mod cli;
pub mod connect;
pub mod filter;
pub mod idle;
pub mod listener;
pub mod note;
pub mod relay;
pub mod route_table;
pub mod rtnetlink;
pub mod seal;
pub mod signals;
