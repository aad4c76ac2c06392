//! Any bytes of a connection: a request is where it says, and its body is the same one however the bytes come. The first
//! byte is the length of the pieces that they come in.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run http_request --fuzz-dir tests/fuzz tests/fuzz/seeds/http_request -- -max_len=1500`

#![no_main]

use libfuzzer_sys::fuzz_target;
use netbootd::http::request::{Body, Framing, Head, Wrong};

fuzz_target!(|data: &[u8]| {
    let Some((piece, bytes)) = data.split_first() else { return };
    let Ok(Some((head, length))) = Head::parse(bytes) else { return };
    assert!(length <= bytes.len());
    let (head_alone, rest) = bytes.split_at(length);
    assert!(head_alone.ends_with(b"\n"));
    let whole = taken(head.framing, &[rest]);
    let pieces: Vec<&[u8]> = rest.chunks(usize::from(*piece).max(1)).collect();
    let in_pieces = taken(head.framing, &pieces);
    match (&whole, &in_pieces) {
        (Ok(Some(one)), Ok(Some(other))) => assert_eq!(one, other),
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        _ => panic!("{whole:?} and {in_pieces:?}"),
    }
    if let Ok(Some(body)) = whole {
        assert!(body.len() <= MOST);
        assert!(head.framing == Framing::Chunked || head.framing == Framing::Length(body.len() as u64));
    }
});

/// The body, where it is whole.
fn taken(framing: Framing, parts: &[&[u8]]) -> Result<Option<Vec<u8>>, Wrong> {
    let (mut body, mut received) = (Body::new(framing), Vec::new());
    // A request without a body has it whole before more is read.
    for part in std::iter::once(&[].as_slice()).chain(parts) {
        received.extend_from_slice(part);
        if let Some(body) = body.take(&mut received, MOST)? {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// Bytes.
const MOST: usize = 500;
