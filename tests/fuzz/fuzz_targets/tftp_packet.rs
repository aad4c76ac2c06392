//! Any datagram on a TFTP port: read, and what is made of it is answered in packets that hold together.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run tftp_packet --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use libfuzzer_sys::fuzz_target;
use netbootd::{
    files::names::spellings,
    tftp::packet::{ErrorCode, Packet, error},
};

fuzz_target!(|datagram: &[u8]| {
    match Packet::parse(datagram) {
        Ok(Packet::Read(request)) => {
            assert!(!request.filename.is_empty() && !request.filename.contains(&0));
            assert!(request.block_size.is_none_or(|size| (8..=65_464).contains(&size)));
            assert!(request.window_size != Some(0) && request.timeout != Some(0));
            assert!(!request.mode.bytes().any(|byte| byte.is_ascii_uppercase()));
            assert_eq!(spellings(&request.filename).next(), Some(request.filename.as_slice()));
            assert!(spellings(&request.filename).all(|name| !name.is_empty() && name.len() <= request.filename.len()));
        }
        Ok(Packet::Error { message, .. }) => assert!(!message.contains(char::is_control)),
        Ok(_) => assert!(datagram.len() >= 2),
        // What a client is told is one string, whatever it sent.
        Err(why) => {
            let packet = error(ErrorCode::IllegalOperation, &why.to_string());
            assert!(
                packet.starts_with(&[0, 5, 0, 4])
                    && packet.iter().skip(4).position(|b| *b == 0) == Some(packet.len() - 5)
            );
        }
    }
});
