//! The control thread: requests of gateways over the control socket.

use std::os::fd::AsFd as _;
use std::time::Duration;

use qlink_io::clock;
use qlink_io::seqpacket::{SeqConn, SeqListener};
use qlink_io::wait::wait;
use qlink_pfcp::{Answer, Cause, MAX_MESSAGE_BYTES, Refusal, decode_request, encode_answer};

use crate::control::Control;
use crate::process::{DataplaneError, IDLE};

/// Most control connections at once.
const CONNECTIONS_MAX: usize = 16;

/// Answers requests until told to stop.
pub(crate) fn serve(
    listener: &SeqListener,
    control: &mut Control,
    stopped: &impl Fn() -> bool,
) -> Result<(), DataplaneError> {
    let mut connections: Vec<SeqConn> = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    while !stopped() {
        let ready = {
            let mut descriptors = vec![listener.as_fd()];
            descriptors.extend(connections.iter().map(SeqConn::as_fd));
            wait(&descriptors, Some(IDLE))?
        };
        let mut number = 0_usize;
        connections.retain(|connection| {
            number = number.saturating_add(1);
            !ready.is_ready(number) || exchange(connection, control, &mut buffer)
        });
        if ready.is_ready(0)
            && connections.len() < CONNECTIONS_MAX
            && let Some(connection) = listener.accept(Some(Duration::ZERO))?
        {
            connections.push(connection);
        }
    }
    Ok(())
}

/// Reads one message and answers it; `false` when the connection is over.
fn exchange(connection: &SeqConn, control: &mut Control, buffer: &mut [u8]) -> bool {
    let length = match connection.recv(buffer, Some(Duration::ZERO)) {
        Ok(Some(length)) => length,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let message = buffer.get(..length).unwrap_or_default();
    let (sequence, answer) = match decode_request(message) {
        Ok((sequence, request)) => (sequence, control.answer(request, clock::now_ns())),
        Err(error) => {
            let refusal = Refusal::new(Cause::Malformed, &error.to_string());
            (sequence_of(message), Answer::Refused { refusal })
        }
    };
    match encode_answer(sequence, &answer) {
        Ok(bytes) => connection.send(&bytes).is_ok(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            false
        }
    }
}

/// Sequence number of a message that is otherwise not understood; 0 when it is too short.
fn sequence_of(message: &[u8]) -> u32 {
    let number = message.get(2..6).and_then(|bytes| bytes.first_chunk::<4>());
    number.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
