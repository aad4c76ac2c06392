//! TFTP packets (RFC 1350, options of RFC 2347, 2348, 2349, 7440).

use super::asker::Program;
use crate::boot::reason::Reason;

/// The packets that a client can send to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// RRQ.
    Read(ReadRequest),
    /// WRQ.
    Write,
    /// ACK of a block, by the low 16 bits of its number.
    Ack(u16),
    /// ERROR: the peer ends the transfer.
    Error {
        /// RFC 1350 §5, RFC 2347.
        code: u16,
        /// The text, as far as it is UTF-8.
        message: String,
    },
    /// DATA or OACK, which only servers send.
    Other(u16),
}

/// RRQ with the known options. Unknown options and options out of range are ignored, which says to the client that they
/// do not apply (RFC 2347 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The name as it was sent: any bytes except NUL.
    pub filename: Vec<u8>,
    /// Lower case.
    pub mode: String,
    /// `blksize`: 8 to 65,464 bytes (RFC 2348).
    pub block_size: Option<u16>,
    /// `windowsize`: blocks (RFC 7440).
    pub window_size: Option<u16>,
    /// `timeout`: seconds until we repeat (RFC 2349).
    pub timeout: Option<u8>,
    /// `tsize`: the client asks for the size.
    pub wants_size: bool,
    /// The program that asks, detected by its options.
    pub program: Program,
    /// `netbootd doctor` asks, which boots nothing. Other servers ignore its option.
    pub is_look: bool,
}

impl Packet {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Reason::MalformedTftp`].
    pub fn parse(datagram: &[u8]) -> Result<Self, Reason> {
        let (opcode, rest) = datagram.split_first_chunk().ok_or(Reason::MalformedTftp("it has no opcode"))?;
        let number = || rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        match u16::from_be_bytes(*opcode) {
            1 => ReadRequest::parse(rest).map(Self::Read),
            2 => Ok(Self::Write),
            4 => number().map(Self::Ack).ok_or(Reason::MalformedTftp("ACK without a block number")),
            5 => Ok(Self::Error {
                code: number().ok_or(Reason::MalformedTftp("ERROR without a code"))?,
                message: words(rest.get(2..).unwrap_or_default()),
            }),
            other @ (3 | 6) => Ok(Self::Other(other)),
            _ => Err(Reason::MalformedTftp("the opcode is unknown")),
        }
    }
}

impl ReadRequest {
    fn parse(rest: &[u8]) -> Result<Self, Reason> {
        // Some ROMs omit the NUL of the last string. The request is still clear.
        let mut strings = rest.strip_suffix(b"\0").unwrap_or(rest).split(|byte| *byte == 0);
        let filename =
            strings.next().filter(|name| !name.is_empty()).ok_or(Reason::MalformedTftp("RRQ without a name"))?;
        let mode = strings.next().ok_or(Reason::MalformedTftp("RRQ without a mode"))?;
        let mut request = Self {
            filename: filename.to_vec(),
            mode: words(mode).to_ascii_lowercase(),
            block_size: None,
            window_size: None,
            timeout: None,
            wants_size: false,
            program: Program::default(),
            is_look: false,
        };
        let mut options: Vec<(Vec<u8>, &[u8])> = Vec::new();
        while let (Some(name), Some(value)) = (strings.next(), strings.next())
            && options.len() < MOST_OPTIONS
        {
            let name = name.to_ascii_lowercase();
            // An option may appear only once (RFC 2347 §2). A second one is ignored.
            if !options.iter().any(|(known, _)| *known == name) {
                request.option(&name, value);
                options.push((name, value));
            }
        }
        request.program = Program::of(&options);
        Ok(request)
    }

    /// A value below the range is ignored and left out of the OACK (RFC 2347 §3). A value above the range becomes the
    /// largest one, as RFC 2348 and 7440 allow. Without this, a client that asks for too much would get blocks of 512
    /// bytes, one at a time. A timeout is accepted unchanged or not at all (RFC 2349).
    fn option(&mut self, name: &[u8], value: &[u8]) {
        let Some(value) = number(value) else { return };
        let from = |least: u16, most: u16| (value >= u64::from(least)).then(|| capped(value).min(most));
        match name {
            b"blksize" => self.block_size = from(8, 65_464),
            b"windowsize" => self.window_size = from(1, u16::MAX),
            b"timeout" => self.timeout = u8::try_from(value).ok().filter(|seconds| *seconds >= 1),
            // In a request the value is 0 (RFC 2349). A client that sends another value wants to know the size too.
            b"tsize" => self.wants_size = true,
            LOOK => self.is_look = true,
            _ => {}
        }
    }
}

/// The option by which `netbootd doctor` says that it boots nothing.
pub const LOOK: &[u8] = b"netbootd-look";

/// A decimal number of any length.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let value = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(*digit - b'0'));
    is_number.then(|| digits.iter().fold(0, value))
}

fn capped(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Options of one request. All RFCs together have six, and each one is compared with those before it.
const MOST_OPTIONS: usize = 16;

/// At most 128 characters of a client's text.
fn words(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// ERROR codes that a read-only server sends (RFC 1350 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// The server's own error; see the message.
    NotDefined = 0,
    /// File not found.
    FileNotFound = 1,
    /// Access violation.
    AccessViolation = 2,
    /// Illegal TFTP operation.
    IllegalOperation = 4,
    /// Unknown transfer ID: this port belongs to another client's transfer.
    UnknownTransferId = 5,
}

/// An ERROR packet.
#[must_use]
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5];
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend(message.bytes().filter(|byte| *byte != 0).take(400));
    packet.push(0);
    packet
}

/// An OACK packet.
#[must_use]
pub fn option_ack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = vec![0, 6];
    for (name, value) in options {
        packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    packet
}

/// Adds the header of a DATA packet. The block number has 16 bits and goes from 65,535 to 0, as iPXE and EDK2 expect
/// for large files.
pub fn data_header(block: u64, packet: &mut Vec<u8>) {
    packet.extend_from_slice(&[0, 3]);
    let [.., high, low] = block.to_be_bytes();
    packet.extend_from_slice(&[high, low]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_read_with_its_valid_options() {
        let request = |bytes: &[u8]| Packet::parse(bytes);
        let plain = ReadRequest {
            filename: b"a".to_vec(),
            mode: "octet".into(),
            block_size: None,
            window_size: None,
            timeout: None,
            wants_size: false,
            program: Program::Other,
            is_look: false,
        };
        assert_eq!(request(b"\0\x01a\0OcTet\0"), Ok(Packet::Read(plain.clone())));
        // EDK2's second request.
        assert_eq!(
            request(b"\0\x01a\0octet\0blksize\x001468\0windowsize\x004\0"),
            Ok(Packet::Read(ReadRequest {
                block_size: Some(1468),
                window_size: Some(4),
                program: Program::Edk2,
                is_look: false,
                ..plain.clone()
            }))
        );
        assert_eq!(
            request(b"\0\x01a\0octet\0TSIZE\x000\0timeout\x003\0multicast\0\0"),
            Ok(Packet::Read(ReadRequest { wants_size: true, timeout: Some(3), ..plain.clone() }))
        );
        // Out of range, not a number, without a value, without the last NUL.
        for bytes in [
            b"\0\x01a\0octet\0blksize\x007\0windowsize\x000\0timeout\x00256\0".as_slice(),
            b"\0\x01a\0octet\0blksize\x00-1\0tsize\0x\0",
            b"\0\x01a\0octet\0blksize\x00+1468\0tsize\x00 0\0",
            b"\0\x01a\0octet\0blksize\0",
            b"\0\x01a\0octet",
        ] {
            assert_eq!(request(bytes), Ok(Packet::Read(plain.clone())), "{bytes:?}");
        }
        for bytes in [b"".as_slice(), b"\0", b"\0\x01", b"\0\x01\0octet\0", b"\0\x01a", b"\0\x09"] {
            assert!(matches!(request(bytes), Err(Reason::MalformedTftp(_))), "{bytes:?}");
        }
    }

    #[test]
    fn too_large_values_become_the_maximum_and_repeated_options_are_ignored() {
        let options = |bytes: &[u8]| match Packet::parse(bytes) {
            Ok(Packet::Read(r)) => (r.block_size, r.window_size, r.timeout, r.wants_size),
            other => panic!("{other:?}"),
        };
        let most = (Some(65_464), Some(65_535), None, false);
        assert_eq!(options(b"\0\x01a\0octet\0blksize\x0065465\0windowsize\x0065536\0timeout\x00256\0"), most);
        let long = b"\0\x01a\0octet\0blksize\x0099999999999999999999999\0windowsize\x00123456789012345678901\0";
        assert_eq!(options(long), most);
        let twice = b"\0\x01a\0octet\0blksize\x001468\0BLKSIZE\x00512\0timeout\x000\0timeout\x003\0tsize\x0099\0";
        assert_eq!(options(twice), (Some(1468), None, None, true));
    }

    #[test]
    fn packets_are_these_bytes() {
        assert_eq!(Packet::parse(b"\0\x04\x12\x34"), Ok(Packet::Ack(0x1234)));
        assert_eq!(
            Packet::parse(b"\0\x05\0\x08User aborted the transfer\0"),
            Ok(Packet::Error { code: 8, message: "User aborted the transfer".into() })
        );
        assert_eq!(error(ErrorCode::FileNotFound, "no"), b"\0\x05\0\x01no\0");
        assert_eq!(option_ack(&[("tsize", 7), ("blksize", 1468)]), b"\0\x06tsize\x007\0blksize\x001468\0");
        let mut packet = Vec::new();
        data_header(65_536, &mut packet);
        assert_eq!(packet, b"\0\x03\0\0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_have_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::parse(&bytes);
        }
    }
}
