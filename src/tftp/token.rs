//! The kind of an epoll event, and the number in it.

use rustix::event::epoll::EventData;

/// The kind of an event.
pub(super) enum Token {
    /// A listener has a request.
    Listener(usize),
    /// A port of a transfer has a packet.
    Transfer(usize),
    /// A port of a transfer that was given up has a packet.
    Gone(usize),
    /// The transfer in the other thread has ended.
    Apart,
    /// A listener was added or removed.
    Doors,
    /// A request that waited need not wait any more.
    Held,
}

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        let (kind, number) = match token {
            Token::Transfer(number) => (0, number),
            Token::Listener(index) => (1, index),
            Token::Gone(number) => (2, number),
            Token::Apart => (3, 0),
            Token::Doors => (3, 1),
            Token::Held => (3, 2),
        };
        Self::new_u64((number as u64) << 2 | kind)
    }
}

impl From<EventData> for Token {
    fn from(data: EventData) -> Self {
        let number = usize::try_from(data.u64() >> 2).unwrap_or(usize::MAX);
        match (data.u64() & 3, number) {
            (0, _) => Self::Transfer(number),
            (1, _) => Self::Listener(number),
            (2, _) => Self::Gone(number),
            (_, 0) => Self::Apart,
            (_, 1) => Self::Doors,
            _ => Self::Held,
        }
    }
}
