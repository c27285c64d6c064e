//! What a transport decides without knowing whose bytes it carries.

mod datagram_queue;
mod flow_control;
mod write_queue;

pub use datagram_queue::{Datagram, DatagramQueue};
pub use flow_control::{FlowControl, FlowSignal};
pub use write_queue::WriteQueue;
