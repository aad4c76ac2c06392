//! What an event of the epoll is about, and the number in it.

use rustix::event::epoll::EventData;

/// What an event is about.
pub(super) enum Token {
    /// A request has come to a listener.
    Listener(usize),
    /// Something has come to a transfer's port.
    Transfer(usize),
    /// Something has come to the port of a transfer that is over.
    Gone(usize),
    /// The transfer that runs apart has ended.
    Apart,
    /// A listener comes or goes.
    Doors,
}

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        let (kind, number) = match token {
            Token::Transfer(number) => (0, number),
            Token::Listener(index) => (1, index),
            Token::Gone(number) => (2, number),
            Token::Apart => (3, 0),
            Token::Doors => (3, 1),
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
            _ => Self::Doors,
        }
    }
}
